//! What was freed and is not yet given out again.
//!
//! A zone or an inode that is freed in memory may still belong to somebody on the disk. If it were given to another file and
//! written for that one, and then the writing stopped, the disk would have two owners of one thing, and one of them would find
//! the other's bytes. So what is freed is held back until everything changed has been written once ([`Volume::flush`]).
//!
//! The one thing to hold in mind: in the bitmaps it is free at once. Whoever counts free space, or looks for something freed
//! twice, sees what a user expects; only the search for something free passes over it. It is not the order in which
//! blocks are written: that is [`Rank`](crate::Rank), and the store's affair.

use alloc::collections::BTreeMap;

use crate::error::Result;
use crate::store::{BlockStore, Rank};
use crate::volume::Volume;

/// Ranges remembered one by one; with more of them everything counts as held back, so that a file in many pieces costs no
/// more memory than this.
const RANGES: usize = 4096;

/// Bits of one bitmap that are held back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// First and last bit of each range.
    ranges: BTreeMap<u32, u32>,
    everything: bool,
    lowest: Option<u32>,
}

impl Held {
    /// Holds a bit back.
    pub(crate) fn add(&mut self, bit: u32) {
        self.lowest = Some(self.lowest.map_or(bit, |lowest| lowest.min(bit)));
        if self.everything || self.end(bit).is_some() {
            return;
        }
        let next = bit.saturating_add(1);
        let last = self.ranges.remove(&next).unwrap_or(bit);
        let before = self.ranges.range_mut(..bit).next_back();
        match before.filter(|(_, end)| end.saturating_add(1) == bit) {
            Some((_, end)) => *end = last,
            None => drop(self.ranges.insert(bit, last)),
        }
        if self.ranges.len() > RANGES {
            self.everything = true;
            self.ranges.clear();
        }
    }

    /// The last bit of the range that holds this one back.
    pub(crate) fn end(&self, bit: u32) -> Option<u32> {
        if self.everything {
            return Some(u32::MAX);
        }
        let (_, &end) = self.ranges.range(..=bit).next_back()?;
        (end >= bit).then_some(end)
    }

    fn is_empty(&self) -> bool {
        self.lowest.is_none()
    }

    /// Lets everything go; the lowest bit there was.
    fn release(&mut self) -> Option<u32> {
        self.ranges.clear();
        self.everything = false;
        self.lowest.take()
    }
}

/// What a volume remembers for the sake of order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Nothing is held back unless its user asks for it.
    pub(crate) kept: bool,
    pub(crate) zones: Held,
    pub(crate) inodes: Held,
    /// Something that is on the disk has got another name, which is not.
    named: bool,
}

impl<S: BlockStore> Volume<S> {
    /// From now on nothing that is freed is given out again before the next [`Volume::flush`]. For a store that may stop being
    /// written at any moment and honours [`Rank`]. An allocation then fails although something is free: see
    /// [`Volume::holds_back`].
    pub fn keep_order(&mut self) {
        self.order.kept = true;
    }

    /// Whether something is free that will only be given out after a flush. Who is told that nothing is left flushes and asks
    /// again.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !self.order.zones.is_empty() || !self.order.inodes.is_empty()
    }

    /// Whether a flush is due before the next change, because something got another name: two that moved could each wait for
    /// the other's block, and one that was linked lose its first name before it has its second.
    #[must_use]
    pub fn flush_is_due(&self) -> bool {
        self.order.named
    }

    /// Everything changed so far reaches the device, and what was held back is free.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); what was held back stays so.
    pub fn flush(&mut self) -> Result<()> {
        self.store.flush()?;
        self.order.named = false;
        if let Some(lowest) = self.order.zones.release() {
            self.zone_hint = self.zone_hint.min(lowest);
        }
        if let Some(lowest) = self.order.inodes.release() {
            self.inode_hint = self.inode_hint.min(lowest);
        }
        Ok(())
    }

    /// Something got a name besides those it has.
    pub(crate) fn name_was_added(&mut self) {
        self.order.named = self.order.kept;
    }

    /// The block loses a name of something that lives on under another name, which is in another block. That one has to be on
    /// the disk first, with the inodes that make it reachable.
    pub(crate) fn name_moves_from(&mut self, block: u32) {
        if self.order.kept {
            self.name_was_added();
            self.store.rank(block, Rank::Source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join() {
        let mut held = Held::default();
        assert!(held.is_empty() && held.end(0).is_none());
        for bit in [5, 7, 6, 6, 20, 4, 21, 19] {
            held.add(bit);
        }
        assert_eq!(held.ranges.len(), 2);
        for (bit, end) in [(3, None), (4, Some(7)), (7, Some(7)), (8, None), (19, Some(21)), (22, None)] {
            assert_eq!(held.end(bit), end, "{bit}");
        }
        assert_eq!(held.release(), Some(4));
        assert!(held.is_empty() && held.end(5).is_none());
    }

    #[test]
    fn too_many_ranges_hold_everything() {
        let mut held = Held::default();
        (0..RANGES as u32 + 1).for_each(|n| held.add(10 + 2 * n));
        assert!(held.ranges.is_empty());
        assert_eq!((held.end(0), held.end(11)), (Some(u32::MAX), Some(u32::MAX)));
        held.add(3);
        assert_eq!((held.release(), held.end(11)), (Some(3), None));
    }
}
