//! The regions of an address space: a sorted list of ranges that do not overlap.
//!
//! A region says what *may* be in a range and where its pages come from; the page tables say what *is*.

use alloc::vec::Vec;

use refault_abi::layout::{MMAP_END, MMAP_START, PAGE};

use crate::files::FileId;

/// Most regions of a process, so that nobody can fill VM's own memory.
pub const MAX_REGIONS: usize = 128;

/// Where a region's pages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Zeros.
    Anonymous,
    /// A file, privately.
    File {
        /// Which.
        file: FileId,
        /// Offset of the region's first page in it.
        offset: u64,
        /// Offset in the file from which on there are zeros, whatever the file has there; `u64::MAX` for mappings.
        limit: u64,
    },
    /// Device registers.
    Physical {
        /// GPA of the region's first page.
        gpa: u64,
    },
}

/// One range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// PROT bits.
    pub protection: u32,
    /// Where pages come from.
    pub backing: Backing,
}

impl Region {
    /// The file behind it, if there is one.
    pub fn backing_file(&self) -> Option<FileId> {
        match self.backing {
            Backing::File { file, .. } => Some(file),
            _ => None,
        }
    }

    /// The part `[start, end)` of the region; the backing moves along.
    fn part(&self, start: u64, end: u64) -> Region {
        let skip = start.saturating_sub(self.start);
        let backing = match self.backing {
            Backing::Anonymous => Backing::Anonymous,
            Backing::File { file, offset, limit } => {
                Backing::File { file, offset: offset.saturating_add(skip), limit }
            }
            Backing::Physical { gpa } => Backing::Physical { gpa: gpa.saturating_add(skip) },
        };
        Region { start, end, protection: self.protection, backing }
    }

    /// Whether `next` begins where this one ends and goes on as this one would.
    fn continues_in(&self, next: &Region) -> bool {
        let longer = Region { end: next.end, ..*self };
        self.end == next.start && longer.part(next.start, next.end) == *next
    }
}

/// Why a region could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Empty, not page aligned, or it overlaps another.
    Invalid,
    /// Too many.
    Full,
}

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    list: Vec<Region>,
}

impl Regions {
    /// No regions.
    pub const fn new() -> Regions {
        Regions { list: Vec::new() }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.list.iter()
    }

    /// Index of the first region that ends behind `address`.
    fn position(&self, address: u64) -> usize {
        self.list.partition_point(|region| region.end <= address)
    }

    /// The region around `address`.
    pub fn find(&self, address: u64) -> Option<&Region> {
        self.list.get(self.position(address)).filter(|region| region.start <= address)
    }

    /// Whether `[start, end)` touches no region.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.list.get(self.position(start)).is_none_or(|region| region.start >= end)
    }

    /// Adds a region. One that continues its neighbour becomes part of it: memory that grows stays one region.
    pub fn insert(&mut self, region: Region) -> Result<(), Refused> {
        let aligned = region.start.is_multiple_of(PAGE) && region.end.is_multiple_of(PAGE);
        if region.start >= region.end || !aligned || !self.is_free(region.start, region.end) {
            return Err(Refused::Invalid);
        }
        let at = self.position(region.start);
        let before = at.checked_sub(1).and_then(|index| self.list.get(index)).copied();
        let before = before.filter(|before| before.continues_in(&region));
        let after = self.list.get(at).copied().filter(|after| region.continues_in(after));
        if before.is_none() && after.is_none() && self.list.len() >= MAX_REGIONS {
            return Err(Refused::Full);
        }
        let whole = Region {
            start: before.map_or(region.start, |before| before.start),
            end: after.map_or(region.end, |after| after.end),
            ..before.unwrap_or(region)
        };
        let replaced = at - usize::from(before.is_some())..at + usize::from(after.is_some());
        self.list.splice(replaced, [whole]);
        Ok(())
    }

    /// The lowest free place for `length` bytes among the mappings.
    pub fn place(&self, length: u64) -> Option<u64> {
        let mut start = MMAP_START;
        for region in self.list.iter().skip(self.position(MMAP_START)) {
            if start.checked_add(length)? <= region.start {
                break;
            }
            start = start.max(region.end);
        }
        (length > 0 && start.checked_add(length)? <= MMAP_END).then_some(start)
    }

    /// Takes `[start, end)`, page aligned, out of the list and hands each removed piece to `removed`. A region
    /// cut in two stays as two. Full when that would make too many; nothing is removed then.
    pub fn remove(&mut self, start: u64, end: u64, mut removed: impl FnMut(Region)) -> Result<(), Refused> {
        let first = self.position(start);
        let splits = self.list.get(first).is_some_and(|region| region.start < start && end < region.end);
        if splits && self.list.len() >= MAX_REGIONS {
            return Err(Refused::Full);
        }
        let touched = |region: &&Region| region.start < end;
        let count = self.list.iter().skip(first).take_while(touched).count();
        let mut kept = Vec::new();
        for region in self.list.iter().skip(first).take(count) {
            removed(region.part(region.start.max(start), region.end.min(end)));
            if region.start < start {
                kept.push(region.part(region.start, start));
            }
            if region.end > end {
                kept.push(region.part(end, region.end));
            }
        }
        self.list.splice(first..first + count, kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64) -> Region {
        Region { start, end, protection: 3, backing: Backing::Physical { gpa: start } }
    }

    /// One that never continues another of its kind.
    fn lone(start: u64, end: u64) -> Region {
        Region { start, end, protection: 3, backing: Backing::Physical { gpa: 0 } }
    }

    fn ranges(regions: &Regions) -> Vec<(u64, u64)> {
        regions.iter().map(|region| (region.start, region.end)).collect()
    }

    #[test]
    fn overlaps_and_odd_ranges_are_refused() {
        let mut regions = Regions::new();
        regions.insert(lone(0x4000, 0x6000)).unwrap();
        regions.insert(lone(0x1000, 0x2000)).unwrap();
        for bad in
            [region(0x5000, 0x7000), region(0, 0x10000), region(0x3000, 0x5000), region(0x8000, 0x8000)]
        {
            assert_eq!(regions.insert(bad), Err(Refused::Invalid));
        }
        assert_eq!(regions.insert(region(0x7001, 0x8000)), Err(Refused::Invalid));
        regions.insert(lone(0x2000, 0x4000)).unwrap();
        assert_eq!(ranges(&regions), [(0x1000, 0x2000), (0x2000, 0x4000), (0x4000, 0x6000)]);
        assert_eq!(regions.find(0x3fff).unwrap().start, 0x2000);
        assert_eq!(regions.find(0x6000), None);
        assert_eq!(regions.find(0xfff), None);
    }

    #[test]
    fn what_continues_a_region_becomes_part_of_it() {
        let file = |start: u64, end: u64, offset: u64| {
            let backing =
                Backing::File { file: crate::files::Files::new().add(1, 1, 1, 1), offset, limit: u64::MAX };
            Region { start, end, protection: 3, backing }
        };
        let anonymous =
            |start: u64, end: u64, protection| Region { start, end, protection, backing: Backing::Anonymous };
        let mut regions = Regions::new();
        for region in [
            anonymous(0x1000, 0x2000, 3),
            anonymous(0x3000, 0x4000, 3),
            anonymous(0x2000, 0x3000, 3),
            anonymous(0x4000, 0x5000, 1),
            file(0x6000, 0x8000, 0x2000),
            file(0x8000, 0x9000, 0x4000),
            file(0x9000, 0xa000, 0x4000),
        ] {
            regions.insert(region).unwrap();
        }
        assert_eq!(
            ranges(&regions),
            [(0x1000, 0x4000), (0x4000, 0x5000), (0x6000, 0x9000), (0x9000, 0xa000)]
        );
        assert_eq!(regions.find(0x8000), Some(&file(0x6000, 0x9000, 0x2000)));
        // A full list still grows where nothing is added to it.
        let mut at = 0x10_0000;
        while regions.insert(anonymous(at, at + 0x1000, 3)).is_ok() {
            at += 0x2000;
        }
        assert_eq!(ranges(&regions).len(), MAX_REGIONS);
        regions.insert(anonymous(at - 0x1000, at, 3)).unwrap();
        assert_eq!(regions.insert(anonymous(at, at + 0x1000, 1)), Err(Refused::Full));
    }

    #[test]
    fn removal_cuts_and_the_backing_moves_along() {
        let mut regions = Regions::new();
        regions.insert(region(0x1000, 0x9000)).unwrap();
        let mut gone = Vec::new();
        regions.remove(0x3000, 0x4000, |region| gone.push(region)).unwrap();
        assert_eq!(gone, [region(0x3000, 0x4000)]);
        assert_eq!(ranges(&regions), [(0x1000, 0x3000), (0x4000, 0x9000)]);
        assert_eq!(regions.find(0x4000).unwrap().backing, Backing::Physical { gpa: 0x4000 });
        gone.clear();
        regions.remove(0x2000, 0x5000, |region| gone.push(region)).unwrap();
        assert_eq!(gone, [region(0x2000, 0x3000), region(0x4000, 0x5000)]);
        assert_eq!(ranges(&regions), [(0x1000, 0x2000), (0x5000, 0x9000)]);
        regions.remove(0, u64::MAX, drop).unwrap();
        assert_eq!(ranges(&regions), []);
    }

    #[test]
    fn places_are_lowest_first_and_end() {
        let mut regions = Regions::new();
        regions.insert(region(0x1000, 0x2000)).unwrap();
        assert_eq!(regions.place(PAGE), Some(MMAP_START));
        regions.insert(region(MMAP_START + PAGE, MMAP_START + 2 * PAGE)).unwrap();
        assert_eq!(regions.place(PAGE), Some(MMAP_START));
        assert_eq!(regions.place(2 * PAGE), Some(MMAP_START + 2 * PAGE));
        assert_eq!(regions.place(MMAP_END - MMAP_START), None);
        assert_eq!(regions.place(u64::MAX), None);
        assert_eq!(regions.place(0), None);
    }

    #[test]
    fn the_number_is_bounded() {
        let mut regions = Regions::new();
        regions.insert(region(0, 0x100_0000)).unwrap();
        let mut holes = 0;
        while regions.remove(holes * 0x2000 + 0x1000, holes * 0x2000 + 0x2000, drop).is_ok() {
            holes += 1;
        }
        assert_eq!(ranges(&regions).len(), MAX_REGIONS);
        assert_eq!(regions.insert(region(0x200_0000, 0x200_1000)), Err(Refused::Full));
    }
}
