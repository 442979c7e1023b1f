use refault_abi::Endpoint;
use refault_abi::kcall::{PhysRange, privilege};
use refault_abi::layout::{MMAP_START, STUB, pte};
use refault_abi::vm::{PROT_READ, PROT_WRITE};
use std::vec::Vec;

use super::*;
use crate::cache::Key;
use crate::frames::Frames;
use crate::memory::{Access, Outcome};
use crate::ram::test::VecRam;
use crate::regions::{Backing, Region, Regions};

const PAGES: usize = 128;
const READ: Access = Access { write: false, fetch: false };
const WRITE: Access = Access { write: true, fetch: false };
const RW: u32 = PROT_READ | PROT_WRITE;
const KEY: Key = Key { device: 1, inode: 2, offset: 0 };

fn memory(counters: &mut [u32]) -> Memory<'_, VecRam> {
    let ranges = [PhysRange { address: 2 * PAGE, bytes: (PAGES as u64 - 2) * PAGE }];
    Memory::new(VecRam::new(PAGES), Frames::new(counters, &ranges, &[]), true, None)
}

fn process(memory: &mut Memory<'_, VecRam>, endpoint: Endpoint, backing: Backing) -> Process {
    let root = memory.create_root().unwrap();
    let mut process = Process { endpoint, privilege: privilege::USER, root, regions: Regions::new() };
    let region = Region { start: MMAP_START, end: MMAP_START + 4 * PAGE, protection: RW, backing };
    memory.add_region(&mut process, region).unwrap();
    process
}

fn touch(memory: &mut Memory<'_, VecRam>, process: &Process, page: u64, access: Access) -> u64 {
    match memory.resolve(process, MMAP_START + page * PAGE, access, false) {
        Outcome::Ready { frame, .. } => frame,
        other => panic!("{other:?}"),
    }
}

/// Asserts that there are no others than free and held frames, and how many are held.
fn held<'p>(memory: &Memory<'_, VecRam>, processes: impl IntoIterator<Item = &'p Process>) -> u64 {
    let audit = memory.audit(processes.into_iter()).unwrap();
    assert_eq!((audit.unclaimed, audit.miscounted), (0, 0));
    assert_eq!(audit.free, memory.frames.free());
    assert_eq!(audit.free + audit.held, memory.frames.total());
    audit.held
}

/// A file system with a page announced, a program that maps it and has a page of its own, and its copy.
fn family(memory: &mut Memory<'_, VecRam>) -> Vec<Process> {
    let server = process(memory, Endpoint::MFS, Backing::Anonymous);
    touch(memory, &server, 0, WRITE);
    memory.announce(&server, 10, KEY, MMAP_START, false).unwrap();
    let file = memory.files.add(9, KEY.device, KEY.inode, 3 * PAGE);
    let mut program = process(memory, Endpoint::INIT, Backing::File { file, offset: 0, limit: u64::MAX });
    let own = Region {
        start: MMAP_START + 8 * PAGE,
        end: MMAP_START + 9 * PAGE,
        protection: RW,
        backing: Backing::Anonymous,
    };
    memory.add_region(&mut program, own).unwrap();
    touch(memory, &program, 0, READ);
    touch(memory, &program, 8, WRITE);
    // A page of the kernel's, which is nobody's to count.
    memory.map(program.root, STUB, PAGE | pte::PRESENT | pte::USER).unwrap();
    let copy = memory.fork(&program, &[STUB]).unwrap().process;
    Vec::from([server, program, copy])
}

#[test]
fn every_frame_has_the_holders_that_were_counted() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    assert_eq!(held(&memory, []), 0);
    let mut processes = family(&mut memory);
    // Each has the top level, a directory for each gigabyte and a table for each two megabytes that it uses, and the file's page and
    // the program's are one each.
    let before = held(&memory, &processes);
    assert_eq!(before, memory.frames.total() - memory.frames.free());
    touch(&mut memory, &processes[2], 8, WRITE);
    assert_eq!(held(&memory, &processes), before + 1, "a copy of the page that was shared");
    memory.quarantine(&processes[0]);
    assert_eq!(held(&memory, &processes), before + 1);
    let mut server = processes.remove(0);
    let _ = memory.destroy(&mut server);
    held(&memory, &processes);
    memory.forget(KEY);
    assert!(memory.retire(Endpoint::MFS));
    held(&memory, &processes);
    for mut process in processes {
        let _ = memory.destroy(&mut process);
    }
    assert_eq!(held(&memory, []), 0);
}

#[test]
fn what_nobody_holds_is_unclaimed() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let mut processes = family(&mut memory);
    let lost = memory.allocate().unwrap();
    let audit = memory.audit(processes.iter()).unwrap();
    assert_eq!((audit.unclaimed, audit.miscounted), (1, 0));
    memory.frames.release(lost);
    held(&memory, &processes);
    // Whoever is forgotten takes along what is his alone: his tables, but not the pages that others have too.
    let mut forgotten = processes.pop().unwrap();
    let audit = memory.audit(processes.iter()).unwrap();
    assert!(audit.unclaimed >= 4, "{audit:?}");
    assert_eq!(audit.miscounted, 2, "the file's page and the shared one");
    // The mistake that a build can be told to have.
    memory.frames.acquire(forgotten.root);
    let _ = memory.destroy(&mut forgotten);
    let audit = memory.audit(processes.iter()).unwrap();
    assert_eq!((audit.unclaimed, audit.miscounted), (1, 0));
}

#[test]
fn a_wrong_count_is_seen_in_both_directions() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let processes = family(&mut memory);
    let page = memory.cache.get(KEY).unwrap().frame;
    memory.frames.acquire(page);
    assert_eq!(memory.audit(processes.iter()).unwrap().miscounted, 1);
    memory.frames.release(page);
    held(&memory, &processes);
    // Freed while it is mapped: the next to allocate would share it.
    while memory.frames.references(page) > 0 {
        memory.frames.release(page);
    }
    let audit = memory.audit(processes.iter()).unwrap();
    assert_eq!((audit.miscounted, audit.unclaimed), (1, 0));
}
