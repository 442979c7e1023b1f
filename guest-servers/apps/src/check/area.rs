//! Memory that a test looks at byte by byte: mappings, of which every access may fault, may be another process's after a fork,
//! and may end the process.
//!
//! The one thing to hold in mind: every access is made, and made once: what the compiler could know about the memory is not true.

use alloc::string::String;

use refault_abi::layout::PAGE;
use refault_abi::vm::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use refault_rt::user::{self, Descriptor};

use super::suite::Explain;

/// A mapping.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Its first address.
    pub address: u64,
    /// Bytes, whole pages.
    pub bytes: u64,
}

impl Area {
    /// Zeros.
    pub fn anonymous(pages: u64) -> Result<Area, String> {
        Area::map(pages, PROT_READ | PROT_WRITE, MAP_ANONYMOUS, -1)
    }

    /// A file from its beginning, privately.
    pub fn of_file(descriptor: Descriptor, pages: u64) -> Result<Area, String> {
        Area::map(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor)
    }

    /// Whatever the arguments say.
    pub fn map(pages: u64, protection: u32, flags: u32, descriptor: Descriptor) -> Result<Area, String> {
        let bytes = pages * PAGE;
        let address = user::mmap(bytes, protection, flags, descriptor, 0).explain("mmap")?;
        Ok(Area { address, bytes })
    }

    /// The place of byte `at`; wraps inside nothing: a test may mean to touch what is not there.
    fn place(self, at: u64) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut((self.address + at) as usize)
    }

    /// Byte `at`.
    pub fn get(self, at: u64) -> u8 {
        // SAFETY: a mapping nobody has a reference into; an access that is not allowed ends the process, as the tests want it.
        unsafe { self.place(at).read_volatile() }
    }

    /// Stores a byte.
    pub fn set(self, at: u64, byte: u8) {
        // SAFETY: as in `get`.
        unsafe { self.place(at).write_volatile(byte) }
    }

    /// The first byte that is not what `wanted` says about it.
    pub fn first_wrong(self, wanted: impl Fn(u64) -> u8) -> Option<u64> {
        (0..self.bytes).find(|at| self.get(*at) != wanted(*at))
    }

    /// Stores what `wanted` says.
    pub fn fill(self, wanted: impl Fn(u64) -> u8) {
        (0..self.bytes).for_each(|at| self.set(at, wanted(at)));
    }

    /// Gives it back.
    pub fn unmap(self) -> Result<(), String> {
        // SAFETY: nobody refers to it: every access goes through `get` and `set`.
        unsafe { user::munmap(self.address, self.bytes) }.explain("munmap")
    }
}
