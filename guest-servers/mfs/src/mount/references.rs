//! The references VFS holds to files: as long as there is one, a file that has lost its last name is still there.

use alloc::vec::Vec;

use refault_abi::{Errno, Result};
use refault_minixfs::{Access, Inode, Removed};

use crate::system::System;

use super::Mounted;

impl<S: System> Mounted<S> {
    /// Counts a reference VFS holds from now on.
    pub fn refer(&mut self, number: u32) {
        let count = self.references.entry(number).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Takes references back; the last one of a file without a name frees it.
    pub fn put_back(&mut self, system: &mut S, number: u32, count: u64) -> Result<()> {
        let held = self.references.get(&number).copied().unwrap_or(0);
        match held.checked_sub(count) {
            None => Err(Errno::EINVAL),
            Some(0) => {
                self.references.remove(&number);
                let inode = self.volume.inode(number).map_err(|error| self.told(system, error))?;
                if inode.links == 0 { self.reclaim(system, number) } else { Ok(()) }
            }
            Some(left) => {
                self.references.insert(number, left);
                Ok(())
            }
        }
    }

    /// A name is gone; if it was the last and nobody refers to the file, so is the file.
    pub fn removed(&mut self, system: &mut S, removed: Removed) -> Result<()> {
        if removed.links == 0 && !self.references.contains_key(&removed.inode) {
            return self.reclaim(system, removed.inode);
        }
        Ok(())
    }

    fn reclaim(&mut self, system: &mut S, number: u32) -> Result<()> {
        self.drop_from(system, number, 0);
        self.change(system, |volume| volume.reclaim(number))
    }

    /// Before the end: files that lost their last name while they were open are freed, then everything is written. All of
    /// it is tried; the first failure is told.
    pub fn unmount(&mut self, system: &mut S) -> Result<()> {
        let open: Vec<u32> = core::mem::take(&mut self.references).into_keys().collect();
        let mut result = Ok(());
        for number in open {
            if self.volume.access() == Access::ReadWrite
                && self.volume.inode(number).is_ok_and(|inode| inode.links == 0)
            {
                result = result.and(self.reclaim(system, number));
            }
        }
        result.and(self.flush(system).map(drop))
    }

    /// Takes references to an inode that is known by its number, from before a restart. ENOENT when there is none such: it
    /// was made after the last time everything was written.
    pub fn refer_again(&mut self, system: &mut S, number: u32, count: u64) -> Result<Inode> {
        let in_use = self.volume.is_in_use(number).map_err(|error| self.told(system, error))?;
        if !in_use {
            return Err(Errno::ENOENT);
        }
        let inode = self.volume.inode(number).map_err(|error| self.told(system, error))?;
        let held = self.references.get(&number).copied().unwrap_or(0);
        let references = held.checked_add(count).ok_or(Errno::EINVAL)?;
        if references > 0 {
            self.references.insert(number, references);
        }
        Ok(inode)
    }
}
