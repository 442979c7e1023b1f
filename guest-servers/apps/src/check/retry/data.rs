//! READ and WRITE of a regular file.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::pattern::{self, FILE_A, FILE_B};
use refault_abi::vfs::{O_CREAT, O_RDONLY, O_RDWR};
use refault_rt::user::{self, Descriptor};

use super::super::buffer::{Buffer, Mapped};
use super::super::case::{Complaint, Verdict};
use super::super::suite::Explain;
use super::{Operation, Shape, put_before, put_position};

/// Odd, so that pages of the file and of the buffer never meet.
pub const START: u64 = 1001;
/// Five pages and a bit.
pub const BYTES: u64 = 5 * PAGE + 77;
/// Pattern of what was in a file before it was written.
pub const BEFORE: u32 = 0x77;

/// READ of `/b.bin` into a mapping of `/a.bin`.
#[derive(Debug)]
pub struct Read {
    descriptor: Descriptor,
    mapped: Mapped,
}

impl Read {
    /// Opens the files.
    pub fn new() -> Result<Read, String> {
        let descriptor = user::open("/b.bin", O_RDONLY, 0).explain("/b.bin")?;
        Ok(Read { descriptor, mapped: Mapped::pattern("/a.bin", FILE_A)? })
    }
}

/// Complains about the first byte of a buffer that is not the pattern's.
pub fn check_pattern(what: &str, id: u32, offset: u64, bytes: &[u8]) -> Result<(), Complaint> {
    let right = pattern::matching_prefix(id, offset, bytes);
    if right == bytes.len() {
        return Ok(());
    }
    let text = format!("{what}: byte {right} of {} is wrong", bytes.len());
    Err(Complaint::of(Verdict::Corrupt, text))
}

/// Complains about the first difference.
pub fn check_equal(what: &str, seen: &[u8], wanted: &[u8]) -> Result<(), Complaint> {
    if seen == wanted {
        return Ok(());
    }
    let first = seen.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or(seen.len().min(wanted.len()));
    let text = format!("{what}: {} bytes for {}, first difference at {first}", seen.len(), wanted.len());
    Err(Complaint::of(Verdict::Corrupt, text))
}

impl Operation for Read {
    fn shape(&self) -> Shape {
        Shape {
            name: "READ",
            mapped: self.mapped,
            bytes: BYTES,
            moved: BYTES,
            answer: BYTES,
            writes_buffer: true,
            in_pieces: true,
        }
    }
    fn reset(&mut self) -> Result<(), String> {
        put_position(self.descriptor, START)
    }
    fn perform(&mut self, address: u64, bytes: u64) -> refault_abi::Result<u64> {
        // SAFETY: the range is a buffer's, or is not mapped at all.
        unsafe { user::read_raw(self.descriptor, address, bytes) }
    }
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint> {
        check_pattern("what was read", FILE_B, START, buffer.bytes())
    }
    fn position(&self) -> Option<(Descriptor, u64, u64)> {
        Some((self.descriptor, START, START + BYTES))
    }
}

/// WRITE to a scratch file from a mapping of `/a.bin`.
#[derive(Debug)]
pub struct Write {
    descriptor: Descriptor,
    mapped: Mapped,
}

impl Write {
    /// Makes the scratch file and opens the other.
    pub fn new() -> Result<Write, String> {
        let descriptor = user::open("/w.bin", O_RDWR | O_CREAT, 0o644).explain("/w.bin")?;
        Ok(Write { descriptor, mapped: Mapped::pattern("/a.bin", FILE_A)? })
    }

    /// What the file holds after [`Operation::reset`].
    fn before() -> Vec<u8> {
        let mut bytes = vec![0; (START + BYTES + PAGE) as usize];
        pattern::fill(BEFORE, 0, &mut bytes);
        bytes
    }

    fn contents(&self) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; Self::before().len() + 1];
        let count = user::pread(self.descriptor, &mut bytes, 0).explain("reading back")?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

impl Operation for Write {
    fn shape(&self) -> Shape {
        Shape {
            name: "WRITE",
            mapped: self.mapped,
            bytes: BYTES,
            moved: BYTES,
            answer: BYTES,
            writes_buffer: false,
            in_pieces: true,
        }
    }
    fn reset(&mut self) -> Result<(), String> {
        put_before(self.descriptor, 0, Self::before().len(), START)
    }
    fn perform(&mut self, address: u64, bytes: u64) -> refault_abi::Result<u64> {
        user::write_raw(self.descriptor, address, bytes)
    }
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint> {
        let mut wanted = Self::before();
        for (index, byte) in wanted.iter_mut().skip(START as usize).take(BYTES as usize).enumerate() {
            *byte = buffer.original(index as u64);
        }
        check_equal("the file", &self.contents()?, &wanted)
    }
    fn position(&self) -> Option<(Descriptor, u64, u64)> {
        Some((self.descriptor, START, START + BYTES))
    }
}
