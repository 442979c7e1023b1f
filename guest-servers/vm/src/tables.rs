//! Page tables of a process, written through [`Ram`].
//!
//! Four levels as in the Intel SDM volume 3, 4.5, small pages only. The tables belong to VM: a process never
//! sees them, and the kernel only adds its own half to the top level when the process starts.

use refault_abi::layout::{PAGE, USER_END, pte};

use crate::frames::Frames;
use crate::ram::Ram;

/// Entries of a table.
const ENTRIES: u64 = 512;
/// Entries of the top level that are the user half.
const USER_ENTRIES: u64 = 256;

/// No frame for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// GPA of the entry for `address` in the table at `table`; level 4 is the top.
const fn entry(table: u64, level: u32, address: u64) -> u64 {
    let index = (address >> (12 + 9 * (level - 1))) % ENTRIES;
    table + index * 8
}

/// An empty top-level table.
pub fn create(ram: &mut impl Ram, frames: &mut Frames<'_>) -> Result<u64, NoMemory> {
    let root = frames.allocate().ok_or(NoMemory)?;
    ram.zero_page(root);
    Ok(root)
}

/// GPA of the last-level table for `address`, if it is there.
fn last_level(ram: &impl Ram, root: u64, address: u64) -> Option<u64> {
    let mut table = root;
    for level in [4, 3, 2] {
        let value = ram.word(entry(table, level, address));
        if value & pte::PRESENT == 0 {
            return None;
        }
        table = value & pte::ADDRESS;
    }
    Some(table)
}

/// The entry that maps `address`; 0 when nothing does.
pub fn lookup(ram: &impl Ram, root: u64, address: u64) -> u64 {
    if address >= USER_END {
        return 0;
    }
    match last_level(ram, root, address) {
        Some(table) => {
            let value = ram.word(entry(table, 1, address));
            if value & pte::PRESENT != 0 { value } else { 0 }
        }
        None => 0,
    }
}

/// The first page in `[start, end)` that is mapped: its address and the GPA of its entry.
pub fn next_present(ram: &impl Ram, root: u64, start: u64, end: u64) -> Option<(u64, u64)> {
    let mut address = start;
    while address < end.min(USER_END) {
        let Some(table) = last_level(ram, root, address) else {
            // Nothing is mapped in these 2 MiB.
            address = (address | (ENTRIES * PAGE - 1)).saturating_add(1);
            continue;
        };
        let place = entry(table, 1, address);
        if ram.word(place) & pte::PRESENT != 0 {
            return Some((address, place));
        }
        address = address.saturating_add(PAGE);
    }
    None
}

/// Sets the entry for `address`, making the tables above it. Answers the entry that was there.
pub fn set(
    ram: &mut impl Ram,
    frames: &mut Frames<'_>,
    root: u64,
    address: u64,
    value: u64,
) -> Result<u64, NoMemory> {
    if address >= USER_END {
        return Err(NoMemory);
    }
    let mut table = root;
    for level in [4, 3, 2] {
        let place = entry(table, level, address);
        let mut value = ram.word(place);
        if value & pte::PRESENT == 0 {
            let fresh = frames.allocate().ok_or(NoMemory)?;
            ram.zero_page(fresh);
            // Permissions are decided by the last level alone.
            value = fresh | pte::PRESENT | pte::WRITABLE | pte::USER;
            ram.set_word(place, value);
        }
        table = value & pte::ADDRESS;
    }
    let place = entry(table, 1, address);
    let old = ram.word(place);
    ram.set_word(place, value);
    Ok(old)
}

/// Removes the entries of the pages in `[start, end)` and hands each present one to `removed`. Answers
/// whether there was any.
pub fn clear(
    ram: &mut impl Ram,
    root: u64,
    start: u64,
    end: u64,
    mut removed: impl FnMut(&mut Frames<'_>, u64),
    frames: &mut Frames<'_>,
) -> bool {
    let mut any = false;
    let mut from = start;
    while let Some((address, place)) = next_present(ram, root, from, end) {
        let value = ram.word(place);
        ram.set_word(place, 0);
        removed(frames, value);
        any = true;
        from = address.saturating_add(PAGE);
    }
    any
}

/// Hands the frames of an address space to `seen`: its tables, the top one included, and what its user half maps, once for each
/// page that maps it.
pub fn visit(ram: &impl Ram, root: u64, seen: &mut impl FnMut(u64)) {
    visit_table(ram, root, 4, USER_ENTRIES, seen);
}

fn visit_table(ram: &impl Ram, table: u64, level: u32, entries: u64, seen: &mut impl FnMut(u64)) {
    seen(table);
    for index in 0..entries {
        let value = ram.word(table + index * 8);
        if value & pte::PRESENT == 0 {
            continue;
        }
        match level {
            1 => seen(value & pte::ADDRESS),
            _ => visit_table(ram, value & pte::ADDRESS, level - 1, ENTRIES, seen),
        }
    }
}

/// Frees the table pages of the user half, the top one included. What they map must be gone already.
pub fn destroy(ram: &mut impl Ram, frames: &mut Frames<'_>, root: u64) {
    release(ram, frames, root, 4, USER_ENTRIES);
}

fn release(ram: &mut impl Ram, frames: &mut Frames<'_>, table: u64, level: u32, entries: u64) {
    if level > 1 {
        for index in 0..entries {
            let value = ram.word(table + index * 8);
            if value & pte::PRESENT != 0 {
                release(ram, frames, value & pte::ADDRESS, level - 1, ENTRIES);
            }
        }
    }
    frames.release(table);
}

#[cfg(test)]
mod tests {
    use refault_abi::kcall::PhysRange;
    use refault_abi::layout;

    use super::*;
    use crate::ram::test::VecRam;

    #[test]
    fn map_look_up_clear_and_free() {
        let mut ram = VecRam::new(64);
        let mut counters = [0; 64];
        let ranges = [PhysRange { address: PAGE, bytes: 63 * PAGE }];
        let mut frames = Frames::new(&mut counters, &ranges, &[]);
        let root = create(&mut ram, &mut frames).unwrap();
        let bits = pte::PRESENT | pte::USER;
        for (address, gpa) in [(layout::TEXT, 0x20_0000), (layout::STACK_TOP - PAGE, 0x20_1000)] {
            assert_eq!(lookup(&ram, root, address), 0);
            assert_eq!(set(&mut ram, &mut frames, root, address, gpa | bits), Ok(0));
            assert_eq!(lookup(&ram, root, address + 5), gpa | bits);
        }
        // Three levels shared down to the directory, two last-level tables.
        assert_eq!(frames.total() - frames.free(), 5);
        assert_eq!(lookup(&ram, root, layout::DIRECT_MAP), 0);
        assert_eq!(set(&mut ram, &mut frames, root, layout::KERNEL, bits), Err(NoMemory));
        let mut seen = std::vec![];
        let any = clear(
            &mut ram,
            root,
            0,
            layout::USER_END >> 12,
            |_, value| seen.push(value & pte::ADDRESS),
            &mut frames,
        );
        assert!(any);
        assert_eq!(seen, [0x20_0000, 0x20_1000]);
        destroy(&mut ram, &mut frames, root);
        assert_eq!(frames.free(), frames.total());
    }

    #[test]
    fn no_memory_is_said_and_nothing_is_lost() {
        let mut ram = VecRam::new(4);
        let mut counters = [0; 4];
        let mut frames = Frames::new(&mut counters, &[PhysRange { address: PAGE, bytes: 3 * PAGE }], &[]);
        let root = create(&mut ram, &mut frames).unwrap();
        assert_eq!(set(&mut ram, &mut frames, root, layout::TEXT, pte::PRESENT), Err(NoMemory));
        destroy(&mut ram, &mut frames, root);
        assert_eq!(frames.free(), 3);
    }
}
