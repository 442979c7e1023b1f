//! What the kernel tells the servers at boot, and what a program finds on its stack.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::kcall::PhysRange;

/// Longest command line, in bytes.
pub const CMDLINE_MAX: usize = 2048;
/// Most RAM ranges.
pub const RAM_MAX: usize = 16;
/// [`Info::magic`]: "RFINFO01".
pub const MAGIC: u64 = u64::from_le_bytes(*b"RFINFO01");

/// The information page at [`crate::layout::INFO`], read-only. Less than one page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Info {
    /// [`MAGIC`].
    pub magic: u64,
    /// Boot image (cpio newc), by GPA.
    pub image: PhysRange,
    /// GPA of the trap stub's page.
    pub stub: u64,
    /// GPA of this page.
    pub info: u64,
    /// GPA of the counters page.
    pub stats: u64,
    /// GPA of the doorbell's registers, 0 when there is none.
    pub doorbell: u64,
    /// GPA of VM's own top-level page table: its upper half is what every address space needs.
    pub root: u64,
    /// First GPA of VM's own pages that the kernel already uses for VM (page tables, stack): `[first, end)`
    /// lies below [`crate::layout::KERNEL_END`] and needs no care; kept for the record.
    pub vm_pages: PhysRange,
    /// 1 when page-table entries may carry the no-execute bit.
    pub no_execute: u32,
    /// Processors running.
    pub processors: u32,
    /// TSC frequency in kHz, 0 when unknown.
    pub tsc_khz: u64,
    /// RAM ranges used in [`Info::ram`].
    pub ram_count: u64,
    /// RAM from the memory map (complete, also the kernel's part and the boot image's).
    pub ram: [PhysRange; RAM_MAX],
    /// Bytes used in [`Info::cmdline`].
    pub cmdline_length: u64,
    /// The command line, without a final NUL.
    pub cmdline: [u8; CMDLINE_MAX],
}

const _: () = assert!(size_of::<Info>() <= crate::layout::PAGE as usize);

impl Info {
    /// The command line; empty when it is not UTF-8.
    pub fn cmdline(&self) -> &str {
        let length = usize::try_from(self.cmdline_length).unwrap_or(0);
        self.cmdline.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

/// What `rdi` points to when a program starts, in its own stack: the argument vector.
///
/// Followed in memory by `argc` pairs {address u64, bytes u64}; the strings are not NUL terminated.
/// For VM (started by the kernel) `argc` is 0.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// Number of arguments, the program's name first.
    pub argc: u64,
    /// Address of the array of {address, bytes} pairs.
    pub argv: u64,
}

/// One argument.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Argument {
    /// Address.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
}
