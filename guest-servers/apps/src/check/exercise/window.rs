//! A buffer between bytes that nobody may touch, whose every byte is known.
//!
//! The one thing to hold in mind: all of its pages are there before a request gets it, so that what a monitor takes away is all that
//! ever goes missing, and at the same places in each run. Looking at it makes ring-3 accesses, which may fault like any other.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use refault_abi::layout::PAGE;
use refault_abi::pattern;
use refault_abi::vm::{MAP_ANONYMOUS, MAP_POPULATE, PROT_READ, PROT_WRITE};
use refault_rt::user;

use super::trouble::{Step, Trouble, same_bytes};
use crate::check::suite::Explain;

/// The buffer. Its mapping stays for the life of the program.
#[derive(Debug)]
pub struct Window {
    address: u64,
    wanted: Vec<u8>,
    range: Range<usize>,
}

impl Window {
    /// A buffer of `bytes` that begins `offset` into a page, with a page before it and one behind.
    pub fn new(offset: u64, bytes: u64) -> Result<Window, alloc::string::String> {
        let length = (offset + bytes).next_multiple_of(PAGE) + 2 * PAGE;
        let flags = MAP_ANONYMOUS | MAP_POPULATE;
        let address = user::mmap(length, PROT_READ | PROT_WRITE, flags, -1, 0).explain("mmap")?;
        let start = (PAGE + offset) as usize;
        Ok(Window { address, wanted: vec![0; length as usize], range: start..start + bytes as usize })
    }

    /// The address of the buffer's first byte.
    pub fn address(&self) -> u64 {
        self.address + self.range.start as u64
    }

    /// Its bytes.
    pub fn len(&self) -> u64 {
        self.range.len() as u64
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Stores the pattern `id` in all of the mapping.
    pub fn fill(&mut self, id: u32) {
        pattern::fill(id, 0, &mut self.wanted);
        self.store();
    }

    /// Stores these bytes at the buffer's beginning.
    pub fn put(&mut self, bytes: impl Iterator<Item = u8>) {
        for (place, byte) in self.wanted.get_mut(self.range.clone()).into_iter().flatten().zip(bytes) {
            *place = byte;
        }
        self.store();
    }

    fn store(&mut self) {
        let start = core::ptr::with_exposed_provenance_mut::<u8>(self.address as usize);
        // SAFETY: the mapping is as long as `wanted`, writable, and nobody has borrowed it: `bytes` borrows the window.
        unsafe { core::ptr::copy_nonoverlapping(self.wanted.as_ptr(), start, self.wanted.len()) }
    }

    /// What the buffer was last given.
    pub fn given(&self) -> &[u8] {
        self.wanted.get(self.range.clone()).unwrap_or_default()
    }

    /// The mapping as it is now.
    fn all(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance::<u8>(self.address as usize);
        // SAFETY: the mapping is as long as `wanted` and readable; nothing writes it while it is borrowed, because requests that
        // do get its address from nobody who has it borrowed, and end before it is looked at.
        unsafe { core::slice::from_raw_parts(start, self.wanted.len()) }
    }

    /// The buffer as it is now.
    pub fn bytes(&self) -> &[u8] {
        self.all().get(self.range.clone()).unwrap_or_default()
    }

    /// Whether the buffer begins with `new`, and everything else of the mapping is what it was.
    pub fn holds(&self, what: &str, new: &[u8]) -> Step {
        self.holds_at(what, 0, new)
    }

    /// Whether the bytes from `skip` on are `new`, and everything else of the mapping is what it was.
    pub fn holds_at(&self, what: &str, skip: u64, new: &[u8]) -> Step {
        let (seen, wanted) = (self.all(), self.wanted.as_slice());
        let start = self.range.start.saturating_add(skip as usize);
        let end = start.saturating_add(new.len());
        same_bytes(what, part(seen, start..end), new)?;
        same_bytes("before the buffer", part(seen, 0..start), part(wanted, 0..start))?;
        let last = seen.len();
        same_bytes("behind what was moved", part(seen, end..last), part(wanted, end..last))
    }

    /// Whether each byte of the buffer is either what it was or what `new` says, and everything else what it was: all that may be
    /// said about the buffer of a request that failed.
    pub fn holds_either(&self, what: &str, new: &[u8]) -> Step {
        let range = &self.range;
        for (index, (seen, old)) in self.all().iter().zip(&self.wanted).enumerate() {
            let moved = index.checked_sub(range.start).and_then(|index| new.get(index));
            if seen != old && moved != Some(seen) {
                let at = index as i64 - range.start as i64;
                return Err(Trouble::corrupt(format!("{what}: byte {at} is neither old nor new")));
            }
        }
        Ok(())
    }
}

/// Part of some bytes; nothing where there is none.
fn part(of: &[u8], range: Range<usize>) -> &[u8] {
    of.get(range).unwrap_or_default()
}
