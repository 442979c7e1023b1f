//! Where things are in an address space.
//!
//! ```text
//! 0x0000_0000_0040_0000  program text, data                        user
//! 0x0000_0000_1000_0000  heap, mappings (grow upwards)             user
//! 0x0000_0000_3000_0000  servers only: grant table (reserved, grown in place)
//! 0x0000_0000_3f80_0000  stack (grows downwards from here + 4 MiB)  user
//! 0x0000_0000_3fe0_0000  STUB, INFO, STATS pages
//! 0x0000_0040_0000_0000  VM only: all managed RAM, by GPA           user
//! 0xffff_8000_0000_0000  direct map of all RAM, by GPA             kernel
//! 0xffff_ffff_8000_0000  kernel image                              kernel
//! ```
//!
//! A program's whole user half fits in one gigabyte, so three page-table pages plus one per 2 MiB used
//! describe a process.

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a large page.
pub const LARGE_PAGE: u64 = 2 << 20;

/// First address no user mapping may reach.
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// Where programs are linked.
pub const TEXT: u64 = 0x0040_0000;
/// Heap and mappings.
pub const MMAP_START: u64 = 0x1000_0000;
/// End of heap and mappings.
pub const MMAP_END: u64 = 0x3000_0000;
/// A server's grant table: reserved address space in which the table grows and never moves.
pub const GRANT_TABLE: u64 = 0x3000_0000;
/// End of the reserved space for the grant table (64 MiB: 2^20 entries of 64 bytes).
pub const GRANT_TABLE_END: u64 = 0x3400_0000;
/// Top of the initial stack; the page above stays unmapped.
pub const STACK_TOP: u64 = 0x3fc0_0000;
/// Most bytes of a stack.
pub const STACK_MAX: u64 = 4 << 20;
/// The trap stub's page, mapped read-execute into every process; the stub is at its start.
pub const STUB: u64 = 0x3fe0_0000;
/// The information page ([`crate::info::Info`]), mapped read-only into every server.
pub const INFO: u64 = 0x3fe1_0000;
/// The counters page ([`crate::counters`]), mapped read-write into every server, and read-only into test programs.
pub const STATS: u64 = 0x3fe2_0000;

/// VM's view of RAM: address = this + GPA, for all RAM from [`KERNEL_END`] on. The doorbell's register page, if
/// there is one, is mapped at the same offset, uncached: VM cannot edit its own page tables.
pub const VM_RAM: u64 = 0x0000_0040_0000_0000;

/// The kernel's direct map: address = this + GPA, for all RAM.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// The kernel image: address = this + GPA.
pub const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// GPA at which the kernel image is loaded.
pub const KERNEL_LOAD: u64 = 0x0010_0000;
/// The kernel image and everything the kernel owns ends below this GPA; RAM from here on is VM's.
pub const KERNEL_END: u64 = 0x0080_0000;

/// `address` rounded down to a page.
pub const fn page_floor(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// `address` rounded up to a page, saturating at the last page of the address space.
pub const fn page_ceil(address: u64) -> u64 {
    match address.checked_add(PAGE - 1) {
        Some(sum) => page_floor(sum),
        None => page_floor(u64::MAX),
    }
}

/// Bits of a page-table entry (Intel SDM volume 3, 4.5).
pub mod pte {
    /// Present.
    pub const PRESENT: u64 = 1;
    /// Writable.
    pub const WRITABLE: u64 = 1 << 1;
    /// User accessible.
    pub const USER: u64 = 1 << 2;
    /// Write-through.
    pub const WRITE_THROUGH: u64 = 1 << 3;
    /// Cache disabled.
    pub const NO_CACHE: u64 = 1 << 4;
    /// Accessed.
    pub const ACCESSED: u64 = 1 << 5;
    /// Dirty.
    pub const DIRTY: u64 = 1 << 6;
    /// Large page (levels 2 and 3).
    pub const LARGE: u64 = 1 << 7;
    /// No execution.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// The physical address in an entry.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}
