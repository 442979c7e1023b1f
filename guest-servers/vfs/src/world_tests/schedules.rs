//! All eight requests that lend with CPF_TRY, under every schedule of one and two faults: the outcome is that of no fault.

use super::*;
use crate::world::State;

/// What an operation has to show for itself: its answer, and what it left.
type Outcome = (refault_abi::Result<u64>, Vec<u8>, u64);

const LENT: u64 = 4096 * 3 - 40;

fn fresh(mode: FsReply) -> World {
    let world = world(Retry::Hardened, mode, O_RDWR);
    world.state.borrow_mut().add("link", Inode::Link(b"somewhere/else".to_vec()));
    let entries = (0..60).map(|n| (alloc::format!("e{n:02}").into_bytes(), 500 + n)).collect();
    world.state.borrow_mut().add("dir", Inode::Directory(entries));
    world.state.borrow_mut().disk.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 7) as u8);
    world.put(LENT as usize, &pattern(7, 0, 16_384));
    assert_eq!(world.open("/dir", 0), Ok(4));
    assert_eq!(world.open("/dev/disk0", O_RDWR), Ok(5));
    world.state.borrow_mut().site = 0;
    world
}

/// Memory from where it is lent on.
fn lent(world: &World) -> Vec<u8> {
    world.state.borrow().memory[LENT as usize..LENT as usize + 16_384].to_vec()
}

/// Runs `operation` under every schedule and compares.
fn under_every_schedule(modes: &[FsReply], operation: impl Fn(&World) -> Outcome) {
    for mode in modes {
        let world = fresh(*mode);
        let right = operation(&world);
        assert!(right.0.is_ok(), "{right:?}");
        let sites = world.state.borrow().site;
        world.check_nothing_left();
        for grantee_side in [false, true] {
            for first in 0..sites {
                for second in first..(2 * sites).min(first + 12) {
                    let world = fresh(*mode);
                    {
                        let mut state = world.state.borrow_mut();
                        state.inject = BTreeSet::from([first, second]);
                        state.grantee_side = grantee_side;
                    }
                    let outcome = operation(&world);
                    assert!(outcome == right, "{mode:?} {grantee_side} {first} {second}: {:?}", outcome.0);
                    let marks = world.counter(Counter::VfsMarksSeen);
                    let raw = world.counter(Counter::VfsRawRepeats);
                    assert!(grantee_side || marks + raw >= 1, "no fault happened");
                    assert_eq!(marks, world.counter(Counter::VfsRepeats));
                    world.check_nothing_left();
                }
            }
        }
    }
}

fn file(state: &State, inode: u64) -> Vec<u8> {
    match &state.inodes[&inode] {
        Inode::File(data) => data.clone(),
        _ => panic!("{inode} is not a file"),
    }
}

#[test]
fn write() {
    under_every_schedule(&REPLIES, |world| {
        let answer = world.io(vfs::WRITE, 3, LENT, 10_000, 0);
        let left = file(&world.state.borrow(), 2);
        (answer, left, world.position(3))
    });
}

#[test]
fn read_and_write_of_a_disk() {
    under_every_schedule(&REPLIES, |world| {
        let answer = world.io(vfs::READ, 5, LENT, 10_000, 0);
        (answer, lent(world), world.position(5))
    });
    under_every_schedule(&REPLIES, |world| {
        let answer = world.io(vfs::PWRITE, 5, LENT, 10_000, 5_000);
        let left = world.state.borrow().disk.clone();
        (answer, left, world.position(5))
    });
}

#[test]
fn getdents() {
    let modes = [FsReply::Whole, FsReply::Partial];
    under_every_schedule(&modes, |world| {
        // Two requests, so that the position of the first matters to the second.
        let first = world.io(vfs::GETDENTS, 4, LENT, 200, 0);
        let second = world.io(vfs::GETDENTS, 4, LENT + 200, 200, 0);
        assert_eq!(first, Ok(200));
        (second, lent(world), 0)
    });
}

#[test]
fn links_and_status() {
    let path = |buffer, bytes| vfs::Path { address: 0, length: 5, buffer, bytes, ..vfs::Path::default() };
    under_every_schedule(&[FsReply::Partial], |world| {
        world.put(0, b"/link");
        let answer = world.call(USER, Message::new(vfs::READLINK, &path(LENT + 30, 100)));
        (answer, lent(world), 0)
    });
    under_every_schedule(&[FsReply::Partial], |world| {
        world.put(0, b"/made");
        let answer = world.call(USER, Message::new(vfs::SYMLINK, &path(LENT + 30, 30)));
        let state = world.state.borrow();
        let Some(Inode::Link(target)) = state.inodes.values().last().cloned() else { panic!() };
        (answer, target, 0)
    });
    under_every_schedule(&[FsReply::Partial], |world| {
        let answer = world.io(vfs::FSTAT, 3, LENT + 10, 72, 0);
        (answer, lent(world), 0)
    });
    under_every_schedule(&[FsReply::Partial], |world| {
        world.put(0, b"/link");
        let request = vfs::Path { flags: vfs::O_NOFOLLOW, ..path(LENT + 10, 72) };
        let answer = world.call(USER, Message::new(vfs::STAT, &request));
        (answer, lent(world), 0)
    });
}

#[test]
fn an_append_whose_first_attempt_grew_the_file() {
    let modes = [FsReply::Partial, FsReply::Whole];
    under_every_schedule(&modes, |world| {
        assert_eq!(world.open("/b.bin", O_WRONLY | O_APPEND), Ok(6));
        let answer = world.io(vfs::WRITE, 6, LENT, 10_000, 0);
        let left = file(&world.state.borrow(), 2);
        assert_eq!(left.len() as u64, BYTES + 10_000);
        (answer, left, world.position(6))
    });
}

#[test]
fn what_a_file_system_must_not_answer_and_what_it_may() {
    // ERESTART is VFS's own word; an EFAULT without a mark is the file system's own business.
    for (mode, errno) in [(FsReply::Restart, Errno::EIO), (FsReply::Efault, Errno::EFAULT)] {
        let world = world(Retry::Hardened, mode, O_RDWR);
        assert_eq!(world.io(vfs::READ, 3, BUFFER, 100, 0), Err(errno));
        assert_eq!((world.counter(Counter::VfsRepeats), world.position(3)), (0, 0));
        world.check_nothing_left();
    }
}
