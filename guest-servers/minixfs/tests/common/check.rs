//! A judge of images that shares nothing with the library: it reads the bytes by itself and says all that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

const BLOCK: usize = 1024;

struct Judge<'a> {
    bytes: &'a [u8],
    inodes: usize,
    first_zone: usize,
    zones: usize,
    table: usize,
    owners: BTreeMap<usize, usize>,
    wrong: Vec<String>,
}

/// Everything that is wrong with a volume of blocks of 1024 bytes.
pub fn check(bytes: &[u8]) -> Vec<String> {
    let half = |at: usize| usize::from(u16::from_le_bytes([bytes[BLOCK + at], bytes[BLOCK + at + 1]]));
    let (imap, zmap) = (2, 2 + half(6));
    let mut judge = Judge {
        bytes,
        inodes: word(bytes, BLOCK),
        first_zone: half(10),
        zones: word(bytes, BLOCK + 20),
        table: zmap + half(8),
        owners: BTreeMap::new(),
        wrong: Vec::new(),
    };
    let links = judge.walk();
    for number in 1..=judge.inodes {
        let at = judge.inode(number);
        let counted = usize::from(u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]));
        let found = links.get(&number).copied().unwrap_or(0);
        judge.expect(counted == found, || format!("inode {number} counts {counted} links of {found}"));
        judge.expect(bit(bytes, imap, number) == (found > 0), || format!("bit of inode {number}"));
        judge.expect(found > 0 || bytes[at..at + 2] == [0, 0], || format!("mode of free inode {number}"));
    }
    for zone in judge.first_zone..judge.zones {
        let used = judge.owners.contains_key(&zone);
        let marked = bit(bytes, zmap, zone - judge.first_zone + 1);
        judge.expect(used == marked, || format!("zone {zone}: used {used}, marked {marked}"));
    }
    judge.wrong
}

impl Judge<'_> {
    fn expect(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.wrong.push(what());
        }
    }

    fn inode(&self, number: usize) -> usize {
        self.table * BLOCK + (number - 1) * 64
    }

    /// Links found of every inode that can be reached.
    fn walk(&mut self) -> BTreeMap<usize, usize> {
        let mut links = BTreeMap::from([(1, 2)]);
        let mut waiting = vec![(1, 1)];
        self.blocks(1);
        while let Some((directory, parent)) = waiting.pop() {
            let size = word(self.bytes, self.inode(directory) + 8);
            let blocks = self.blocks_of(directory);
            self.expect(size.is_multiple_of(64) && size >= 128, || {
                format!("directory {directory} of {size} bytes")
            });
            let mut names = BTreeSet::new();
            for index in 0..size / 64 {
                let Some(&zone) = blocks.get(&(index / 16)) else {
                    self.wrong.push(format!("a hole in directory {directory}"));
                    break;
                };
                let at = zone * BLOCK + index % 16 * 64;
                let target = word(self.bytes, at);
                let name = self.bytes[at + 4..at + 64].split(|&byte| byte == 0).next().unwrap().to_vec();
                let text = String::from_utf8_lossy(&name).to_string();
                if index < 2 {
                    let right = [(b".".to_vec(), directory), (b"..".to_vec(), parent)];
                    self.expect((name, target) == right[index], || {
                        format!("{directory}: {text} is {target}")
                    });
                    continue;
                }
                if target == 0 {
                    continue;
                }
                let proper = !name.is_empty() && !name.contains(&b'/') && !text.bytes().all(|b| b == b'.');
                self.expect(proper && names.insert(name), || format!("{directory}: the name {text}"));
                if target > self.inodes {
                    self.wrong.push(format!("{directory}: {text} is {target}"));
                    continue;
                }
                let is_directory = self.bytes[self.inode(target) + 1] >> 4 == 4;
                self.expect(self.bytes[self.inode(target) + 1] != 0, || format!("{text} is free"));
                let first = !links.contains_key(&target);
                *links.entry(target).or_insert(0) += 1;
                if first {
                    self.blocks(target);
                }
                if is_directory {
                    self.expect(first, || format!("directory {target} has two names"));
                    if first {
                        *links.get_mut(&target).unwrap() += 1;
                        *links.get_mut(&directory).unwrap() += 1;
                        waiting.push((target, directory));
                    }
                }
            }
        }
        links
    }

    /// Notes the owner of every zone of an inode.
    fn blocks(&mut self, number: usize) {
        let size = word(self.bytes, self.inode(number) + 8);
        let mut all = Vec::new();
        let blocks = self.tree(number, &mut all);
        for zone in all {
            let before = self.owners.insert(zone, number);
            self.expect(before.is_none(), || format!("zone {zone} is of {before:?} and of {number}"));
        }
        let last = blocks.keys().next_back().copied();
        self.expect(last.is_none_or(|last| last * BLOCK < size.max(1)), || {
            format!("inode {number} of {size} bytes has block {last:?}")
        });
    }

    fn blocks_of(&mut self, number: usize) -> BTreeMap<usize, usize> {
        self.tree(number, &mut Vec::new())
    }

    /// File blocks with their zones; `all` gets these and the indirect ones.
    fn tree(&mut self, number: usize, all: &mut Vec<usize>) -> BTreeMap<usize, usize> {
        let mut found = BTreeMap::new();
        if matches!(self.bytes[self.inode(number) + 1] >> 4, 4 | 8 | 10) {
            let mut first = 0;
            for slot in 0..10 {
                let depth = slot.max(6) - 6;
                let zone = word(self.bytes, self.inode(number) + 24 + slot * 4);
                self.below(number, zone, depth, first, all, &mut found);
                first += 256usize.pow(depth as u32);
            }
        }
        found
    }

    fn below(
        &mut self,
        number: usize,
        zone: usize,
        depth: usize,
        first: usize,
        all: &mut Vec<usize>,
        found: &mut BTreeMap<usize, usize>,
    ) {
        if zone == 0 {
            return;
        }
        if zone < self.first_zone || zone >= self.zones {
            self.wrong.push(format!("inode {number} has zone {zone}"));
            return;
        }
        all.push(zone);
        if depth == 0 {
            found.insert(first, zone);
            return;
        }
        for index in 0..256 {
            let next = word(self.bytes, zone * BLOCK + index * 4);
            self.below(number, next, depth - 1, first + index * 256usize.pow(depth as u32 - 1), all, found);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn bit(bytes: &[u8], map: usize, bit: usize) -> bool {
    bytes[map * BLOCK + bit / 8] >> (bit % 8) & 1 != 0
}
