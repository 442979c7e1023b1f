//! What a copy that fails in the middle leaves behind, and what a repetition makes of it.

use std::vec;
use std::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::fs;
use refault_abi::options::FsReply;
use refault_abi::{Errno, pattern};

use super::world::{Client, DATA, ROOT, User, image, space};
use crate::mount::Limits;
use crate::system::PAGE;

const BYTES: usize = 65536;

fn contents(id: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    pattern::fill(id, 0, &mut bytes);
    bytes
}

/// A server with a file of 300 KiB, and nothing cached.
fn prepared(mode: FsReply) -> (Client, u64) {
    let mut client = Client::mounted(image(1440), mode, Limits::default());
    let file = client.create("b.bin");
    client.write(file, 0, &contents(pattern::FILE_B, 300 << 10)).unwrap();
    client.bare(fs::FLUSH).unwrap();
    (client, file)
}

/// The user of the seed's scenario: a buffer at an odd address, some of its pages absent.
fn user(memory: Vec<u8>, absent: &[usize]) -> User {
    User { memory, odd: 1013, absent: absent.iter().copied().collect() }
}

#[test]
fn a_read_answers_as_the_mode_says() {
    // The first absent page is page 1, so the bytes up to it arrive: one page less the odd start.
    let before = (PAGE - 1013) as u64;
    for (mode, expected) in [
        (FsReply::Partial, Ok(before)),
        (FsReply::Whole, Err(Errno::EFAULT)),
        (FsReply::Swallow, Ok(BYTES as u64)),
    ] {
        let (mut client, file) = prepared(mode);
        client.world().users.insert(DATA, user(vec![0; BYTES], &[1, 7, 16]));
        let done = client.transfer(fs::READ, file, 5000, BYTES as u64);
        assert_eq!(done.map(|done| done.result as u64), expected, "{mode:?}");
        // Each absent page of the user lies across two pages of the file.
        let failures = if mode == FsReply::Swallow { 6 } else { 1 };
        assert_eq!(client.counter(Counter::FsCopyFailures), failures, "{mode:?}");
        let partial = u64::from(mode == FsReply::Partial);
        assert_eq!(client.counter(Counter::FsPartialResults), partial, "{mode:?}");
        let memory = &client.world().users[&DATA].memory;
        assert_eq!(
            pattern::matching_prefix(pattern::FILE_B, 5000, &memory[..before as usize]),
            before as usize
        );

        // The repetition, once the pages are there, is whole and right under every mode.
        client.world().users.get_mut(&DATA).unwrap().absent.clear();
        let done = client.transfer(fs::READ, file, 5000, BYTES as u64).unwrap();
        assert_eq!(done.result, BYTES as i64);
        let memory = &client.world().users[&DATA].memory;
        assert_eq!(pattern::matching_prefix(pattern::FILE_B, 5000, memory), BYTES);
    }
}

#[test]
fn an_append_leaves_nothing_or_what_is_counted() {
    let data = contents(7, BYTES);
    for (mode, kept) in [(FsReply::Partial, PAGE - 1013), (FsReply::Whole, 0)] {
        let (mut client, file) = prepared(mode);
        let size = 300u64 << 10;
        let before = space(&client.image());
        client.world().users.insert(DATA, user(data.clone(), &[1]));
        let result = client.transfer(fs::WRITE, file, size, BYTES as u64);
        assert_eq!(result.is_ok(), kept > 0);
        assert_eq!(client.lookup(ROOT, "b.bin").unwrap().size, size + kept as u64, "{mode:?}");
        let zones_kept = kept.div_ceil(1024) as u32;
        assert_eq!(
            space(&client.image()).0,
            before.0 - zones_kept,
            "{mode:?}: zones that hold nothing went back"
        );

        // A hole made over the place afterwards shows zeros, not what the failed copy had brought.
        client.truncate(file, size + BYTES as u64).unwrap();
        let tail = client.read(file, size + kept as u64, (BYTES - kept) as u64).unwrap();
        assert!(tail.iter().all(|&byte| byte == 0), "{mode:?}");
        client.truncate(file, size).unwrap();

        // The repetition with the inputs of the first attempt.
        client.world().users.insert(DATA, user(data.clone(), &[]));
        let done = client.transfer(fs::WRITE, file, size, BYTES as u64).unwrap();
        assert_eq!((done.result, done.size), (BYTES as i64, size + BYTES as u64));
        assert!(client.read(file, size, BYTES as u64).unwrap() == data);
        client.image();
    }
}

#[test]
fn an_overwrite_that_failed_is_made_whole_by_its_repetition() {
    for mode in [FsReply::Whole, FsReply::Partial, FsReply::Swallow] {
        let (mut client, file) = prepared(mode);
        let data = contents(9, BYTES);
        client.world().users.insert(DATA, user(data.clone(), &[3, 4]));
        let _ = client.transfer(fs::WRITE, file, 777, BYTES as u64);
        client.world().users.get_mut(&DATA).unwrap().absent.clear();
        assert_eq!(client.transfer(fs::WRITE, file, 777, BYTES as u64).unwrap().result, BYTES as i64);
        client.bare(fs::FLUSH).unwrap();
        let mut expected = contents(pattern::FILE_B, 300 << 10);
        expected[777..777 + BYTES].copy_from_slice(&data);
        assert!(client.read(file, 0, 300 << 10).unwrap() == expected, "{mode:?}");
        client.image();
    }
}

#[test]
fn a_symbolic_link_exists_whole_or_not_at_all() {
    for mode in [FsReply::Whole, FsReply::Partial, FsReply::Swallow] {
        let (mut client, _) = prepared(mode);
        let target = vec![b't'; 900];
        // The target lies across two pages, of which the second is absent.
        client.world().users.insert(2, User { memory: target.clone(), odd: PAGE - 100, absent: [1].into() });
        assert_eq!(client.link(fs::SLINK, "link", &target, 0), Err(Errno::EFAULT), "{mode:?}");
        assert_eq!(client.lookup(ROOT, "link").err(), Some(Errno::ENOENT));
        client.link(fs::SLINK, "link", &target, 0).unwrap();
        let link = client.lookup(ROOT, "link").unwrap();
        client.world().users.insert(DATA, User { memory: vec![0; 900], ..User::default() });
        assert_eq!(client.transfer(fs::RDLINK, link.inode, 0, 900).unwrap().result, 900);
        assert_eq!(client.world().users[&DATA].memory, target);
    }
}

#[test]
fn one_piece_answers_fail_whole() {
    let (mut client, file) = prepared(FsReply::Partial);
    for (request, inode) in [(fs::GETDENTS, ROOT), (fs::STAT, file)] {
        client.world().users.insert(DATA, User { memory: vec![0; 200], odd: PAGE - 40, absent: [1].into() });
        let answer: refault_abi::message::Status = client.io(request, inode, 0, 200).get();
        assert_eq!(answer.check(), Err(Errno::EFAULT));
    }
}

#[test]
fn a_grant_that_is_too_small_is_no_soft_fault() {
    let (mut client, file) = prepared(FsReply::Whole);
    client.world().users.insert(DATA, user(vec![0; 100], &[]));
    assert_eq!(client.transfer(fs::READ, file, 0, 5000).err(), Some(Errno::EPERM));
    client.world().users.clear();
    assert_eq!(client.transfer(fs::READ, file, 0, 5000).err(), Some(Errno::EPERM));
}

#[test]
fn nothing_of_a_failed_append_stays_behind_the_end() {
    let mut client = Client::mounted(image(1440), FsReply::Whole, Limits::default());
    let file = client.create("f");
    client.write(file, 0, &[1; 100]).unwrap();
    client.world().users.insert(DATA, user(vec![0x77; BYTES], &[2]));
    assert_eq!(client.transfer(fs::WRITE, file, 100, BYTES as u64).err(), Some(Errno::EFAULT));
    // Neither in the page, which a process may have mapped, nor on the disk.
    client.peek(file, 0, 1).unwrap();
    client.bare(fs::FLUSH).unwrap();
    let (_, page) = client.world().announced.values().next().unwrap();
    let page: &[u8] = page.as_ref().unwrap().as_ref();
    assert!(page[..100] == [1; 100] && page[100..].iter().all(|&byte| byte == 0));
    assert!(!client.image().windows(16).any(|bytes| bytes == [0x77; 16]));
}
