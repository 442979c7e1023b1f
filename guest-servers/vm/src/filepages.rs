//! What file systems say about their pages: this page of mine is that page of a file.
//!
//! The one thing to hold in mind: an announced page stays the file system's as well, which goes on writing to it: there is one home
//! for each page of a file. Pages of a block device itself are named like those of a file, with the inode number that no file has.

use alloc::vec::Vec;

use refault_abi::layout::{PAGE, pte};
use refault_abi::{Errno, Result};

use crate::cache::{Key, Page};
use crate::memory::Memory;
use crate::process::Process;
use crate::ram::Ram;
use crate::regions::Backing;
use crate::tables;

impl<R: Ram> Memory<'_, R> {
    /// The page at `address` of `owner`, in slot `slot`, is the file page `key` from now on. EFAULT when there
    /// is no such page, EIO when what it held is lost.
    pub fn announce(
        &mut self,
        owner: &Process,
        slot: usize,
        key: Key,
        address: u64,
        once: bool,
    ) -> Result<()> {
        let aligned = address.is_multiple_of(PAGE) && key.offset.is_multiple_of(PAGE);
        let region = owner.regions.find(address).filter(|region| region.backing == Backing::Anonymous);
        let entry = tables::lookup(&self.ram, owner.root, address);
        if !aligned || region.is_none() || entry == 0 {
            return Err(Errno::EFAULT);
        }
        let frame = entry & pte::ADDRESS;
        if self.poisoned.contains(frame) {
            return Err(Errno::EIO);
        }
        self.frames.acquire(frame);
        if let Some(old) = self.cache.insert(key, Page { frame, once, owner: slot, address, used: 0 }) {
            self.frames.release(old.frame);
        }
        Ok(())
    }

    /// Forgets a file page; processes that map it keep what they have.
    pub fn forget(&mut self, key: Key) {
        if let Some(page) = self.cache.remove(key) {
            self.frames.release(page.frame);
        }
    }

    /// Forgets every page of a device that nobody but its file system maps. `root_of` answers the top-level
    /// table of a slot. Answers how many.
    pub fn clear_cache(&mut self, device: u64, root_of: impl Fn(usize) -> Option<u64>) -> u64 {
        let mut gone = Vec::new();
        let (ram, frames) = (&self.ram, &self.frames);
        let unused = |page: &Page| {
            let mapped = root_of(page.owner).map_or(0, |root| tables::lookup(ram, root, page.address));
            let by_owner = mapped != 0 && mapped & pte::ADDRESS == page.frame;
            frames.references(page.frame) <= 1 + u32::from(by_owner)
        };
        let goes = |key: Key, page: &Page| key.device == device && unused(page);
        let count = self.cache.remove_all(goes, |page| gone.push(page.frame));
        for frame in gone {
            self.frames.release(frame);
        }
        count
    }

    /// Forgets every page that the file system in `slot`, which is dead, announced: what it had not written back is lost, and its
    /// successor reads the disk.
    pub fn forget_owner(&mut self, slot: usize) {
        let mut gone = Vec::new();
        self.cache.remove_all(|_, page| page.owner == slot, |page| gone.push(page.frame));
        for frame in gone {
            self.frames.release(frame);
        }
    }
}
