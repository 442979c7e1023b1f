//! A private writable mapping of a file, or anonymous memory, page by page.
//!
//! The one thing to hold in mind: reading or writing it may fault, and that is its purpose. All accesses are volatile and by
//! address; a slice over it exists only while nobody else (a read under way) may write it.

use refault_abi::layout::PAGE;
use refault_abi::vm::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use refault_rt::user::{Descriptor, mmap, munmap, read_raw, write_raw};
use refault_rt::{Errno, Result};

/// The mapping; gone when dropped.
#[derive(Debug)]
pub struct Mapping {
    address: u64,
    length: u64,
}

impl Mapping {
    /// Maps the first `length` bytes of a file; a multiple of the page size.
    pub fn of_file(descriptor: Descriptor, length: u64) -> Result<Mapping> {
        let address = mmap(length, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0)?;
        Ok(Mapping { address, length })
    }

    /// `length` bytes of anonymous memory, untouched; a multiple of the page size.
    pub fn anonymous(length: u64) -> Result<Mapping> {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        Ok(Mapping { address: mmap(length, PROT_READ | PROT_WRITE, flags, -1, 0)?, length })
    }

    /// Pages of it.
    pub const fn pages(&self) -> u64 {
        self.length / PAGE
    }

    /// Makes a page present and private without changing it: stores a byte that it has.
    pub fn touch(&mut self, page: u64) {
        if page < self.pages() {
            let byte = core::ptr::with_exposed_provenance_mut::<u8>((self.address + page * PAGE) as usize);
            // SAFETY: the address is in this mapping, which is readable and writable and has no other user.
            unsafe { byte.write_volatile(byte.read_volatile()) }
        }
    }

    /// Reads from a file into the mapping at `offset`.
    pub fn read(&mut self, descriptor: Descriptor, offset: u64, bytes: u64) -> Result<u64> {
        let end = offset.checked_add(bytes).ok_or(Errno::EINVAL)?;
        if end > self.length {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the range is in this mapping, which has no other user.
        unsafe { read_raw(descriptor, self.address + offset, bytes) }
    }

    /// Writes to a file from the mapping at `offset`.
    pub fn write(&self, descriptor: Descriptor, offset: u64, bytes: u64) -> Result<u64> {
        let end = offset.checked_add(bytes).ok_or(Errno::EINVAL)?;
        if end > self.length {
            return Err(Errno::EINVAL);
        }
        write_raw(descriptor, self.address + offset, bytes)
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance::<u8>(self.address as usize);
        // SAFETY: the mapping is readable, every byte of it is initialised by VM, by the file or by a read into it, and it does
        // not change while it is borrowed, because `read` and `touch` borrow it exclusively.
        unsafe { core::slice::from_raw_parts(start, self.length as usize) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the only references to the range are borrows of this value.
        // An error leaves address space taken, which the end of the program gives back.
        let _ = unsafe { munmap(self.address, self.length) };
    }
}
