//! The real VFS and the real file system server, joined by a machine in memory: what the two make of each other's messages,
//! and what they do together when pages of a user are taken away at any place of a transfer.

mod joined;

use std::collections::BTreeSet;

use joined::{BUFFER, BYTES, Joined, USER};
use refault_abi::counters::Counter;
use refault_abi::layout::PAGE;
use refault_abi::options::{FsReply, Retry};
use refault_abi::pattern::{FILE_B, matching_prefix};
use refault_abi::vfs::{self, O_APPEND, O_CREAT, O_RDWR, SEEK_END};
use refault_abi::{Endpoint, Errno, Message, kcall};

#[test]
fn everyday_work() {
    let joined = Joined::new(Retry::Hardened, FsReply::Partial);
    let file = joined.make("/b.bin", 300_001);
    assert_eq!(joined.path(vfs::MKDIR, "/dir", "", 0), Ok(0));
    assert_eq!(joined.path(vfs::LINK, "/b.bin", "/dir/hard", 0), Ok(0));
    assert_eq!(joined.path(vfs::SYMLINK, "/dir/soft", "../b.bin", 0), Ok(0));
    assert_eq!(joined.path(vfs::RENAME, "/dir/hard", "/dir/renamed", 0), Ok(0));
    assert_eq!(joined.path(vfs::RMDIR, "/dir", "", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(joined.path(vfs::UNLINK, "/b.bin", "", 0), Ok(0));
    assert_eq!(joined.path(vfs::OPEN, "/dir/soft", "", 0), Err(Errno::ENOENT));
    let again = joined.path(vfs::OPEN, "/dir/../dir/./renamed", "", 0).unwrap();
    assert_eq!(joined.io(vfs::PREAD, again, BYTES, 299_000), Ok(1_001));
    assert_eq!(matching_prefix(FILE_B, 299_000, &joined.buffer()), 1_001);
    assert_eq!(joined.path(vfs::STAT, "/dir/renamed", &"x".repeat(72), 0), Ok(0));
    let directory = joined.path(vfs::OPEN, "/dir", "", 0).unwrap();
    let stored = joined.io(vfs::GETDENTS, directory, 4096, 0).unwrap() as usize;
    let buffer = joined.buffer();
    let names: Vec<&str> = refault_rt::user::Entries(&buffer[..stored]).map(|(_, name)| name).collect();
    // A rename within a directory keeps the entry's place, so that no death can lose the name.
    assert_eq!(names, [".", "..", "renamed", "soft"]);
    assert_eq!(joined.io(vfs::GETDENTS, directory, 4096, 0), Ok(0));
    assert_eq!(joined.io(vfs::FTRUNCATE, file, 0, 10), Ok(0));
    assert_eq!(joined.io(vfs::PREAD, again, BYTES, 5), Ok(5));

    let target = kcall::Target { endpoint: USER.raw(), reserved: 0 };
    assert_eq!(joined.call(Endpoint::PM, Message::new(vfs::PM_EXIT, &target)), Ok(0));
    assert_eq!(joined.call(Endpoint::PM, Message::bare(vfs::PM_SHUTDOWN)), Ok(0));
    assert!(joined.machine.0.borrow().grants.is_empty());
    assert_eq!(joined.vfs.tasks(), 0);
}

#[test]
fn the_seeds_read_under_each_policy() {
    // Pages 1, 7 and the last of the buffer are absent.
    let read = |retry, mode| {
        let joined = Joined::new(retry, mode);
        let file = joined.make("/b.bin", 2 * BYTES);
        joined.machine.0.borrow_mut().absent = BTreeSet::from([2, 8, 17]);
        joined.put(BUFFER as usize, &[0; BYTES as usize]);
        let got = joined.io(vfs::PREAD, file, BYTES, 0);
        let right = matching_prefix(FILE_B, 0, &joined.buffer()) as u64 >= got.unwrap_or(0);
        (got, right, joined.counter(Counter::VfsRepeats))
    };
    let first_page = PAGE - BUFFER % PAGE;
    assert_eq!(read(Retry::Efault, FsReply::Partial), (Ok(first_page), true, 0), "short");
    assert_eq!(read(Retry::Efault, FsReply::Whole), (Ok(BYTES), true, 1));
    for mode in [FsReply::Whole, FsReply::Partial, FsReply::Swallow] {
        assert_eq!(read(Retry::Mark, mode), (Ok(BYTES), true, 1));
        // One that goes on after a failed copy leaves the mark of the last fault, so the pages come one at a time.
        let repeats = if mode == FsReply::Swallow { 3 } else { 1 };
        assert_eq!(read(Retry::Hardened, mode), (Ok(BYTES), true, repeats));
    }
}

#[test]
fn no_schedule_of_one_or_two_faults_makes_a_transfer_short_or_wrong() {
    for mode in [FsReply::Whole, FsReply::Partial, FsReply::Swallow] {
        let joined = Joined::new(Retry::Hardened, mode);
        let file = joined.make("/b.bin", 2 * BYTES + 777);
        joined.inject([]);
        assert_eq!(joined.io(vfs::PREAD, file, BYTES, 555), Ok(BYTES));
        let sites = joined.machine.0.borrow().site;
        assert!(sites > BYTES / PAGE);
        let log = joined.path(vfs::OPEN, "/log", "", O_RDWR | O_CREAT | O_APPEND).unwrap();
        let mut length = 0;
        for first in 0..sites {
            for second in [None, Some(first + 1), Some(first + sites / 2), Some(sites + 3)] {
                let schedule = || [first].into_iter().chain(second);
                joined.put(BUFFER as usize, &[0; BYTES as usize]);
                joined.inject(schedule());
                let marks = joined.counter(Counter::VfsMarksSeen);
                assert_eq!(joined.io(vfs::PREAD, file, BYTES, 555), Ok(BYTES), "{mode:?} {first} {second:?}");
                assert_eq!(matching_prefix(FILE_B, 555, &joined.buffer()) as u64, BYTES);
                assert!(joined.counter(Counter::VfsMarksSeen) > marks, "no fault happened");
            }
            // The same memory goes to the end of another file, and comes back.
            joined.inject([first, first + 2]);
            assert_eq!(joined.io(vfs::WRITE, log, 5_000, 0), Ok(5_000), "{mode:?} {first}");
            joined.inject([]);
            assert_eq!(joined.io(vfs::PREAD, log, BYTES, length), Ok(5_000), "appended once");
            assert_eq!(matching_prefix(FILE_B, 555, &joined.buffer()[..5_000]), 5_000);
            length += 5_000;
        }
    }
}

#[test]
fn a_successor_knows_what_is_open() {
    let joined = Joined::new(Retry::Hardened, FsReply::Partial);
    let file = joined.make("/b.bin", 2 * BYTES);
    assert_eq!(joined.path(vfs::MKDIR, "/dir", "", 0), Ok(0));
    assert_eq!(joined.path(vfs::CHDIR, "/dir", "", 0), Ok(0));
    let unlinked = joined.path(vfs::OPEN, "x", "", O_RDWR | O_CREAT).unwrap();
    assert_eq!(joined.io(vfs::WRITE, unlinked, 100, 0), Ok(100));
    assert_eq!(joined.call(USER, Message::bare(vfs::SYNC)), Ok(0));
    for round in 0..3 {
        joined.restart();
        assert_eq!(joined.io(vfs::PREAD, file, BYTES, 777), Ok(BYTES), "round {round}");
        assert_eq!(matching_prefix(FILE_B, 777, &joined.buffer()) as u64, BYTES);
        // The directory is where it was, and what is made in it now is there for the next.
        let name = format!("made{round}");
        let made = joined.path(vfs::OPEN, &name, "", O_RDWR | O_CREAT).unwrap();
        assert_eq!(joined.io(vfs::WRITE, made, 10, 0), Ok(10));
        assert_eq!(joined.io(vfs::FSYNC, made, 0, 0), Ok(0));
    }
    for round in 0..3 {
        assert!(joined.path(vfs::OPEN, &format!("/dir/made{round}"), "", 0).is_ok());
    }
    let target = kcall::Target { endpoint: USER.raw(), reserved: 0 };
    assert_eq!(joined.call(Endpoint::PM, Message::new(vfs::PM_EXIT, &target)), Ok(0));
    assert_eq!(joined.call(Endpoint::PM, Message::bare(vfs::PM_SHUTDOWN)), Ok(0));
    assert_eq!(joined.vfs.tasks(), 0);
}

#[test]
fn the_disk_of_a_file_system_as_a_file() {
    let joined = Joined::new(Retry::Hardened, FsReply::Partial);
    let disk = joined.path(vfs::OPEN, "/dev/disk0", "", O_RDWR).unwrap();
    let size = joined.machine.0.borrow().disk.len() as u64;
    let end = vfs::Io { descriptor: disk as i32, flags: SEEK_END, ..vfs::Io::default() };
    assert_eq!(joined.call(USER, Message::new(vfs::LSEEK, &end)), Ok(size));
    assert_eq!(joined.io(vfs::READ, disk, 100, 0), Ok(0));
    joined.inject([3, 20]);
    assert_eq!(joined.io(vfs::PREAD, disk, BYTES, 512 * 3 + 7), Ok(BYTES));
    assert_eq!(joined.counter(Counter::VfsRepeats), 2);
    let from = 512 * 3 + 7;
    let right = joined.machine.0.borrow().disk[from..from + BYTES as usize].to_vec();
    assert!(joined.buffer() == right);
    assert_eq!(joined.io(vfs::PREAD, disk, BYTES, size - 1000), Ok(1000));
}
