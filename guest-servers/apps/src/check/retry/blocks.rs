//! BREAD and BWRITE: reading and writing the disk itself.
//!
//! What is read is compared with a read into memory that is there. What is written goes to the end of the disk, which no
//! file of the test disk has reached.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::pattern::FILE_A;
use refault_abi::vfs::{O_RDWR, SEEK_END};
use refault_rt::user::{self, Descriptor};

use super::super::buffer::{Buffer, Mapped};
use super::super::case::Complaint;
use super::super::suite::Explain;
use super::data::{BYTES, START, check_equal};
use super::{Operation, Shape, put_before, put_position};

/// The device.
pub const DISK: &str = "/dev/disk0";
/// How far before the end of the disk is written.
const TAIL: u64 = 16 * PAGE;
/// Bytes looked at: what a request moves, and around it.
const AROUND: usize = (BYTES + 2 * PAGE) as usize;

/// BREAD or BWRITE.
#[derive(Debug)]
pub struct Block {
    descriptor: Descriptor,
    mapped: Mapped,
    write: bool,
    start: u64,
    reference: Vec<u8>,
}

impl Block {
    /// Opens the disk.
    pub fn new(write: bool) -> Result<Block, String> {
        let descriptor = user::open(DISK, O_RDWR, 0).explain(DISK)?;
        let end = user::lseek(descriptor, 0, SEEK_END).explain("lseek to the end of the disk")?;
        // A file system that refuses reads does not tell the size either.
        crate::ensure!(end >= 2 * TAIL || !write, "the disk has {end} bytes");
        let start = if write { end - TAIL + START } else { START };
        Ok(Block {
            descriptor,
            mapped: Mapped::pattern("/a.bin", FILE_A)?,
            write,
            start,
            reference: Vec::new(),
        })
    }

    fn around(&self) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; AROUND];
        let from = self.start.saturating_sub(START);
        let count = user::pread(self.descriptor, &mut bytes, from).explain("reading the disk")?;
        crate::ensure!(count == bytes.len(), "reading the disk: {count} of {}", bytes.len());
        Ok(bytes)
    }
}

impl Operation for Block {
    fn shape(&self) -> Shape {
        Shape {
            name: if self.write { "BWRITE" } else { "BREAD" },
            mapped: self.mapped,
            bytes: BYTES,
            moved: BYTES,
            answer: BYTES,
            writes_buffer: !self.write,
            in_pieces: true,
        }
    }
    fn reset(&mut self) -> Result<(), String> {
        if self.write {
            put_before(self.descriptor, self.start - START, AROUND, self.start)?;
        }
        self.reference = self.around()?;
        self.rewind()
    }
    fn rewind(&mut self) -> Result<(), String> {
        put_position(self.descriptor, self.start)
    }
    fn perform(&mut self, address: u64, bytes: u64) -> refault_abi::Result<u64> {
        if self.write {
            user::write_raw(self.descriptor, address, bytes)
        } else {
            // SAFETY: the range is a buffer's, or is not mapped at all.
            unsafe { user::read_raw(self.descriptor, address, bytes) }
        }
    }
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint> {
        let range = START as usize..(START + BYTES) as usize;
        if !self.write {
            let wanted = self.reference.get(range).unwrap_or_default();
            return check_equal("what was read", buffer.bytes(), wanted);
        }
        let mut wanted = self.reference.clone();
        for (index, byte) in wanted.get_mut(range).unwrap_or_default().iter_mut().enumerate() {
            *byte = buffer.original(index as u64);
        }
        check_equal("the disk", &self.around()?, &wanted)
    }
    fn position(&self) -> Option<(Descriptor, u64, u64)> {
        Some((self.descriptor, self.start, self.start + BYTES))
    }
}
