//! Marks that could not be stored, because the page of their grant's entry was not there for writing.
//!
//! The one thing to hold in mind: a mark may come late, but never later than its granter's next look at the entry. The granter
//! reads in ring 3, so it is enough to store its marks whenever it is about to return there: if the page has come back, they
//! are in it, and if it has not, the look is a page fault, behind which the granter leaves the kernel again. What is not here:
//! the seed's system, which loses such marks.

use refault_abi::{Endpoint, GrantId};

/// How many are remembered. When there is no room, a copy waits for its page instead of failing with a mark.
pub const MARKS: usize = 64;

/// A mark to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Whose grant.
    pub granter: Endpoint,
    /// The address space it lies in.
    pub root: u64,
    /// Address of the entry.
    pub entry: u64,
    /// Which grant.
    pub id: GrantId,
    /// Mark bits.
    pub bits: u16,
    /// The address that faulted.
    pub fault: u64,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Marks {
    list: [Option<Remembered>; MARKS],
}

impl Marks {
    /// None.
    pub const EMPTY: Marks = Marks { list: [None; MARKS] };

    /// Remembers a mark, together with what is already remembered of the same grant. `alive` says which granters still exist:
    /// the marks of others are forgotten. Whether there was room.
    pub fn remember(&mut self, mark: Remembered, alive: impl Fn(Endpoint) -> bool) -> bool {
        let mut room = None;
        for (index, place) in self.list.iter_mut().enumerate() {
            match place {
                Some(old) if !alive(old.granter) => *place = None,
                Some(old)
                    if (old.granter, old.root, old.entry, old.id)
                        == (mark.granter, mark.root, mark.entry, mark.id) =>
                {
                    old.bits |= mark.bits;
                    old.fault = mark.fault;
                    return true;
                }
                _ => {}
            }
            if place.is_none() {
                room = room.or(Some(index));
            }
        }
        let place = room.and_then(|index| self.list.get_mut(index));
        let found = place.is_some();
        if let Some(place) = place {
            *place = Some(mark);
        }
        found
    }

    /// Forgets the marks of `granter`, which runs another program now.
    pub fn forget(&mut self, granter: Endpoint) {
        self.deliver(granter, |_| true);
    }

    /// Has `store` try to store the marks of `granter`; those of which it says that it is done are forgotten. How many are left.
    pub fn deliver(&mut self, granter: Endpoint, mut store: impl FnMut(&Remembered) -> bool) -> usize {
        let mut left = 0;
        for place in &mut self.list {
            let Some(mark) = place else { continue };
            if mark.granter != granter {
                continue;
            }
            if store(mark) {
                *place = None;
            } else {
                left += 1;
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(granter: Endpoint, index: u32, bits: u16) -> Remembered {
        let entry = 0x1000 + u64::from(index) * 64;
        Remembered { granter, root: 0x5000, entry, id: GrantId::new(index, 1), bits, fault: u64::from(bits) }
    }

    #[test]
    fn marks_of_one_grant_are_one() {
        let mut marks = Marks::EMPTY;
        assert!(marks.remember(mark(Endpoint::VFS, 1, 1), |_| true));
        assert!(marks.remember(mark(Endpoint::VFS, 1, 4), |_| true));
        assert!(marks.remember(mark(Endpoint::MFS, 1, 2), |_| true));
        let mut seen = Vec::new();
        // The page is not there yet, and then it is.
        assert_eq!(marks.deliver(Endpoint::VFS, |_| false), 1);
        let left = marks.deliver(Endpoint::VFS, |mark| {
            seen.push((mark.bits, mark.fault));
            true
        });
        assert_eq!((left, seen), (0, vec![(5, 4)]));
        assert_eq!(marks.deliver(Endpoint::VFS, |_| true), 0);
        assert_eq!(marks.deliver(Endpoint::MFS, |_| false), 1);
    }

    #[test]
    fn another_program_has_no_marks_and_takes_no_room() {
        let mut marks = Marks::EMPTY;
        for index in 0..MARKS as u32 {
            let granter = if index == 0 { Endpoint::MFS } else { Endpoint::VFS };
            assert!(marks.remember(mark(granter, index, 1), |_| true));
        }
        marks.forget(Endpoint::VFS);
        assert!(marks.remember(mark(Endpoint::VFS, 99, 2), |_| true));
        assert_eq!(marks.deliver(Endpoint::VFS, |mark| mark.bits == 2), 0);
        assert_eq!(marks.deliver(Endpoint::MFS, |_| false), 1, "others keep theirs");
    }

    #[test]
    fn room_is_that_of_the_living() {
        let mut marks = Marks::EMPTY;
        for index in 0..MARKS as u32 {
            assert!(marks.remember(mark(Endpoint::VFS, index, 1), |_| true));
        }
        assert!(!marks.remember(mark(Endpoint::VFS, 99, 1), |_| true), "full");
        assert!(marks.remember(mark(Endpoint::VFS, 7, 2), |_| true), "known grants need no room");
        assert!(marks.remember(mark(Endpoint::MFS, 99, 1), |granter| granter == Endpoint::MFS));
        assert_eq!(marks.deliver(Endpoint::VFS, |_| false), 0, "the dead have no marks");
        assert_eq!(marks.deliver(Endpoint::MFS, |_| false), 1);
    }
}
