//! Access to guest RAM by GPA.
//!
//! On the guest it is a window in VM's address space, in tests a vector. Only frames that the frame
//! allocator manages, and the boot image, are ever named.

use refault_abi::layout::PAGE;

/// Guest RAM by GPA.
pub trait Ram {
    /// The aligned word at `gpa`.
    fn word(&self, gpa: u64) -> u64;
    /// Stores an aligned word.
    fn set_word(&mut self, gpa: u64, value: u64);
    /// Fills `[gpa, gpa + bytes)`, inside one page, with zeros.
    fn zero(&mut self, gpa: u64, bytes: u64);
    /// Copies the page at `from` to the page at `to`.
    fn copy_page(&mut self, from: u64, to: u64);
    /// Stores `bytes` at `gpa`, inside one page.
    fn write(&mut self, gpa: u64, bytes: &[u8]);
    /// Fills `bytes` from `gpa`, inside one page.
    fn read(&self, gpa: u64, bytes: &mut [u8]);

    /// Fills a page with zeros.
    fn zero_page(&mut self, gpa: u64) {
        self.zero(gpa, PAGE);
    }
}

#[cfg(test)]
pub(crate) mod test {
    use std::vec::Vec;

    use super::*;

    /// RAM from GPA 0 on.
    pub(crate) struct VecRam(pub Vec<u8>);

    impl VecRam {
        pub(crate) fn new(pages: usize) -> VecRam {
            // Not zero, so that whoever forgets to clear a page is found out.
            VecRam(std::vec![0xaa; pages * PAGE as usize])
        }

        pub(crate) fn bytes(&self, gpa: u64, count: usize) -> &[u8] {
            &self.0[gpa as usize..gpa as usize + count]
        }
    }

    impl Ram for VecRam {
        fn word(&self, gpa: u64) -> u64 {
            u64::from_le_bytes(self.bytes(gpa, 8).try_into().unwrap())
        }
        fn set_word(&mut self, gpa: u64, value: u64) {
            self.write(gpa, &value.to_le_bytes());
        }
        fn zero(&mut self, gpa: u64, bytes: u64) {
            assert!(gpa % PAGE + bytes <= PAGE);
            self.0[gpa as usize..(gpa + bytes) as usize].fill(0);
        }
        fn copy_page(&mut self, from: u64, to: u64) {
            assert!(from.is_multiple_of(PAGE) && to.is_multiple_of(PAGE));
            self.0.copy_within(from as usize..(from + PAGE) as usize, to as usize);
        }
        fn read(&self, gpa: u64, bytes: &mut [u8]) {
            assert!(gpa % PAGE + bytes.len() as u64 <= PAGE);
            bytes.copy_from_slice(self.bytes(gpa, bytes.len()));
        }
        fn write(&mut self, gpa: u64, bytes: &[u8]) {
            assert!(gpa % PAGE + bytes.len() as u64 <= PAGE);
            self.0[gpa as usize..gpa as usize + bytes.len()].copy_from_slice(bytes);
        }
    }
}
