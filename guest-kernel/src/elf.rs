//! The static ELF programs of the boot image: header and loadable segments, checked.
//!
//! The one thing to hold in mind: a segment that comes out of here is page aligned in file and memory, lies
//! inside the file and inside the user half's program area, and does not wrap. What is not here: mapping.

use refault_abi::layout::{MMAP_START, PAGE, TEXT};

/// Segments a program may have.
pub const MAX_SEGMENTS: usize = 8;

/// A loadable segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// First address, page aligned.
    pub address: u64,
    /// Offset of its first byte in the file, page aligned.
    pub offset: u64,
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Bytes in memory; what is beyond the file is zero.
    pub memory_bytes: u64,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
}

/// A program: where it starts and what it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// First instruction.
    pub entry: u64,
    /// Segments.
    pub segments: [Segment; MAX_SEGMENTS],
    /// Segments used.
    pub count: usize,
}

/// Why a file is not a program the kernel loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not a 64-bit little-endian x86-64 executable with a fixed address.
    Header,
    /// Program headers outside the file or of the wrong size.
    ProgramHeaders,
    /// A segment is not page aligned, wraps, or lies outside the file or the program area.
    Segment,
    /// More than [`MAX_SEGMENTS`] segments, or none.
    Count,
    /// The entry point lies in no executable segment.
    Entry,
}

impl Refused {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Refused::Header => "not a static x86-64 ELF executable",
            Refused::ProgramHeaders => "program headers outside the file",
            Refused::Segment => "a segment is misaligned or out of range",
            Refused::Count => "too many segments, or none",
            Refused::Entry => "entry point outside the executable segments",
        }
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |two| u16::from_le_bytes(*two))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// Reads the headers of `file`.
pub fn parse(file: &[u8]) -> Result<Program, Refused> {
    let header = file.first_chunk::<64>().ok_or(Refused::Header)?;
    let (kind, machine) = (u16_at(header, 16), u16_at(header, 18));
    // Class 64, little endian, version 1; ET_EXEC for x86-64.
    if !header.starts_with(b"\x7fELF\x02\x01\x01") || kind != 2 || machine != 62 {
        return Err(Refused::Header);
    }
    if u16_at(header, 54) != 56 {
        return Err(Refused::ProgramHeaders);
    }
    let first = usize::try_from(u64_at(header, 32)).map_err(|_| Refused::ProgramHeaders)?;
    let bytes = usize::from(u16_at(header, 56)) * 56;
    let end = first.checked_add(bytes).ok_or(Refused::ProgramHeaders)?;
    let table = file.get(first..end).ok_or(Refused::ProgramHeaders)?;
    let mut program =
        Program { entry: u64_at(header, 24), segments: [Segment::default(); MAX_SEGMENTS], count: 0 };
    for entry in table.chunks_exact(56) {
        // PT_LOAD with something in it.
        if u32_at(entry, 0) != 1 || u64_at(entry, 40) == 0 {
            continue;
        }
        let segment = segment(entry, file.len() as u64).ok_or(Refused::Segment)?;
        *program.segments.get_mut(program.count).ok_or(Refused::Count)? = segment;
        program.count += 1;
    }
    if program.count == 0 {
        return Err(Refused::Count);
    }
    let starts = |segment: &Segment| {
        segment.executable
            && program.entry.checked_sub(segment.address).is_some_and(|at| at < segment.file_bytes)
    };
    if program.segments.iter().any(starts) { Ok(program) } else { Err(Refused::Entry) }
}

fn segment(entry: &[u8], file_length: u64) -> Option<Segment> {
    let flags = u32_at(entry, 4);
    let (offset, address) = (u64_at(entry, 8), u64_at(entry, 16));
    let (file_bytes, memory_bytes) = (u64_at(entry, 32), u64_at(entry, 40));
    let in_file = offset.checked_add(file_bytes).is_some_and(|end| end <= file_length);
    let in_area = address.checked_add(memory_bytes).is_some_and(|end| end <= MMAP_START);
    let aligned = offset % PAGE == 0 && address % PAGE == 0;
    (in_file && in_area && aligned && address >= TEXT && file_bytes <= memory_bytes).then_some(Segment {
        address,
        offset,
        file_bytes,
        memory_bytes,
        writable: flags & 2 != 0,
        executable: flags & 1 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut file = vec![0u8; 0x2000];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16] = 2;
        file[18] = 62;
        file[24..32].copy_from_slice(&(TEXT + 0x10).to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        let entry = &mut file[64..120];
        entry[0] = 1;
        entry[4] = 5;
        entry[8..16].copy_from_slice(&0x1000u64.to_le_bytes());
        entry[16..24].copy_from_slice(&TEXT.to_le_bytes());
        entry[32..40].copy_from_slice(&0x800u64.to_le_bytes());
        entry[40..48].copy_from_slice(&0x3000u64.to_le_bytes());
        file
    }

    #[test]
    fn a_good_file() {
        let program = parse(&sample()).unwrap();
        assert_eq!((program.entry, program.count), (TEXT + 0x10, 1));
        let segment = program.segments[0];
        assert_eq!((segment.offset, segment.file_bytes, segment.memory_bytes), (0x1000, 0x800, 0x3000));
        assert!(segment.executable && !segment.writable);
    }

    #[test]
    fn bad_files_are_refused() {
        type Damage = fn(&mut Vec<u8>);
        let cases: [(Damage, Refused); 10] = [
            (|f| f.truncate(63), Refused::Header),
            (|f| f[1] = b'X', Refused::Header),
            (|f| f[16] = 3, Refused::Header),
            (|f| f[39] = 0x80, Refused::ProgramHeaders),
            (|f| f[57] = 0xff, Refused::ProgramHeaders),
            (|f| f[64] = 2, Refused::Count),
            (|f| f[64 + 8] = 1, Refused::Segment),
            (|f| f[64 + 39] = 0xff, Refused::Segment),
            (|f| f[64 + 47] = 0xff, Refused::Segment),
            (|f| f[24] = 0xff, Refused::Entry),
        ];
        for (index, (damage, refused)) in cases.into_iter().enumerate() {
            let mut file = sample();
            damage(&mut file);
            if refused == Refused::Entry {
                file[25] = 0xff;
            }
            assert_eq!(parse(&file), Err(refused), "case {index}");
        }
    }

    #[test]
    fn no_single_byte_makes_it_panic() {
        for at in 0..120 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = sample();
                file[at] = value;
                let _ = parse(&file);
            }
        }
    }
}
