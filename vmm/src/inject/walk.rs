//! Walking the guest's page tables, through the device view.
//!
//! Four-level long-mode paging (Intel SDM volume 3, chapter 5). The tables are the guest's and may hold anything:
//! an entry that points outside RAM ends the walk. This says where an address leads, not whether the guest may
//! use it.

use std::collections::BTreeSet;

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestMemory;

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRY_SIZE: u64 = 8;

/// The guest physical address that `gva` leads to under the tables at `cr3`.
pub fn translate(memory: &GuestMemory, cr3: u64, gva: u64) -> Option<u64> {
    let canonical = (gva as i64) << 16 >> 16;
    if canonical as u64 != gva {
        return None;
    }
    let mut table = cr3 & ADDRESS;
    for level in [39_u32, 30, 21, 12] {
        let index = gva >> level & 0x1ff;
        let entry: u64 = memory.read_obj(GuestAddress(table.checked_add(index * ENTRY_SIZE)?)).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        let last = level == 12 || (entry & LARGE != 0 && level != 39);
        if last {
            let within = (1_u64 << level) - 1;
            return Some((entry & ADDRESS & !within) | (gva & within));
        }
        table = entry & ADDRESS;
    }
    None
}

/// The pages that the tables at `cr3` are in, the root included.
pub fn tables(memory: &GuestMemory, cr3: u64) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut level = BTreeSet::from([cr3 & ADDRESS]);
    for depth in 0..4 {
        let mut next = BTreeSet::new();
        for table in level {
            let mut bytes = [0; 4096];
            if memory.read_slice(&mut bytes, GuestAddress(table)).is_err()
                || !found.insert(table)
                || depth == 3
            {
                continue;
            }
            let entries = bytes.as_chunks().0.iter().map(|entry| u64::from_le_bytes(*entry));
            let deeper = entries.filter(|entry| entry & PRESENT != 0 && (depth == 0 || entry & LARGE == 0));
            next.extend(deeper.map(|entry| entry & ADDRESS));
        }
        level = next;
    }
    found
}

/// Roots of other processes' tables: pages of RAM whose upper half, the kernel's, is the same as that of the tables at `cr3`.
pub fn roots_like(memory: &GuestMemory, cr3: u64, pages: impl Iterator<Item = u64>) -> Vec<u64> {
    const HALF: u64 = 2048;
    let upper = |page: u64| -> Option<[u8; HALF as usize]> {
        let mut bytes = [0; HALF as usize];
        memory.read_slice(&mut bytes, GuestAddress(page.checked_add(HALF)?)).ok()?;
        Some(bytes)
    };
    let Some(model) = upper(cr3 & ADDRESS) else { return Vec::new() };
    // The first entry that is not empty tells most pages apart.
    let entries = model.as_chunks::<8>().0;
    let Some(first) = entries.iter().position(|entry| u64::from_le_bytes(*entry) & PRESENT != 0) else {
        return Vec::new();
    };
    let Some(told) = entries.get(first).map(|entry| u64::from_le_bytes(*entry)) else { return Vec::new() };
    let like = |page: &u64| {
        let at = page.checked_add(HALF + first as u64 * ENTRY_SIZE);
        at.and_then(|at| memory.read_obj::<u64>(GuestAddress(at)).ok()) == Some(told)
            && upper(*page) == Some(model)
    };
    pages.filter(like).collect()
}

/// Up to `buffer.len()` bytes from `gva` on; how many were readable.
pub fn read(memory: &GuestMemory, cr3: u64, gva: u64, buffer: &mut [u8]) -> usize {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
        let at = gva.wrapping_add(done as u64);
        let in_page = (4096 - (at & 0xfff)) as usize;
        let Some(gpa) = translate(memory, cr3, at) else { break };
        let len = rest.len().min(in_page);
        let Some(part) = rest.get_mut(..len) else { break };
        if memory.read_slice(part, GuestAddress(gpa)).is_err() {
            break;
        }
        done += len;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestRam;

    /// Tables at 0x1000: 2 MiB page for 0xffff_8000_0020_0000, 4 KiB page for 0x40_3000 -> 0x7000.
    fn ram() -> GuestRam {
        let ram = GuestRam::new(4 << 20).unwrap();
        let set = |at: u64, value: u64| ram.device_view().write_obj(value, GuestAddress(at)).unwrap();
        set(0x1000 + 256 * 8, 0x2000 | 3);
        set(0x2000, 0x3000 | 3);
        set(0x3000 + 8, 0x20_0000 | 0x83);
        set(0x1000, 0x4000 | 7);
        set(0x4000, 0x5000 | 7);
        set(0x5000 + 2 * 8, 0x6000 | 7);
        set(0x6000 + 3 * 8, 0x7000 | 7 | 1 << 63);
        set(0x6000 + 4 * 8, 0xffff_f000 | 7);
        ram
    }

    #[test]
    fn small_and_large_pages() {
        let ram = ram();
        let m = ram.device_view();
        assert_eq!(translate(m, 0x1000, 0xffff_8000_0020_1234), Some(0x20_1234));
        assert_eq!(translate(m, 0x1fff, 0x40_3456), Some(0x7456));
        assert_eq!(translate(m, 0x1000, 0x40_5000), None);
        assert_eq!(translate(m, 0x1000, 0x1_0000_0000_0000), None);
        assert_eq!(translate(m, u64::MAX, 0x40_3456), None);
    }

    #[test]
    fn tables_are_found_and_those_of_others_by_their_kernel_half() {
        let ram = ram();
        let m = ram.device_view();
        assert_eq!(
            tables(m, 0x1000).into_iter().collect::<Vec<_>>(),
            [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000]
        );
        m.write_obj(0x2003_u64, GuestAddress(0x9000 + 256 * 8)).unwrap();
        m.write_obj(0x2003_u64, GuestAddress(0xa000 + 256 * 8)).unwrap();
        m.write_obj(1_u64, GuestAddress(0xa000 + 300 * 8)).unwrap();
        let pages = || (0..16).map(|page| page * 4096);
        assert_eq!(roots_like(m, 0x1000, pages()), [0x1000, 0x9000]);
        assert!(roots_like(m, 0xb000, pages()).is_empty());
    }

    #[test]
    fn reading_stops_where_nothing_is_mapped() {
        let ram = ram();
        let m = ram.device_view();
        m.write_slice(&[1, 2, 3, 4], GuestAddress(0x7ffc)).unwrap();
        let mut bytes = [0; 15];
        assert_eq!(read(m, 0x1000, 0x40_3ffc, &mut bytes), 4);
        assert_eq!(&bytes[..4], &[1, 2, 3, 4]);
        assert_eq!(read(m, 0x1000, 0x99_0000, &mut bytes), 0);
    }
}
