//! A copy of an address space, made when it is written to.
//!
//! The one thing to hold in mind: after a fork both processes map the same frames and neither may write one; whoever writes first
//! gets a copy, and whoever is then alone with a frame gets it back for writing ([`Memory::resolve`]). The reference counts say how
//! many there are. What it is not: making the process, which is the kernel's.

use refault_abi::Endpoint;
use refault_abi::bugs::Bug;
use refault_abi::kcall::privilege;
use refault_abi::layout::{PAGE, pte};

use crate::memory::{Memory, Refusal};
use crate::process::Process;
use crate::ram::Ram;
use crate::regions::{Backing, Region};
use crate::tables;

/// A copy.
#[derive(Debug)]
pub struct Forked {
    /// The copy, which is nobody's yet ([`Endpoint::NONE`]).
    pub process: Process,
    /// Pages that the two share, which the original may not write any more: its translations have to be dropped.
    pub shared: u64,
}

impl<R: Ram> Memory<'_, R> {
    /// A copy of the address space of `parent`, with the pages at `kernel_pages` as they are. Invalid for a process with device
    /// memory; NoMemory when there are no tables: nothing is left of the copy then.
    pub fn fork(&mut self, parent: &Process, kernel_pages: &[u64]) -> Result<Forked, Refusal> {
        let program = matches!(parent.privilege, privilege::USER | privilege::TEST);
        let device = |region: &Region| matches!(region.backing, Backing::Physical { .. });
        if !program || parent.regions.iter().any(device) {
            return Err(Refusal::Invalid);
        }
        let root = self.allocate_for(parent)?;
        self.ram.zero_page(root);
        let mut process = Process {
            endpoint: Endpoint::NONE,
            privilege: parent.privilege,
            root,
            regions: parent.regions.clone(),
        };
        for file in process.files() {
            self.files.acquire(file);
        }
        match self.share(parent, &process, kernel_pages) {
            Ok(shared) => Ok(Forked { process, shared }),
            Err(refusal) => {
                // The parent has every file, too: no handle is left over. Its pages it gets back as it writes them.
                let _ = self.destroy(&mut process);
                Err(refusal)
            }
        }
    }

    fn share(&mut self, parent: &Process, child: &Process, kernel_pages: &[u64]) -> Result<u64, Refusal> {
        let mut shared = 0u64;
        for address in kernel_pages {
            let entry = tables::lookup(&self.ram, parent.root, *address);
            if entry != 0 {
                self.map(child.root, *address, entry)?;
            }
        }
        for region in child.regions.iter() {
            let mut from = region.start;
            while let Some((address, place)) = tables::next_present(&self.ram, parent.root, from, region.end)
            {
                let entry = self.ram.word(place);
                let kept = if Bug::ForkShares.is(self.bug) { entry } else { entry & !pte::WRITABLE };
                self.frames.acquire(entry & pte::ADDRESS);
                self.map(child.root, address, kept)?;
                self.ram.set_word(place, kept);
                shared = shared.saturating_add(1);
                from = address.saturating_add(PAGE);
            }
        }
        Ok(shared)
    }
}

#[cfg(test)]
#[path = "fork_tests.rs"]
mod tests;
