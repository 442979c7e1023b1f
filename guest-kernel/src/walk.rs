//! Translating a user address in software, as the processor would.
//!
//! The one thing to hold in mind: an absent page is an answer here, not an exception, so the kernel's copies
//! meet first-stage faults without any #PF. What is not here: setting accessed and dirty bits; VM does not
//! use them.

use refault_abi::layout::pte;

/// Page tables by physical address.
pub trait Tables {
    /// The entry at physical address `address`; `None` when that is no RAM.
    fn entry(&self, address: u64) -> Option<u64>;
}

/// Why an address does not translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Not present, not for users, or not writable when it should be: VM may change that.
    Absent,
    /// The tables themselves are nonsense.
    Broken,
}

/// The physical address behind `address` in the address space `root`, for a read or a write by the user.
/// `address` lies in the user half.
///
/// Whether an entry is present is looked at on the way, what it permits at the end, for all levels at once.
#[inline(always)]
pub fn translate(tables: &impl Tables, root: u64, address: u64, write: bool) -> Result<u64, Missing> {
    let needed = pte::PRESENT | pte::USER | if write { pte::WRITABLE } else { 0 };
    let next = |table: u64, level: u32| {
        let place = (table & pte::ADDRESS) + (address >> (9 + 9 * level) & 0xff8);
        let entry = tables.entry(place).ok_or(Missing::Broken)?;
        if entry & pte::PRESENT == 0 { Err(Missing::Absent) } else { Ok(entry) }
    };
    let found = |all: u64, entry: u64, level: u32| {
        let below = (1 << (12 + 9 * level)) - 1;
        let physical = entry & pte::ADDRESS & !below | address & below;
        if all & needed == needed { Ok(physical) } else { Err(Missing::Absent) }
    };
    let first = next(root, 3)?;
    let second = next(first, 2)?;
    let all = first & second;
    if second & pte::LARGE != 0 {
        return found(all, second, 2);
    }
    let third = next(second, 1)?;
    let all = all & third;
    if third & pte::LARGE != 0 {
        return found(all, third, 1);
    }
    let last = next(third, 0)?;
    found(all & last, last, 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Fake(BTreeMap<u64, u64>);
    impl Tables for Fake {
        fn entry(&self, address: u64) -> Option<u64> {
            (address < 0x10_0000).then(|| self.0.get(&address).copied().unwrap_or(0))
        }
    }

    const ALL: u64 = pte::PRESENT | pte::USER | pte::WRITABLE;

    fn fake() -> Fake {
        let mut map = BTreeMap::new();
        map.insert(0x1000, 0x2000 | ALL);
        map.insert(0x2000, 0x3000 | ALL);
        map.insert(0x2008, 0x4000_0000 | ALL | pte::LARGE);
        map.insert(0x2010, 0xffff_0000_0000 | ALL);
        map.insert(0x3000, 0x4000 | ALL);
        map.insert(0x3008, 0x60_0000 | ALL | pte::LARGE | pte::NO_EXECUTE);
        map.insert(0x4000, 0x7000 | ALL);
        map.insert(0x4008, 0x8000 | (ALL & !pte::WRITABLE));
        map.insert(0x4010, 0x9000 | (ALL & !pte::USER));
        Fake(map)
    }

    #[test]
    fn table() {
        let cases: &[(u64, bool, Result<u64, Missing>)] = &[
            (0x123, true, Ok(0x7123)),
            (0x1fff, false, Ok(0x8fff)),
            (0x1fff, true, Err(Missing::Absent)),
            (0x2000, false, Err(Missing::Absent)),
            (0x3000, false, Err(Missing::Absent)),
            (0x20_0000 + 0x12345, true, Ok(0x61_2345)),
            (0x4000_0000 + 0x3fff_ffff, true, Ok(0x7fff_ffff)),
            (0x8000_0000, false, Err(Missing::Broken)),
            (0x40_0000, false, Err(Missing::Absent)),
            (1 << 39, false, Err(Missing::Absent)),
        ];
        for (address, write, expected) in cases {
            assert_eq!(translate(&fake(), 0x1000, *address, *write), *expected, "{address:#x}");
        }
    }
}
