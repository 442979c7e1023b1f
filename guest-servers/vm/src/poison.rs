//! Frames out of use for good, because what they held is lost.
//!
//! The one thing to hold in mind: each such frame keeps one reference here that nobody ever drops, so it is never free and
//! nobody gets it again; whoever else still maps it keeps his reference until he lets go or touches it and ends. A frame of
//! the file cache is forgotten there, so nobody maps it anew. It is not read again from its file on anybody's behalf: the
//! file system has the same frame in its own cache, and whether it has written to it since it was read is not known here; so
//! who touches it ends, even if the file would still have it.

use alloc::vec::Vec;

use crate::memory::Memory;
use crate::ram::Ram;

/// The frames.
#[derive(Debug, Default)]
pub struct Poisoned {
    /// In ascending order.
    frames: Vec<u64>,
}

impl Poisoned {
    /// None.
    pub const fn new() -> Poisoned {
        Poisoned { frames: Vec::new() }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frames, one for each reference.
    pub fn frames(&self) -> impl Iterator<Item = u64> {
        self.frames.iter().copied()
    }

    /// Whether this frame is one of them.
    pub fn contains(&self, frame: u64) -> bool {
        self.frames.binary_search(&frame).is_ok()
    }
}

impl<R: Ram> Memory<'_, R> {
    /// Takes a frame out of use for good. Whether it had been in use, or free, until now; what is not managed is not VM's.
    pub fn poison(&mut self, frame: u64) -> bool {
        let Err(place) = self.poisoned.frames.binary_search(&frame) else { return false };
        if !self.frames.hold(frame) {
            return false;
        }
        self.poisoned.frames.insert(place, frame);
        let mut gone = 0u32;
        self.cache.remove_all(|_, page| page.frame == frame, |_| gone = gone.saturating_add(1));
        (0..gone).for_each(|_| self.frames.release(frame));
        true
    }
}

#[cfg(test)]
#[path = "poison_tests.rs"]
mod tests;
