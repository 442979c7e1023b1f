//! Loading an ELF kernel into guest RAM.
//!
//! `linux-loader` finds the PVH note and copies the segments; this file checks beforehand what it does
//! not tell apart, so that a wrong file is named for what it is: not an ELF, too large for the RAM, no
//! PVH note.
//!
//! The one thing to hold in mind: the file is the user's input and may be anything.

use std::io::Cursor;
use std::ops::Range;

use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::{Elf, PvhBootCapability};

use crate::layout::ONE_MIB;
use crate::memory::GuestRam;

/// Why a file cannot be booted as a kernel. The messages name no file; the caller knows its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Not an ELF file at all.
    #[error(
        "it is not an ELF file (it starts with {0:02x?}); a kernel for this VMM is an uncompressed x86-64 ELF with a PVH note, as `vmlinux` is"
    )]
    NotElf(Vec<u8>),
    /// An ELF file of another machine, class or byte order.
    #[error("it is an ELF file, but not a 64-bit little-endian x86-64 executable")]
    WrongElf,
    /// The program headers point outside the file.
    #[error("its program header {0} lies outside the file or is damaged; the file is probably truncated")]
    Truncated(usize),
    /// A segment has no place in RAM.
    #[error(
        "its segment at physical {start:#x}..{end:#x} does not fit the guest's RAM, which ends at {ram_end:#x}; give --mem a larger size"
    )]
    DoesNotFit {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// One past the last byte of RAM.
        ram_end: u64,
    },
    /// A segment in the low memory: an ordinary program, most likely.
    #[error(
        "its segment at physical {0:#x} lies in the first MiB, which is kept for boot data; a kernel for this VMM is linked at 1 MiB or above and has a PVH note, as `vmlinux` has, and an ordinary program is none"
    )]
    TooLow(u64),
    /// No loadable segment.
    #[error("it has no loadable segment")]
    Empty,
    /// No PVH entry point.
    #[error(
        "it has no PVH entry note (Xen note of type 18, XEN_ELFNOTE_PHYS32_ENTRY); for Linux, build with CONFIG_PVH=y"
    )]
    NoPvhNote,
    /// The entry point is not inside what was loaded.
    #[error("its PVH entry point {0:#x} is not inside any of its segments")]
    EntryOutside(u64),
    /// Anything else the loader did not like.
    #[error("it could not be loaded: {0}")]
    Loader(String),
}

/// A kernel in guest RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedKernel {
    /// Physical address of the 32-bit entry point.
    pub entry: u64,
    /// Physical ranges that the kernel occupies, its zero-initialised data included.
    pub occupied: Vec<Range<u64>>,
}

/// Loads `image` at the addresses its program headers ask for.
pub fn load(ram: &GuestRam, image: &[u8]) -> Result<LoadedKernel, KernelError> {
    let occupied = segments(image)?;
    if occupied.is_empty() {
        return Err(KernelError::Empty);
    }
    let ram_end = ram.low_end();
    if let Some(bad) = occupied.iter().find(|s| s.start < ONE_MIB) {
        return Err(KernelError::TooLow(bad.start));
    }
    if let Some(bad) = occupied.iter().find(|s| s.end > ram_end) {
        return Err(KernelError::DoesNotFit { start: bad.start, end: bad.end, ram_end });
    }
    let loaded = Elf::load(ram.device_view(), None, &mut Cursor::new(image), None)
        .map_err(|e| KernelError::Loader(e.to_string()))?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        return Err(KernelError::NoPvhNote);
    };
    if !occupied.iter().any(|s| s.contains(&entry.0)) {
        return Err(KernelError::EntryOutside(entry.0));
    }
    Ok(LoadedKernel { entry: entry.0, occupied })
}

/// The physical ranges of the loadable segments, each checked to have its bytes inside the file.
fn segments(image: &[u8]) -> Result<Vec<Range<u64>>, KernelError> {
    const CLASS_64_LITTLE_ENDIAN: [u8; 2] = [2, 1];
    const MACHINE_X86_64: u16 = 62;
    const PROGRAM_HEADER_SIZE: u64 = 56;
    const LOADABLE: u32 = 1;

    if image.get(..4) != Some(b"\x7fELF") {
        return Err(KernelError::NotElf(image.iter().take(4).copied().collect()));
    }
    if image.get(4..6) != Some(CLASS_64_LITTLE_ENDIAN.as_slice())
        || u16_at(image, 18) != Some(MACHINE_X86_64)
        || u16_at(image, 54).map(u64::from) != Some(PROGRAM_HEADER_SIZE)
    {
        return Err(KernelError::WrongElf);
    }
    let table = u64_at(image, 32).ok_or(KernelError::Truncated(0))?;
    let count = u16_at(image, 56).ok_or(KernelError::Truncated(0))?;
    let mut found = Vec::new();
    for index in 0..count {
        let one = || -> Option<Option<Range<u64>>> {
            let at = table.checked_add(u64::from(index) * PROGRAM_HEADER_SIZE)?;
            let header = image.get(usize::try_from(at).ok()?..)?.get(..PROGRAM_HEADER_SIZE as usize)?;
            let (offset, physical) = (u64_at(header, 8)?, u64_at(header, 24)?);
            let (in_file, in_memory) = (u64_at(header, 32)?, u64_at(header, 40)?);
            if u32_at(header, 0)? != LOADABLE {
                return Some(None);
            }
            if offset.checked_add(in_file)? > image.len() as u64 || in_file > in_memory {
                return None;
            }
            Some((in_memory > 0).then_some(physical..physical.checked_add(in_memory)?))
        };
        if let Some(range) = one().ok_or(KernelError::Truncated(usize::from(index)))? {
            found.push(range);
        }
    }
    Ok(found)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.get(..2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.get(..4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
