//! Fork against a plain model: every process's bytes, one after the other, with nothing shared.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use refault_abi::kcall::PhysRange;
use refault_abi::layout::MMAP_START;
use refault_abi::vm::{PROT_READ, PROT_WRITE};

use super::*;
use crate::cache::Key;
use crate::frames::Frames;
use crate::memory::{Access, How, Outcome};
use crate::ram::test::VecRam;
use crate::regions::Regions;

const READ: Access = Access { write: false, fetch: false };
const WRITE: Access = Access { write: true, fetch: false };
const RW: u32 = PROT_READ | PROT_WRITE;
/// Pages of a file, the last one half full, and how it is announced.
const FILE_PAGES: u64 = 5;
const FILE_BYTES: u64 = (FILE_PAGES - 1) * PAGE + PAGE / 2;

/// Repeatable numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

fn memory(counters: &mut [u32], bug: Option<Bug>) -> Memory<'_, VecRam> {
    let pages = counters.len();
    let ranges = [PhysRange { address: PAGE, bytes: (pages as u64 - 1) * PAGE }];
    let frames = Frames::new(counters, &ranges, &[]);
    Memory::new(VecRam::new(pages), frames, true, bug)
}

fn process(memory: &mut Memory<'_, VecRam>, endpoint: Endpoint, class: u32) -> Process {
    let root = memory.create_root().unwrap();
    Process { endpoint, privilege: class, root, regions: Regions::new() }
}

fn region(start: u64, pages: u64, protection: u32, backing: Backing) -> Region {
    Region { start, end: start + pages * PAGE, protection, backing }
}

fn ready(outcome: Outcome) -> (u64, How) {
    match outcome {
        Outcome::Ready { frame, how } => (frame, how),
        other => panic!("{other:?}"),
    }
}

/// What the file has at `offset`, also behind its end: a disk block is never half a block.
fn file_byte(offset: u64) -> u8 {
    (offset / PAGE * 31 + offset % 251) as u8
}

/// A file system that has announced every page of the file.
fn file_system(memory: &mut Memory<'_, VecRam>) -> Process {
    let mut fs = process(memory, Endpoint::MFS, privilege::SERVER);
    memory.add_region(&mut fs, region(MMAP_START, FILE_PAGES, RW, Backing::Anonymous)).unwrap();
    for page in 0..FILE_PAGES {
        let address = MMAP_START + page * PAGE;
        let (frame, _) = ready(memory.resolve(&fs, address, WRITE, false));
        let bytes: Vec<u8> = (0..PAGE).map(|at| file_byte(page * PAGE + at)).collect();
        memory.ram.write(frame, &bytes);
        memory.announce(&fs, 10, Key { device: 1, inode: 2, offset: page * PAGE }, address, false).unwrap();
    }
    fs
}

/// A process and what its memory should hold: a byte per page is enough, at a place that says which page it is.
struct Twin {
    process: Process,
    model: BTreeMap<u64, Vec<u8>>,
}

impl Twin {
    fn check(&self, memory: &mut Memory<'_, VecRam>, page: u64) {
        let expected = &self.model[&page];
        let (frame, _) = ready(memory.resolve(&self.process, page, READ, false));
        assert_eq!(memory.ram.bytes(frame, PAGE as usize), expected, "page {page:#x}");
    }

    /// A write as the processor would make it: to the frame that the entry names, if it allows that.
    fn write(&mut self, memory: &mut Memory<'_, VecRam>, page: u64, at: usize, byte: u8) {
        let entry = tables::lookup(&memory.ram, self.process.root, page);
        let frame = if entry & pte::WRITABLE != 0 {
            entry & pte::ADDRESS
        } else {
            ready(memory.resolve(&self.process, page, WRITE, false)).0
        };
        let entry = tables::lookup(&memory.ram, self.process.root, page);
        assert_eq!((entry & pte::WRITABLE, entry & pte::ADDRESS), (pte::WRITABLE, frame));
        memory.ram.write(frame + at as u64, &[byte]);
        self.model.get_mut(&page).unwrap()[at] = byte;
    }

    /// Maps zeros or the file; whether it was the file.
    fn map(&mut self, memory: &mut Memory<'_, VecRam>, numbers: &mut Numbers, handle: u64) -> bool {
        let pages = 1 + numbers.below(FILE_PAGES as usize) as u64;
        let start = self.process.regions.place(pages * PAGE).unwrap();
        let is_file = numbers.below(2) == 0;
        let backing = if is_file {
            let file = memory.files.add(handle, 1, 2, FILE_BYTES);
            Backing::File { file, offset: 0, limit: u64::MAX }
        } else {
            Backing::Anonymous
        };
        memory.add_region(&mut self.process, region(start, pages, RW, backing)).unwrap();
        for page in 0..pages {
            let byte = |at: u64| if is_file && at < FILE_BYTES { file_byte(at) } else { 0 };
            let bytes = (0..PAGE).map(|at| byte(page * PAGE + at)).collect();
            self.model.insert(start + page * PAGE, bytes);
        }
        is_file
    }

    fn fork(&self, memory: &mut Memory<'_, VecRam>, endpoint: Endpoint) -> Option<Twin> {
        let mut forked = memory.fork(&self.process, &[]).ok()?;
        forked.process.endpoint = endpoint;
        Some(Twin { process: forked.process, model: self.model.clone() })
    }
}

#[test]
fn random_families_keep_their_memories_apart_and_leave_nothing_behind() {
    for seed in 1..=40u64 {
        // Some worlds are small enough to run out of memory.
        let frames = if seed % 4 == 0 { 260 } else { 2000 };
        let mut counters = vec![0; frames];
        let mut memory = memory(&mut counters, None);
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut fs = file_system(&mut memory);
        let mut open: Vec<u64> = Vec::new();
        let mut handle = 100;
        let first = process(&mut memory, Endpoint::INIT, privilege::USER);
        let mut twins = vec![Twin { process: first, model: BTreeMap::new() }];
        let mut forks = 0;
        for _ in 0..400 {
            let which = numbers.below(twins.len());
            let pages: Vec<u64> = twins[which].model.keys().copied().collect();
            match numbers.below(16) {
                0 | 1 if twins.len() < 8 => {
                    let endpoint = Endpoint::new(1 + forks, 12);
                    if let Some(child) = twins[which].fork(&mut memory, endpoint) {
                        twins.push(child);
                        forks += 1;
                    }
                }
                2 if pages.len() < 24 => {
                    handle += 1;
                    if twins[which].map(&mut memory, &mut numbers, handle) {
                        open.push(handle);
                    }
                }
                3 if !pages.is_empty() => {
                    let start = pages[numbers.below(pages.len())];
                    let end = start + (1 + numbers.below(3) as u64) * PAGE;
                    let twin = &mut twins[which];
                    let unmapped = memory.unmap(&mut twin.process, start, end).unwrap();
                    twin.model.retain(|page, _| *page < start || *page >= end);
                    for handle in unmapped.handles {
                        let index = open.iter().position(|each| *each == handle);
                        open.swap_remove(index.expect("released once"));
                    }
                }
                4 if twins.len() > 1 => {
                    let mut twin = twins.swap_remove(which);
                    for handle in memory.destroy(&mut twin.process).handles {
                        let index = open.iter().position(|each| *each == handle);
                        open.swap_remove(index.expect("released once"));
                    }
                }
                5..10 if !pages.is_empty() => {
                    twins[which].check(&mut memory, pages[numbers.below(pages.len())]);
                }
                _ if !pages.is_empty() => {
                    let page = pages[numbers.below(pages.len())];
                    let (at, byte) = (numbers.below(PAGE as usize), numbers.below(256) as u8);
                    // Room for a copy and its table, or the write could not be made.
                    if memory.frames.free() > 40 {
                        twins[which].write(&mut memory, page, at, byte);
                    }
                }
                _ => {}
            }
        }
        assert!(forks > 3, "seed {seed}: {forks} forks");
        for mut twin in twins {
            for page in twin.model.keys() {
                if memory.frames.free() > 40 {
                    twin.check(&mut memory, *page);
                }
            }
            for handle in memory.destroy(&mut twin.process).handles {
                let index = open.iter().position(|each| *each == handle);
                open.swap_remove(index.expect("released once"));
            }
        }
        assert!(open.is_empty() && memory.files.is_empty());
        // What the file system has was never written to.
        for page in 0..FILE_PAGES {
            let (frame, _) = ready(memory.resolve(&fs, MMAP_START + page * PAGE, READ, false));
            assert!((0..PAGE).all(|at| memory.ram.bytes(frame + at, 1) == [file_byte(page * PAGE + at)]));
        }
        let _ = memory.destroy(&mut fs);
        memory.forget_owner(10);
        assert_eq!(memory.frames.free(), memory.frames.total(), "seed {seed}");
    }
}

/// Parent and child with one page each wrote once before the fork.
fn pair<'m>(counters: &'m mut [u32], bug: Option<Bug>) -> (Memory<'m, VecRam>, Process, Process) {
    let mut memory = memory(counters, bug);
    let mut parent = process(&mut memory, Endpoint::INIT, privilege::TEST);
    memory.add_region(&mut parent, region(MMAP_START, 2, RW, Backing::Anonymous)).unwrap();
    let (frame, _) = ready(memory.resolve(&parent, MMAP_START, WRITE, false));
    memory.ram.write(frame, &[7; 8]);
    let forked = memory.fork(&parent, &[]).unwrap();
    assert_eq!(forked.shared, 1);
    (memory, parent, forked.process)
}

#[test]
fn the_last_one_gets_the_page_back() {
    let mut counters = [0; 64];
    let (mut memory, mut parent, mut child) = pair(&mut counters, None);
    let (shared, how) = ready(memory.resolve(&parent, MMAP_START, READ, false));
    assert_eq!((memory.frames.references(shared), how), (2, How::Already));
    let (own, how) = ready(memory.resolve(&child, MMAP_START, WRITE, false));
    assert_eq!((how, memory.ram.bytes(own, 8)), (How::Copied, &[7; 8][..]));
    // The page that was absent is each one's own.
    let fresh = [&parent, &child].map(|each| ready(memory.resolve(each, MMAP_START + PAGE, WRITE, false)).0);
    assert_ne!(fresh[0], fresh[1]);
    assert_eq!(ready(memory.resolve(&parent, MMAP_START, WRITE, false)), (shared, How::Upgraded));
    let _ = (memory.destroy(&mut parent), memory.destroy(&mut child));
    assert_eq!(memory.frames.free(), memory.frames.total());
}

#[test]
fn the_seeded_bug_lets_a_write_through() {
    let mut counters = [0; 64];
    let (mut memory, parent, child) = pair(&mut counters, Some(Bug::ForkShares));
    let outcomes = [&parent, &child].map(|each| ready(memory.resolve(each, MMAP_START, WRITE, false)));
    if Bug::COMPILED_IN {
        assert_eq!(outcomes[0], outcomes[1]);
    } else {
        assert_ne!(outcomes[0].0, outcomes[1].0, "an ordinary build has no bugs");
    }
}

#[test]
fn a_fork_without_memory_changes_nothing() {
    let mut counters = [0; 64];
    let (mut memory, mut parent, mut child) = pair(&mut counters, None);
    let _ = memory.destroy(&mut child);
    let before = memory.frames.free();
    // Whatever number of tables there is room for, the copy is whole or is not.
    let held: Vec<u64> = core::iter::from_fn(|| memory.frames.allocate()).collect();
    let mut refused = 0;
    for (left, frame) in held.iter().enumerate() {
        match memory.fork(&parent, &[]) {
            Ok(mut forked) => {
                let _ = memory.destroy(&mut forked.process);
            }
            Err(refusal) => {
                refused += 1;
                assert_eq!(refusal, Refusal::NoMemory);
            }
        }
        assert_eq!(memory.frames.free(), left as u64);
        memory.frames.release(*frame);
    }
    assert!(refused > 0 && memory.frames.free() == before);
    assert_eq!(ready(memory.resolve(&parent, MMAP_START, WRITE, false)).1, How::Upgraded);
    let _ = memory.destroy(&mut parent);
}

#[test]
fn servers_and_owners_of_devices_are_not_copied() {
    let mut counters = [0; 64];
    let mut memory = memory(&mut counters, None);
    let server = process(&mut memory, Endpoint::MFS, privilege::SERVER);
    assert_eq!(memory.fork(&server, &[]).err(), Some(Refusal::Invalid));
    let mut owner = process(&mut memory, Endpoint::INIT, privilege::USER);
    let device = region(MMAP_START, 1, RW, Backing::Physical { gpa: 0xf000_0000 });
    memory.add_region(&mut owner, device).unwrap();
    assert_eq!(memory.fork(&owner, &[]).err(), Some(Refusal::Invalid));
}

#[test]
fn the_kernels_pages_are_the_childs_as_well() {
    const KERNEL_PAGE: u64 = 0x3fe0_0000;
    let mut counters = [0; 64];
    let mut memory = memory(&mut counters, None);
    let parent = process(&mut memory, Endpoint::INIT, privilege::USER);
    let entry = 0x9_0000_0000 | pte::PRESENT | pte::USER;
    memory.map(parent.root, KERNEL_PAGE, entry).unwrap();
    let forked = memory.fork(&parent, &[KERNEL_PAGE, KERNEL_PAGE + PAGE]).unwrap();
    assert_eq!(tables::lookup(&memory.ram, forked.process.root, KERNEL_PAGE), entry);
    assert_eq!(tables::lookup(&memory.ram, forked.process.root, KERNEL_PAGE + PAGE), 0);
}
