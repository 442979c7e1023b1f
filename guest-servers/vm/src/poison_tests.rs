use refault_abi::kcall::{PhysRange, privilege};
use refault_abi::layout::{MMAP_START, PAGE};
use refault_abi::{Endpoint, Errno};

use super::*;
use crate::cache::Key;
use crate::frames::Frames;
use crate::memory::{Access, Outcome, Refusal};
use crate::process::Process;
use crate::ram::test::VecRam;
use crate::regions::{Backing, Region, Regions};

const PAGES: u64 = 64;
const READ: Access = Access { write: false, fetch: false };
const WRITE: Access = Access { write: true, fetch: false };
const KEY: Key = Key { device: 1, inode: 2, offset: 0 };

fn memory(counters: &mut [u32]) -> Memory<'_, VecRam> {
    let range = PhysRange { address: PAGE, bytes: (PAGES - 1) * PAGE };
    Memory::new(VecRam::new(PAGES as usize), Frames::new(counters, &[range], &[]), true, None)
}

fn process(memory: &mut Memory<'_, VecRam>, endpoint: Endpoint, backing: Backing) -> Process {
    let root = memory.create_root().unwrap();
    let mut process = Process { endpoint, privilege: privilege::TEST, root, regions: Regions::new() };
    let region = Region { start: MMAP_START, end: MMAP_START + 4 * PAGE, protection: 3, backing };
    memory.add_region(&mut process, region).unwrap();
    process
}

fn ready(memory: &mut Memory<'_, VecRam>, process: &Process, access: Access) -> u64 {
    match memory.resolve(process, MMAP_START, access, false) {
        Outcome::Ready { frame, .. } => frame,
        other => panic!("{other:?}"),
    }
}

/// Asserts that every frame has the holders that were counted.
fn sound<'p>(memory: &Memory<'_, VecRam>, processes: impl IntoIterator<Item = &'p Process>) {
    let audit = memory.audit(processes.into_iter()).unwrap();
    assert_eq!((audit.unclaimed, audit.miscounted), (0, 0));
    assert_eq!(audit.free, memory.frames.free());
}

#[test]
fn a_poisoned_frame_is_nobodys_ever_again_and_the_books_stay_right() {
    let mut counters = [0; PAGES as usize];
    let mut memory = memory(&mut counters);
    let mut owner = process(&mut memory, Endpoint::INIT, Backing::Anonymous);
    let frame = ready(&mut memory, &owner, WRITE);
    assert!(memory.poison(frame));
    assert!(!memory.poison(frame), "once");
    sound(&memory, [&owner]);
    for access in [READ, WRITE] {
        let outcome = memory.resolve(&owner, MMAP_START, access, false);
        assert_eq!(outcome, Outcome::Refused(Refusal::Poisoned), "neither found nor copied");
    }
    // A child has the page as its parent had it: it ends when it touches it.
    let mut child = memory.fork(&owner, &[]).unwrap().process;
    assert_eq!(memory.resolve(&child, MMAP_START, WRITE, false), Outcome::Refused(Refusal::Poisoned));
    sound(&memory, [&owner, &child]);
    let _ = memory.destroy(&mut owner);
    let _ = memory.destroy(&mut child);
    sound(&memory, []);
    assert_eq!(memory.frames.free(), memory.frames.total() - 1);
    assert_eq!(memory.poisoned.frames().collect::<Vec<_>>(), [frame]);
    while let Some(other) = memory.frames.allocate() {
        assert_ne!(other, frame);
    }
}

#[test]
fn a_free_frame_can_be_poisoned_and_a_foreign_one_is_not_counted() {
    let mut counters = [0; PAGES as usize];
    let mut memory = memory(&mut counters);
    let free = memory.frames.free();
    assert!(memory.poison(5 * PAGE));
    assert!(!memory.poison(0), "the kernel's");
    assert!(!memory.poison(PAGES * PAGE), "no RAM");
    assert_eq!((memory.frames.free(), memory.poisoned.len()), (free - 1, 1));
    sound(&memory, []);
}

#[test]
fn a_poisoned_page_of_a_file_is_forgotten_and_cannot_be_announced_again() {
    let mut counters = [0; PAGES as usize];
    let mut memory = memory(&mut counters);
    let mut server = process(&mut memory, Endpoint::MFS, Backing::Anonymous);
    let frame = ready(&mut memory, &server, WRITE);
    memory.announce(&server, 10, KEY, MMAP_START, false).unwrap();
    memory.announce(&server, 10, Key { inode: 3, ..KEY }, MMAP_START, false).unwrap();
    let file = memory.files.add(9, KEY.device, KEY.inode, 3 * PAGE);
    let mut program =
        process(&mut memory, Endpoint::INIT, Backing::File { file, offset: 0, limit: u64::MAX });
    assert_eq!(ready(&mut memory, &program, READ), frame);
    assert!(memory.poison(frame));
    assert!(memory.cache.is_empty(), "under all its names");
    sound(&memory, [&server, &program]);
    let mut late = memory.fork(&program, &[]).unwrap().process;
    assert_eq!(memory.resolve(&late, MMAP_START, READ, false), Outcome::Refused(Refusal::Poisoned));
    assert_eq!(memory.announce(&server, 10, KEY, MMAP_START, false), Err(Errno::EIO));
    for process in [&mut server, &mut program, &mut late] {
        let _ = memory.destroy(process);
    }
    sound(&memory, []);
    assert_eq!(memory.frames.references(frame), 1);
}
