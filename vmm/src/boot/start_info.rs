//! The PVH start information: what the guest kernel finds at the address in EBX.
//!
//! Memory map, command line, and the boot image as the only module. The one thing to hold in mind:
//! the guest must keep off these pages until it has read them; they lie in the low 640 KiB, which the
//! memory map reports as RAM, as the PVH specification has it.

use std::ops::Range;

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress};

use crate::layout::{
    COMMAND_LINE, COMMAND_LINE_MAX, LOW_RAM_END, MEMORY_MAP, MODULE_LIST, ONE_MIB, PAGE_SIZE, START_INFO,
};
use crate::memory::{GuestRam, ram_ranges};

const START_MAGIC: u32 = 0x336e_c578;
const TYPE_RAM: u32 = 1;
const TYPE_RESERVED: u32 = 2;

/// Why the boot data could not be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// The command line is too long.
    #[error("the kernel command line is {len} bytes long, the limit is {limit}; shorten --cmdline")]
    CommandLineTooLong {
        /// Its length.
        len: usize,
        /// The most that fits.
        limit: usize,
    },
    /// The command line contains a NUL.
    #[error("the kernel command line contains a NUL byte at {0}; remove it")]
    CommandLineNul(usize),
    /// No place for the boot image.
    #[error(
        "the boot image of {size} bytes does not fit beside the kernel in {ram} bytes of RAM; give --mem a larger size"
    )]
    ImageDoesNotFit {
        /// Its size.
        size: usize,
        /// Size of the low RAM.
        ram: u64,
    },
    /// Guest RAM refused the bytes: too small for the boot data.
    #[error("the boot data could not be written to guest RAM: {0}")]
    Write(String),
}

/// What the guest is told.
#[derive(Debug, Clone, Copy)]
pub struct BootData<'a> {
    /// Kernel command line, without NUL.
    pub command_line: &'a str,
    /// Boot image (the module), if there is one.
    pub image: Option<&'a [u8]>,
    /// Physical ranges the kernel occupies.
    pub kernel: &'a [Range<u64>],
}

/// Writes the boot data and returns the physical address for EBX.
pub fn write(ram: &GuestRam, data: BootData<'_>) -> Result<u64, BootError> {
    write_command_line(ram, data.command_line)?;
    let module = data.image.map(|image| place_image(ram, image, data.kernel)).transpose()?;
    let map = memory_map(ram.size());
    let info = hvm_start_info {
        magic: START_MAGIC,
        version: 1,
        nr_modules: u32::from(module.is_some()),
        modlist_paddr: if module.is_some() { MODULE_LIST } else { 0 },
        cmdline_paddr: COMMAND_LINE,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let mut params = BootParams::new(&info, GuestAddress(START_INFO));
    params.set_sections(&map, GuestAddress(MEMORY_MAP));
    if let Some(entry) = module {
        params.set_modules(&[entry], GuestAddress(MODULE_LIST));
    }
    PvhBootConfigurator::write_bootparams(&params, ram.device_view())
        .map_err(|e| BootError::Write(e.to_string()))?;
    Ok(START_INFO)
}

fn write_command_line(ram: &GuestRam, line: &str) -> Result<(), BootError> {
    if let Some(at) = line.bytes().position(|b| b == 0) {
        return Err(BootError::CommandLineNul(at));
    }
    if line.len() >= COMMAND_LINE_MAX {
        return Err(BootError::CommandLineTooLong { len: line.len(), limit: COMMAND_LINE_MAX - 1 });
    }
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(0);
    ram.device_view()
        .write_slice(&bytes, GuestAddress(COMMAND_LINE))
        .map_err(|e| BootError::Write(e.to_string()))
}

/// Puts the image at the top of low RAM, on a page boundary, clear of the kernel.
fn place_image(ram: &GuestRam, image: &[u8], kernel: &[Range<u64>]) -> Result<hvm_modlist_entry, BootError> {
    let does_not_fit = || BootError::ImageDoesNotFit { size: image.len(), ram: ram.low_end() };
    let size = image.len() as u64;
    let start = ram.low_end().checked_sub(size).ok_or_else(does_not_fit)? & !(PAGE_SIZE - 1);
    let end = start + size;
    if start < ONE_MIB || kernel.iter().any(|k| k.start < end && start < k.end) {
        return Err(does_not_fit());
    }
    ram.device_view().write_slice(image, GuestAddress(start)).map_err(|e| BootError::Write(e.to_string()))?;
    Ok(hvm_modlist_entry { paddr: start, size, ..Default::default() })
}

/// The memory map in the form of the PC's E820: RAM, the legacy hole, RAM.
pub fn memory_map(ram_size: u64) -> Vec<hvm_memmap_table_entry> {
    let entry = |addr, size, type_| hvm_memmap_table_entry { addr, size, type_, reserved: 0 };
    let mut map =
        vec![entry(0, LOW_RAM_END, TYPE_RAM), entry(LOW_RAM_END, ONE_MIB - LOW_RAM_END, TYPE_RESERVED)];
    for (gpa, len) in ram_ranges(ram_size) {
        let start = gpa.max(ONE_MIB);
        if gpa + len > start {
            map.push(entry(start, gpa + len - start, TYPE_RAM));
        }
    }
    map
}

#[cfg(test)]
#[path = "start_info_tests.rs"]
mod tests;
