//! Static ELF programs: what goes where.
//!
//! Only what the linker script of the guest's programs makes is accepted: ELF64, x86-64, EXEC, segments that
//! do not share pages, in the part of the address space that is for programs. Only the beginning of the file is looked at: what
//! the segments hold may not be there yet.

use alloc::vec::Vec;

use refault_abi::layout::{MMAP_START, PAGE, TEXT, page_ceil, page_floor};
use refault_abi::vm::{PROT_EXEC, PROT_READ, PROT_WRITE};

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub address: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Where in the file its contents are.
    pub offset: u64,
    /// How many bytes of it are in the file; the rest is zeros.
    pub in_file: u64,
    /// PROT bits.
    pub protection: u32,
}

impl Segment {
    /// First page.
    pub const fn start(&self) -> u64 {
        page_floor(self.address)
    }

    /// First page behind it.
    pub const fn end(&self) -> u64 {
        page_ceil(self.address.saturating_add(self.bytes))
    }

    /// First page behind what comes from the file.
    pub const fn file_end(&self) -> u64 {
        if self.in_file == 0 { self.start() } else { page_ceil(self.address.saturating_add(self.in_file)) }
    }

    /// Whether the file's pages can be its pages.
    pub const fn is_congruent(&self) -> bool {
        self.in_file == 0 || self.address % PAGE == self.offset % PAGE
    }

    /// Its contents in `file`.
    pub fn data<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        file.get(start..start.checked_add(usize::try_from(self.in_file).ok()?)?)
    }
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// First instruction.
    pub entry: u64,
    /// Its segments, in ascending order.
    pub segments: Vec<Segment>,
}

/// Most segments.
const MAX_SEGMENTS: usize = 16;
/// Bytes of a program header.
const PROGRAM_HEADER: usize = 56;

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn half(file: &[u8], at: usize) -> Option<u16> {
    bytes_at(file, at).map(u16::from_le_bytes)
}

fn word(file: &[u8], at: usize) -> Option<u32> {
    bytes_at(file, at).map(u32::from_le_bytes)
}

fn long(file: &[u8], at: usize) -> Option<u64> {
    bytes_at(file, at).map(u64::from_le_bytes)
}

/// Reads a program of which everything is there; `None` when it is not one this system can run.
pub fn parse(file: &[u8]) -> Option<Program> {
    parse_head(file, file.len() as u64)
}

/// Reads a program of `size` bytes whose headers are in `file`, its beginning.
pub fn parse_head(file: &[u8], size: u64) -> Option<Program> {
    // Class 64, little endian, version 1; type EXEC; machine x86-64.
    if file.get(..7)? != b"\x7fELF\x02\x01\x01" || half(file, 16)? != 2 || half(file, 18)? != 62 {
        return None;
    }
    let entry = long(file, 24)?;
    let headers = usize::try_from(long(file, 32)?).ok()?;
    if usize::from(half(file, 54)?) != PROGRAM_HEADER {
        return None;
    }
    let mut segments: Vec<Segment> = Vec::new();
    for index in 0..usize::from(half(file, 56)?) {
        let header = headers.checked_add(index.checked_mul(PROGRAM_HEADER)?)?;
        const LOAD: u32 = 1;
        if word(file, header)? == LOAD {
            let segment = segment(file, header, size)?;
            if segment.bytes == 0 {
                continue;
            }
            let follows = segments.last().is_none_or(|last| last.end() <= segment.start());
            if !follows || segments.len() >= MAX_SEGMENTS {
                return None;
            }
            segments.push(segment);
        }
    }
    let executable = |segment: &Segment| {
        segment.protection & PROT_EXEC != 0
            && (segment.address..segment.address + segment.bytes).contains(&entry)
    };
    segments.iter().any(executable).then_some(Program { entry, segments })
}

/// Reads the program header at `header`.
fn segment(file: &[u8], header: usize, size: u64) -> Option<Segment> {
    let flags = word(file, header.checked_add(4)?)?;
    let offset = long(file, header.checked_add(8)?)?;
    let address = long(file, header.checked_add(16)?)?;
    let in_file = long(file, header.checked_add(32)?)?;
    let bytes = long(file, header.checked_add(40)?)?;
    let end = address.checked_add(bytes)?;
    let inside = address >= TEXT && end <= MMAP_START - PAGE;
    if !inside || in_file > bytes || offset.checked_add(in_file)? > size {
        return None;
    }
    let mut protection = 0;
    for (flag, bit) in [(4, PROT_READ), (2, PROT_WRITE), (1, PROT_EXEC)] {
        if flags & flag != 0 {
            protection |= bit;
        }
    }
    Some(Segment { address, bytes, offset, in_file, protection })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
pub(crate) mod tests;
