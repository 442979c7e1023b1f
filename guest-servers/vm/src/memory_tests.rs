use refault_abi::Endpoint;
use refault_abi::kcall::PhysRange;
use refault_abi::layout::{MMAP_START, STACK_TOP, TEXT};
use refault_abi::vm::PROT_READ;
use std::vec::Vec;

use super::*;
use crate::arguments;
use crate::elf;
use crate::load::{self, Shared, Source};
use crate::ram::test::VecRam;
use crate::regions::Regions;

const PAGES: usize = 128;
const READ: Access = Access { write: false, fetch: false };
const WRITE: Access = Access { write: true, fetch: false };
const RW: u32 = PROT_READ | PROT_WRITE;

fn memory(counters: &mut [u32]) -> Memory<'_, VecRam> {
    let ranges = [PhysRange { address: PAGE, bytes: (PAGES as u64 - 1) * PAGE }];
    let frames = Frames::new(counters, &ranges, &[]);
    Memory::new(VecRam::new(PAGES), frames, true, None)
}

fn process(memory: &mut Memory<'_, VecRam>, endpoint: Endpoint) -> Process {
    let root = memory.create_root().unwrap();
    Process { endpoint, privilege: 0, root, regions: Regions::new() }
}

fn map(memory: &mut Memory<'_, VecRam>, process: &mut Process, protection: u32, backing: Backing) {
    let region = Region { start: MMAP_START, end: MMAP_START + 4 * PAGE, protection, backing };
    memory.add_region(process, region).unwrap();
}

fn ready(outcome: Outcome) -> (u64, How) {
    match outcome {
        Outcome::Ready { frame, how } => (frame, how),
        other => panic!("{other:?}"),
    }
}

/// A file system with one page of `byte`s announced as (device 1, inode 2, offset 0).
fn file_system(memory: &mut Memory<'_, VecRam>, byte: u8, once: bool) -> (Process, u64) {
    let mut fs = process(memory, Endpoint::MFS);
    map(memory, &mut fs, RW, Backing::Anonymous);
    let (frame, _) = ready(memory.resolve(&fs, MMAP_START, WRITE, false));
    memory.ram.write(frame, &[byte; PAGE as usize]);
    let key = Key { device: 1, inode: 2, offset: 0 };
    memory.announce(&fs, 10, key, MMAP_START, once).unwrap();
    (fs, frame)
}

#[test]
fn anonymous_pages_are_zero_and_protected() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let mut user = process(&mut memory, Endpoint::INIT);
    map(&mut memory, &mut user, PROT_READ, Backing::Anonymous);
    assert_eq!(memory.resolve(&user, MMAP_START, WRITE, false), Outcome::Refused(Refusal::Invalid));
    let fetch = Access { write: false, fetch: true };
    assert_eq!(memory.resolve(&user, MMAP_START, fetch, false), Outcome::Refused(Refusal::Invalid));
    assert_eq!(memory.resolve(&user, MMAP_START - 1, READ, false), Outcome::Refused(Refusal::Invalid));
    let (frame, how) = ready(memory.resolve(&user, MMAP_START + 5, READ, false));
    assert_eq!(how, How::Fresh);
    assert!(memory.ram.bytes(frame, PAGE as usize).iter().all(|byte| *byte == 0));
    assert_eq!(ready(memory.resolve(&user, MMAP_START, READ, false)), (frame, How::Already));
    assert!(memory.unmap(&mut user, MMAP_START, MMAP_START + PAGE).unwrap().flush);
    assert_eq!(memory.resolve(&user, MMAP_START, READ, false), Outcome::Refused(Refusal::Invalid));
    let _ = memory.destroy(&mut user);
    assert_eq!(memory.frames.free(), memory.frames.total());
}

#[test]
fn file_pages_are_shared_until_written() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let (mut fs, cached) = file_system(&mut memory, 0x77, false);
    let file = memory.files.add(9, 1, 2, 2 * PAGE + 3);
    let mut user = process(&mut memory, Endpoint::INIT);
    map(&mut memory, &mut user, RW, Backing::File { file, offset: 0, limit: u64::MAX });
    assert_eq!(ready(memory.resolve(&user, MMAP_START, READ, false)), (cached, How::Cached));
    assert_eq!(memory.frames.references(cached), 3);
    let (own, how) = ready(memory.resolve(&user, MMAP_START, WRITE, false));
    assert_eq!((how, own == cached), (How::Copied, false));
    assert_eq!(memory.ram.bytes(own, 1), [0x77]);
    assert_eq!(memory.frames.references(cached), 2);
    assert_eq!(ready(memory.resolve(&user, MMAP_START, WRITE, false)), (own, How::Already));
    assert_eq!(
        memory.resolve(&user, MMAP_START + PAGE, READ, false),
        Outcome::Missing { file, offset: PAGE }
    );
    // Behind the end, as far as is known: the file system is asked for that, too, but once.
    let behind = MMAP_START + 3 * PAGE;
    assert_eq!(memory.resolve(&user, behind, READ, false), Outcome::Missing { file, offset: 3 * PAGE });
    assert_eq!(memory.resolve(&user, behind, READ, true), Outcome::Refused(Refusal::PastEnd));
    let unmapped = memory.unmap(&mut user, MMAP_START + PAGE, MMAP_START + 2 * PAGE).unwrap();
    assert_eq!(unmapped.handles, []);
    assert_eq!(memory.destroy(&mut user).handles, [9]);
    let _ = memory.destroy(&mut fs);
    // Only the cache is left.
    assert_eq!(memory.frames.references(cached), 1);
    memory.forget(Key { device: 1, inode: 2, offset: 0 });
    assert_eq!(memory.frames.free(), memory.frames.total());
}

#[test]
fn the_tail_of_the_last_page_is_zero_and_a_once_page_serves_once() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let (_fs, cached) = file_system(&mut memory, 0x55, true);
    let file = memory.files.add(9, 1, 2, 100);
    let mut user = process(&mut memory, Endpoint::INIT);
    map(&mut memory, &mut user, PROT_READ, Backing::File { file, offset: 0, limit: u64::MAX });
    assert_eq!(memory.resolve(&user, MMAP_START, READ, false), Outcome::Missing { file, offset: 0 });
    let (frame, how) = ready(memory.resolve(&user, MMAP_START, READ, true));
    assert_eq!(how, How::OneShot);
    assert_eq!(memory.ram.bytes(frame + 99, 3), [0x55, 0, 0]);
    assert_eq!(memory.ram.bytes(cached + 100, 1), [0x55]);
    assert!(memory.cache.is_empty());
    assert_eq!(memory.frames.references(cached), 1);
}

#[test]
fn clearing_spares_pages_that_somebody_maps() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let (fs, cached) = file_system(&mut memory, 1, false);
    let file = memory.files.add(9, 1, 2, PAGE);
    let mut user = process(&mut memory, Endpoint::INIT);
    map(&mut memory, &mut user, PROT_READ, Backing::File { file, offset: 0, limit: u64::MAX });
    let _ = ready(memory.resolve(&user, MMAP_START, READ, false));
    let root = fs.root;
    assert_eq!(memory.clear_cache(1, |_| Some(root)), 0);
    let _ = memory.destroy(&mut user);
    assert_eq!(memory.clear_cache(2, |_| Some(root)), 0);
    assert_eq!(memory.clear_cache(1, |_| Some(root)), 1);
    assert_eq!(memory.frames.references(cached), 1);
}

#[test]
fn memory_runs_out_cleanly_after_the_cache_made_room() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let (mut fs, cached) = file_system(&mut memory, 1, false);
    let _ = memory.destroy(&mut fs);
    assert_eq!(memory.frames.references(cached), 1);
    let mut user = process(&mut memory, Endpoint::INIT);
    let region = Region {
        start: MMAP_START,
        end: MMAP_START + 2 * PAGES as u64 * PAGE,
        protection: RW,
        backing: Backing::Anonymous,
    };
    memory.add_region(&mut user, region).unwrap();
    let pages = (0..).map(|page| memory.resolve(&user, MMAP_START + page * PAGE, WRITE, false));
    let served = pages.take_while(|outcome| matches!(outcome, Outcome::Ready { .. })).count();
    // Everything but the root, three tables and what is kept for servers.
    let reserve = (PAGES - 1) / RESERVE_PART as usize;
    assert_eq!(served, PAGES - 1 - 4 - reserve);
    assert!(memory.cache.is_empty());
    let mut server = process(&mut memory, Endpoint::MFS);
    server.privilege = privilege::SERVER;
    memory.add_region(&mut server, region).unwrap();
    let pages = (0..).map(|page| memory.resolve(&server, MMAP_START + page * PAGE, WRITE, false));
    let served = pages.take_while(|outcome| matches!(outcome, Outcome::Ready { .. })).count();
    assert_eq!(served, reserve - 4, "a server gets the rest");
    let _ = memory.destroy(&mut server);
    let _ = memory.destroy(&mut user);
    assert_eq!(memory.frames.free(), memory.frames.total());
}

#[test]
fn a_shared_page_that_cannot_be_copied_stays_shared() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let (mut fs, cached) = file_system(&mut memory, 0x33, false);
    let file = memory.files.add(9, 1, 2, PAGE);
    let mut user = process(&mut memory, Endpoint::INIT);
    map(&mut memory, &mut user, RW, Backing::File { file, offset: 0, limit: u64::MAX });
    assert_eq!(ready(memory.resolve(&user, MMAP_START, READ, false)), (cached, How::Cached));
    let held: Vec<u64> = core::iter::from_fn(|| memory.frames.allocate()).collect();
    for _ in 0..3 {
        assert_eq!(memory.resolve(&user, MMAP_START, WRITE, false), Outcome::Refused(Refusal::NoMemory));
    }
    // The file system's, the cache's and the user's.
    assert_eq!(memory.frames.references(cached), 3);
    for frame in held {
        memory.frames.release(frame);
    }
    assert_eq!(ready(memory.resolve(&user, MMAP_START, WRITE, false)).1, How::Copied);
    assert_eq!(memory.frames.references(cached), 2);
    let _ = (memory.destroy(&mut user), memory.destroy(&mut fs));
    memory.forget(Key { device: 1, inode: 2, offset: 0 });
    assert_eq!(memory.frames.free(), memory.frames.total());
}

#[test]
fn announcing_needs_a_page_of_ones_own() {
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let mut fs = process(&mut memory, Endpoint::MFS);
    map(&mut memory, &mut fs, RW, Backing::Anonymous);
    let key = Key { device: 1, inode: 1, offset: 0 };
    for address in [MMAP_START, MMAP_START + 1, 0, u64::MAX] {
        assert_eq!(memory.announce(&fs, 10, key, address, false), Err(Errno::EFAULT));
    }
}

#[test]
fn programs_are_loaded_and_a_failure_leaves_nothing_behind() {
    let file = elf::tests::program(TEXT, &[(5, TEXT, b"code", 4), (6, TEXT + PAGE, &[7; 5000], 0x5000)]);
    let program = elf::parse(&file).unwrap();
    let stack = arguments::layout([&b"name"[..]].into_iter()).unwrap();
    let shared = [Shared { address: refault_abi::layout::STUB, gpa: 0, bits: 0 }];
    let mut counters = [0; PAGES];
    let mut memory = memory(&mut counters);
    let mut built =
        load::build(&mut memory, Endpoint::INIT, 0, (&program, Source::Image(&file)), &stack, &shared)
            .unwrap();
    let at = |memory: &Memory<'_, VecRam>, address| tables::lookup(&memory.ram, built.root, address);
    let code = at(&memory, TEXT);
    assert_eq!(code & (pte::WRITABLE | pte::NO_EXECUTE), 0);
    assert_eq!(memory.ram.bytes(code & pte::ADDRESS, 5), b"code\0");
    let data = at(&memory, TEXT + 2 * PAGE);
    assert_eq!(data & pte::WRITABLE, pte::WRITABLE);
    assert_eq!(memory.ram.bytes((data & pte::ADDRESS) + 903, 2), [7, 0]);
    assert_ne!(at(&memory, STACK_TOP - 1), 0);
    // What is behind the data is there, too, and zero.
    let empty = at(&memory, TEXT + 5 * PAGE) & pte::ADDRESS;
    assert!(memory.ram.bytes(empty, PAGE as usize).iter().all(|byte| *byte == 0));
    assert_eq!(at(&memory, TEXT + 6 * PAGE), 0);
    assert_ne!(at(&memory, STACK_TOP - 4 * PAGE), 0);
    assert_eq!(at(&memory, STACK_TOP - 5 * PAGE), 0);
    let _ = memory.destroy(&mut built);
    assert_eq!(memory.frames.free(), memory.frames.total());

    let held: Vec<u64> = core::iter::from_fn(|| memory.frames.allocate()).collect();
    for left in 0..20 {
        for frame in held.iter().take(left) {
            memory.frames.release(*frame);
        }
        let result =
            load::build(&mut memory, Endpoint::INIT, 0, (&program, Source::Image(&file)), &stack, &shared);
        if let Ok(mut built) = result {
            let _ = memory.destroy(&mut built);
        } else {
            assert_eq!(result.err(), Some(Errno::ENOMEM));
        }
        assert_eq!(memory.frames.free(), left as u64);
        for _ in 0..left {
            memory.frames.allocate().unwrap();
        }
    }
}
