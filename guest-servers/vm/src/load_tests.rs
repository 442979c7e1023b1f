use refault_abi::kcall::{PhysRange, privilege};
use refault_abi::layout::{MMAP_START, TEXT};
use refault_abi::vm::{PROT_EXEC, PROT_WRITE};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::cache::Key;
use crate::elf::tests::program;
use crate::frames::Frames;
use crate::memory::{How, Refusal};
use crate::ram::test::VecRam;
use crate::{arguments, elf, tables};

const READ: Access = Access { write: false, fetch: false };
const WRITE: Access = Access { write: true, fetch: false };
const FETCH: Access = Access { write: false, fetch: true };

/// A program file whose segments lie at the same place in their pages as in memory: code, then data with a tail of zeros that
/// begins in the middle of a page. Behind the data the file goes on.
fn program_file() -> Vec<u8> {
    let head = 64 + 2 * 56;
    let code = vec![0x90u8; 2 * PAGE as usize - head];
    let data = vec![0x55u8; 1000];
    let mut file = program(
        TEXT + head as u64,
        &[(5, TEXT + head as u64, &code, code.len() as u64), (6, TEXT + 2 * PAGE, &data, 1000 + 3 * PAGE)],
    );
    assert_eq!(file.len() as u64, 2 * PAGE + 1000);
    file.extend([0xee; 300]);
    file
}

/// A file system that has announced the file's pages; what is behind its end in the last one is rubbish.
fn announce(memory: &mut Memory<'_, VecRam>, file: &[u8]) -> Process {
    let root = memory.create_root().unwrap();
    let mut fs =
        Process { endpoint: Endpoint::MFS, privilege: privilege::SERVER, root, regions: Regions::new() };
    let end = MMAP_START + 16 * PAGE;
    let region = Region { start: MMAP_START, end, protection: 3, backing: Backing::Anonymous };
    memory.add_region(&mut fs, region).unwrap();
    for (index, bytes) in file.chunks(PAGE as usize).enumerate() {
        let offset = index as u64 * PAGE;
        let Outcome::Ready { frame, .. } = memory.resolve(&fs, MMAP_START + offset, WRITE, false) else {
            panic!("no page for the file system");
        };
        memory.ram.write(frame, &[0xdd; PAGE as usize]);
        memory.ram.write(frame, bytes);
        memory.announce(&fs, 10, Key { device: 1, inode: 2, offset }, MMAP_START + offset, false).unwrap();
    }
    fs
}

fn world(counters: &mut [u32]) -> Memory<'_, VecRam> {
    let pages = counters.len() as u64;
    let frames = Frames::new(counters, &[PhysRange { address: PAGE, bytes: (pages - 1) * PAGE }], &[]);
    Memory::new(VecRam::new(pages as usize), frames, true, None)
}

fn stack() -> Image {
    arguments::layout([&b"name"[..]].into_iter()).unwrap()
}

#[test]
fn a_program_of_a_file_comes_in_as_it_is_touched() {
    let file = program_file();
    let program = elf::parse(&file).unwrap();
    let mut counters = [0; 128];
    let mut memory = world(&mut counters);
    let mut fs = announce(&mut memory, &file);
    let id = memory.files.add(77, 1, 2, file.len() as u64);
    let mut process =
        build(&mut memory, Endpoint::INIT, 0, (&program, Source::File(id)), &stack(), &[]).unwrap();
    assert_eq!(memory.files.release(id), None, "the process still uses it");
    assert_eq!(tables::lookup(&memory.ram, process.root, TEXT), 0);
    let Outcome::Ready { frame, how: How::Cached } = memory.resolve(&process, TEXT, FETCH, false) else {
        panic!("the code is in the cache");
    };
    assert_eq!(memory.ram.bytes(frame, 4), b"\x7fELF");
    assert_eq!(memory.frames.references(frame), 3, "one home: the file system, the cache, the program");
    assert_eq!(memory.resolve(&process, TEXT, WRITE, false), Outcome::Refused(Refusal::Invalid));
    // The data's last page: its own copy, and zeros where the file goes on.
    let data = TEXT + 2 * PAGE;
    let Outcome::Ready { frame, how: How::Copied } = memory.resolve(&process, data, READ, false) else {
        panic!("a page with a tail is a copy");
    };
    assert_eq!(memory.ram.bytes(frame + 998, 4), [0x55, 0x55, 0, 0]);
    assert!(memory.ram.bytes(frame + 1000, PAGE as usize - 1000).iter().all(|byte| *byte == 0));
    let Outcome::Ready { how: How::Already, .. } = memory.resolve(&process, data + 3 * PAGE, WRITE, false)
    else {
        panic!("zeros are there from the beginning");
    };
    assert_eq!(
        memory.resolve(&process, data + 4 * PAGE, READ, false),
        Outcome::Refused(Refusal::Invalid),
        "behind the program"
    );
    assert_eq!(memory.destroy(&mut process).handles, [77]);
    let _ = memory.destroy(&mut fs);
    memory.forget_owner(10);
    assert_eq!(memory.frames.free(), memory.frames.total());
}

#[test]
fn a_failure_leaves_the_file_to_the_caller() {
    let file = program_file();
    let program = elf::parse(&file).unwrap();
    let mut counters = [0; 64];
    let mut memory = world(&mut counters);
    let id = memory.files.add(77, 1, 2, file.len() as u64);
    let held: Vec<u64> = core::iter::from_fn(|| memory.frames.allocate()).collect();
    let mut failures = 0;
    for left in 0..20 {
        for frame in held.iter().take(left) {
            memory.frames.release(*frame);
        }
        match build(&mut memory, Endpoint::INIT, 0, (&program, Source::File(id)), &stack(), &[]) {
            Ok(mut process) => assert_eq!(memory.destroy(&mut process).handles, []),
            Err(error) => {
                failures += 1;
                assert_eq!(error, Errno::ENOMEM);
            }
        }
        assert_eq!(memory.frames.free(), left as u64);
        for _ in 0..left {
            memory.frames.allocate().unwrap();
        }
    }
    assert!((1..20).contains(&failures));
    assert_eq!(memory.files.release(id), Some(77));
}

#[test]
fn pages_that_do_not_fit_are_refused() {
    let file = program(TEXT, &[(5, TEXT, b"code", 4)]);
    let program = elf::parse(&file).unwrap();
    let mut counters = [0; 64];
    let mut memory = world(&mut counters);
    let id = memory.files.add(77, 1, 2, file.len() as u64);
    let refused = build(&mut memory, Endpoint::INIT, 0, (&program, Source::File(id)), &stack(), &[]);
    assert_eq!(refused.err(), Some(Errno::ENOEXEC));
    assert_eq!(memory.files.release(id), Some(77));
    assert_eq!(memory.frames.free(), memory.frames.total());
}

#[test]
fn protections_are_the_segments() {
    let file = program_file();
    let segments = elf::parse(&file).unwrap().segments;
    let protections: Vec<u32> = segments.iter().map(|segment| segment.protection).collect();
    assert_eq!(protections, [PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE]);
}
