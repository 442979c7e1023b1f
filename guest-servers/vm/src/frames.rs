//! The frame allocator: one counter per page of RAM.
//!
//! A counter is the number of references to the frame (page-table entries, the page cache); zero is free. The
//! lowest free frame is taken first, so that a run with the same requests uses the same frames.

use refault_abi::kcall::PhysRange;
use refault_abi::layout::{PAGE, page_ceil, page_floor};

/// Counter of a frame that is not VM's to give away.
const FOREIGN: u32 = u32::MAX;
/// Most references counted; a frame that reaches it is never freed.
const STUCK: u32 = u32::MAX - 1;

/// A page-aligned place for `bytes` in `ram`, at or above `lowest` and clear of `reserved`, for what has to
/// exist before the allocator does.
pub fn carve(ram: &[PhysRange], reserved: PhysRange, lowest: u64, bytes: u64) -> Option<u64> {
    let reserved_end = page_ceil(reserved.address.saturating_add(reserved.bytes));
    for range in ram {
        let end = range.address.saturating_add(range.bytes);
        let first = page_ceil(range.address.max(lowest));
        for start in [first, first.max(reserved_end)] {
            let Some(stop) = start.checked_add(bytes) else { continue };
            let clear = stop <= reserved.address || start >= reserved_end;
            if stop <= end && clear {
                return Some(start);
            }
        }
    }
    None
}

/// All frames.
#[derive(Debug)]
pub struct Frames<'m> {
    /// One counter per frame from GPA 0 on.
    counters: &'m mut [u32],
    /// No frame below is free.
    hint: usize,
    free: u64,
    total: u64,
}

/// Counters needed for RAM that ends at `end`.
pub const fn counters_for(end: u64) -> u64 {
    end.div_ceil(PAGE)
}

impl<'m> Frames<'m> {
    /// Manages the whole pages of `ram` that touch none of `reserved`. `counters` covers RAM from GPA 0 on.
    pub fn new(counters: &'m mut [u32], ram: &[PhysRange], reserved: &[PhysRange]) -> Frames<'m> {
        counters.fill(FOREIGN);
        for range in ram {
            let end = page_floor(range.address.saturating_add(range.bytes));
            set(counters, page_ceil(range.address), end, 0);
        }
        for range in reserved.iter().filter(|range| range.bytes > 0) {
            let end = page_ceil(range.address.saturating_add(range.bytes));
            set(counters, page_floor(range.address), end, FOREIGN);
        }
        let free = counters.iter().filter(|counter| **counter == 0).count() as u64;
        Frames { counters, hint: 0, free, total: free }
    }

    /// Pages of RAM from GPA 0 on, managed or not.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether there is no RAM at all.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// References to each page of RAM from GPA 0 on; `None` for one that is not managed.
    pub fn managed(&self) -> impl Iterator<Item = Option<u32>> {
        self.counters.iter().map(|counter| (*counter != FOREIGN).then_some(*counter))
    }

    /// Frames managed.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Frames free.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Takes a frame with one reference. Its contents are whatever they were.
    pub fn allocate(&mut self) -> Option<u64> {
        let rest = self.counters.get_mut(self.hint..)?;
        let (offset, counter) = rest.iter_mut().enumerate().find(|(_, counter)| **counter == 0)?;
        *counter = 1;
        let index = self.hint.saturating_add(offset);
        self.hint = index.saturating_add(1);
        self.free = self.free.saturating_sub(1);
        Some(index as u64 * PAGE)
    }

    fn counter(&mut self, gpa: u64) -> Option<&mut u32> {
        let counter = self.counters.get_mut(usize::try_from(gpa / PAGE).ok()?)?;
        (*counter != FOREIGN).then_some(counter)
    }

    /// References to the frame at `gpa`; 0 for a free one and for one that is not managed.
    pub fn references(&self, gpa: u64) -> u32 {
        let index = usize::try_from(gpa / PAGE).unwrap_or(usize::MAX);
        match self.counters.get(index) {
            Some(&count) if count != FOREIGN => count,
            _ => 0,
        }
    }

    /// Adds a reference. Does nothing for a frame that is not managed or that is free.
    pub fn acquire(&mut self, gpa: u64) {
        if let Some(counter) = self.counter(gpa)
            && *counter != 0
            && *counter < STUCK
        {
            *counter += 1;
        }
    }

    /// Adds a reference that nobody drops, to a frame in use or free. Whether the frame is managed.
    pub fn hold(&mut self, gpa: u64) -> bool {
        let Some(counter) = self.counter(gpa) else { return false };
        let was_free = *counter == 0;
        if *counter < STUCK {
            *counter += 1;
        }
        if was_free {
            self.free = self.free.saturating_sub(1);
        }
        true
    }

    /// Drops a reference; the last one frees the frame. Does nothing for a frame that is not managed.
    pub fn release(&mut self, gpa: u64) {
        if let Some(counter) = self.counter(gpa)
            && *counter != 0
            && *counter < STUCK
        {
            *counter -= 1;
            if *counter == 0 {
                self.free = self.free.saturating_add(1);
                self.hint = self.hint.min(usize::try_from(gpa / PAGE).unwrap_or(0));
            }
        }
    }
}

/// Sets the counters of the pages in `[start, end)`.
fn set(counters: &mut [u32], start: u64, end: u64, value: u32) {
    let limit = counters.len();
    let index = |gpa: u64| usize::try_from(gpa / PAGE).unwrap_or(limit).min(limit);
    if let Some(part) = counters.get_mut(index(start)..index(end)) {
        part.fill(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(address: u64, bytes: u64) -> PhysRange {
        PhysRange { address, bytes }
    }

    #[test]
    fn partial_pages_and_reserved_ranges_are_left_alone() {
        let mut counters = [0; 16];
        let ram = [range(0x800, 0x4800), range(0x8000, 0x100_0000)];
        let mut frames = Frames::new(&mut counters, &ram, &[range(0x2fff, 2), range(0x5000, 0)]);
        let taken: std::vec::Vec<_> = core::iter::from_fn(|| frames.allocate()).collect();
        assert_eq!(taken[..4], [0x1000, 0x4000, 0x8000, 0x9000]);
        assert_eq!(taken.len(), 2 + 8);
        assert_eq!((frames.free(), frames.total()), (0, 10));
    }

    #[test]
    fn carving_keeps_clear_of_the_image() {
        let ram = [range(0, 0x9000), range(0x10_0000, 0x10_0000)];
        let image = range(0x10_4000, 0x2001);
        assert_eq!(carve(&ram, image, 0x8000, 0x1000), Some(0x8000));
        assert_eq!(carve(&ram, image, 0x8000, 0x4000), Some(0x10_0000));
        assert_eq!(carve(&ram, image, 0x8000, 0x4001), Some(0x10_7000));
        assert_eq!(carve(&ram, image, 0x8000, 0xf_9001), None);
        assert_eq!(carve(&ram, image, 0, u64::MAX), None);
    }

    #[test]
    fn the_last_reference_frees_and_the_lowest_frame_comes_first() {
        let mut counters = [0; 4];
        let mut frames = Frames::new(&mut counters, &[range(0, 0x4000)], &[]);
        let (first, second) = (frames.allocate().unwrap(), frames.allocate().unwrap());
        frames.acquire(first);
        frames.release(first);
        assert_eq!(frames.references(first), 1);
        frames.release(first);
        frames.release(first);
        assert_eq!((frames.references(first), frames.free()), (0, 3));
        frames.acquire(first);
        assert_eq!(frames.references(first), 0);
        assert_eq!(frames.allocate(), Some(first));
        assert_ne!(first, second);
        frames.release(u64::MAX);
        frames.acquire(0x10_0000);
    }
}
