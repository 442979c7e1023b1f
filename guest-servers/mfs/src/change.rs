//! Changing the volume: what has to be written before, and what to do when nothing is left.
//!
//! The one thing to hold in mind: only here, between two changes, may metadata be written because there is much of it, since
//! only here the file pages can go first.

use refault_abi::Result;
use refault_minixfs::{Error, Volume};

use crate::blocks::BlockCache;
use crate::mount::Mounted;
use crate::system::System;

impl<S: System> Mounted<S> {
    /// Changes the volume. Before it, what is due is written, so that there is room for more; if nothing is left but what is
    /// held back, everything is written and it is tried again.
    pub fn change<T>(
        &mut self,
        system: &mut S,
        mut change: impl FnMut(&mut Volume<BlockCache<S::Disk>>) -> core::result::Result<T, Error>,
    ) -> Result<T> {
        if self.volume.flush_is_due() || self.volume.store_mut().is_crowded() {
            // What cannot be written stays, and is told to whoever asks for it to be written.
            let _ = self.write_all(system);
        }
        let mut changed = change(&mut self.volume);
        if matches!(changed, Err(Error::NoSpace | Error::NoInodes)) && self.volume.holds_back() {
            let _ = self.write_all(system);
            changed = change(&mut self.volume);
        }
        changed.map_err(|error| self.told(system, error))
    }
}
