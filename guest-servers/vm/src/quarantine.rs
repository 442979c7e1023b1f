//! Memory of dead servers that a device may still be writing to.
//!
//! The one thing to hold in mind: a transfer does not end because its driver, or whoever asked for it, did. The frames of such a
//! process keep one reference here until somebody knows that the device is done with them: the driver's successor, which resets it
//! before anything else, or the first page that a file system's successor has got through the same driver.

use alloc::vec::Vec;

use refault_abi::Endpoint;
use refault_abi::layout::{PAGE, pte};

use crate::memory::Memory;
use crate::process::Process;
use crate::ram::Ram;
use crate::regions::Backing;
use crate::tables;

/// The frames held, by whose they were.
#[derive(Debug, Default)]
pub struct Quarantine {
    held: Vec<(Endpoint, Vec<u64>)>,
}

impl Quarantine {
    /// Empty.
    pub const fn new() -> Quarantine {
        Quarantine { held: Vec::new() }
    }

    /// Frames held.
    pub fn len(&self) -> usize {
        self.held.iter().map(|(_, frames)| frames.len()).sum()
    }

    /// Whether none are held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The frames held, one for each reference.
    pub fn frames(&self) -> impl Iterator<Item = u64> {
        self.held.iter().flat_map(|(_, frames)| frames.iter().copied())
    }

    /// The dead incarnations of `slot` whose memory is held.
    pub fn of_slot(&self, slot: i32) -> impl Iterator<Item = Endpoint> {
        self.held.iter().map(|(endpoint, _)| *endpoint).filter(move |endpoint| endpoint.slot() == slot)
    }
}

impl<R: Ram> Memory<'_, R> {
    /// Holds what `process`, which is about to be destroyed, has of memory.
    pub fn quarantine(&mut self, process: &Process) {
        let mut held = Vec::new();
        for region in process.regions.iter().filter(|region| region.backing == Backing::Anonymous) {
            let mut from = region.start;
            while let Some((address, place)) = tables::next_present(&self.ram, process.root, from, region.end)
            {
                let frame = self.ram.word(place) & pte::ADDRESS;
                self.frames.acquire(frame);
                held.push(frame);
                from = address.saturating_add(PAGE);
            }
        }
        self.quarantine.held.push((process.endpoint, held));
    }

    /// Lets the memory of `dead` go; whether any was held.
    pub fn retire(&mut self, dead: Endpoint) -> bool {
        let before = self.quarantine.held.len();
        let frames = &mut self.frames;
        self.quarantine.held.retain(|(endpoint, held)| {
            if *endpoint == dead {
                held.iter().for_each(|frame| frames.release(*frame));
            }
            *endpoint != dead
        });
        self.quarantine.held.len() != before
    }
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
