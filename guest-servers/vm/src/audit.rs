//! The audit: who holds each frame, compared with how many the allocator believes do.
//!
//! A frame can be held by an address space (it is one of its tables, or is mapped by one), by the cache of file pages, by the
//! quarantine, and for good by the list of poisoned ones. The one thing to hold in mind: between two requests these are all there are, so every frame is free, or has exactly
//! as many holders as its counter says; anything else is a leak or will be a use after free. What it is not: cheap. It walks every
//! page table, and nothing but tests asks for it.

use alloc::vec::Vec;

use refault_abi::layout::PAGE;

use crate::memory::Memory;
use crate::process::Process;
use crate::ram::Ram;
use crate::tables;

/// What the audit found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Frames that nobody has and nobody holds.
    pub free: u64,
    /// Frames with as many holders as were counted.
    pub held: u64,
    /// Frames that are not free, and that nobody holds: nobody will ever give them back.
    pub unclaimed: u64,
    /// Frames with holders, but not as many as were counted.
    pub miscounted: u64,
}

impl<R: Ram> Memory<'_, R> {
    /// Compares the frames' counters with their holders, `processes` being all there are. `None` when there is no memory for it.
    pub fn audit<'p>(&self, processes: impl Iterator<Item = &'p Process>) -> Option<Audit> {
        let mut holders: Vec<u32> = Vec::new();
        holders.try_reserve_exact(self.frames.len()).ok()?;
        holders.resize(self.frames.len(), 0);
        let mut hold = |frame: u64| {
            let index = usize::try_from(frame / PAGE).unwrap_or(usize::MAX);
            if let Some(count) = holders.get_mut(index) {
                *count = count.saturating_add(1);
            }
        };
        for process in processes {
            tables::visit(&self.ram, process.root, &mut hold);
        }
        self.cache.frames().chain(self.quarantine.frames()).chain(self.poisoned.frames()).for_each(&mut hold);
        let mut audit = Audit::default();
        for (counted, holders) in self.frames.managed().zip(holders) {
            // The kernel's pages and devices' registers are mapped without being counted.
            let Some(counted) = counted else { continue };
            let sum = match (counted, holders) {
                (0, 0) => &mut audit.free,
                (_, 0) => &mut audit.unclaimed,
                _ if counted == holders => &mut audit.held,
                _ => &mut audit.miscounted,
            };
            *sum = sum.saturating_add(1);
        }
        Some(audit)
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
