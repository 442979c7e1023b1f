//! A file system that dies: at each moment of a request, and what its successor is told.

use refault_abi::{pm, rs};

use super::*;
use crate::world::{OTHER, io};

fn tell(world: &World, news: &pm::Restarted) {
    world.deliver(Endpoint::RS, Message::new(rs::RESTARTED, news));
}

#[test]
fn at_each_step_of_a_read() {
    // A clean run has so many steps; a fault adds some.
    for fault in [false, true] {
        for step in 0..6 {
            for told in [false, true] {
                let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
                if fault {
                    world.state.borrow_mut().inject = BTreeSet::from([3]);
                }
                world.deliver(USER, io(vfs::READ, 3, BUFFER, BYTES, 0));
                for _ in 0..step {
                    world.step();
                }
                let in_flight = world.state.borrow().outbox.iter().any(|(to, _)| *to == Endpoint::MFS);
                let news = world.crash();
                if told {
                    tell(&world, &news);
                }
                world.settle();
                let answer = match world.answer_to(USER) {
                    Some(answer) => answer,
                    None => panic!("no answer: step {step} told {told} {in_flight}"),
                };
                // What was asked and not answered is not known to have been done or not; what the dead one never got, is
                // asked again.
                match answer {
                    Ok(count) => assert_eq!((count, buffer_prefix(&world)), (BYTES, BYTES)),
                    Err(error) => assert_eq!((error, in_flight && told), (Errno::EIO, true)),
                }
                if !told {
                    tell(&world, &news);
                }
                world.settle();
                assert_eq!(world.io(vfs::PREAD, 3, BUFFER, BYTES, 0), Ok(BYTES), "the file is still open");
                assert_eq!(world.open("/b.bin", 0), Ok(4));
                let state = world.state.borrow();
                assert_eq!(state.references.get(&2), Some(&2));
                drop(state);
                world.check_nothing_left();
            }
        }
    }
}

#[test]
fn delivered_and_never_answered() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    world.state.borrow_mut().server_dead = true;
    world.deliver(USER, io(vfs::READ, 3, BUFFER, BYTES, 0));
    world.deliver(OTHER, Message::bare(vfs::SYNC));
    world.settle();
    assert_eq!((world.answer_to(USER), world.answer_to(OTHER)), (None, None));
    let news = world.crash();
    tell(&world, &news);
    tell(&world, &news);
    world.settle();
    assert_eq!(world.answer_to(USER), Some(Err(Errno::EIO)));
    assert_eq!(world.answer_to(OTHER), Some(Ok(0)), "it was still in the queue");
    assert_eq!(world.position(3), 0);
    // Nobody else may say so.
    let forged = pm::Restarted { old: world.state.borrow().server.raw(), new: Endpoint::new(9, 10).raw() };
    world.deliver(USER, Message::new(rs::RESTARTED, &forged));
    world.settle();
    assert_eq!(world.answer_to(USER), Some(Err(Errno::EBADREQUEST)));
    assert_eq!(world.io(vfs::READ, 3, BUFFER, BYTES, 0), Ok(BYTES));
    world.check_nothing_left();
}

#[test]
fn what_the_successor_does_not_know_is_gone() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    assert_eq!(world.on_path(vfs::CHDIR, "/", 0), Ok(0));
    world.state.borrow_mut().inodes.remove(&2);
    let news = world.crash();
    tell(&world, &news);
    world.settle();
    assert_eq!(world.io(vfs::READ, 3, BUFFER, 10, 0), Err(Errno::EIO));
    assert_eq!(world.io(vfs::FSTAT, 3, BUFFER, 72, 0), Err(Errno::EIO));
    assert_eq!(world.io(vfs::FSYNC, 3, 0, 0, 0), Err(Errno::EIO));
    // Another file gets the number: it is another file.
    world.state.borrow_mut().inodes.insert(2, Inode::File(b"new".to_vec()));
    assert_eq!(world.open("/b.bin", 0), Ok(4));
    assert_eq!(world.io(vfs::READ, 4, BUFFER, 10, 0), Ok(3));
    assert_eq!(world.io(vfs::READ, 3, BUFFER, 10, 0), Err(Errno::EIO));
    world.check_nothing_left();
}

#[test]
fn again_and_again_and_given_up() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    for _ in 0..5 {
        // It dies once more before it has heard everything.
        let first = world.crash();
        tell(&world, &first);
        let second = world.crash();
        tell(&world, &second);
        world.settle();
        assert_eq!(world.io(vfs::PREAD, 3, BUFFER, 10, 0), Ok(10));
    }
    world.crash();
    world.state.borrow_mut().given_up = true;
    assert_eq!(world.io(vfs::PREAD, 3, BUFFER, 10, 0), Err(Errno::EIO));
    assert_eq!(world.open("/b.bin", 0), Err(Errno::EIO));
    world.exit(USER);
    world.settle();
    assert_eq!(world.vfs.tasks(), 0);
}

#[test]
fn pipes_do_not_outlive_their_server() {
    let world = World::new(Retry::Hardened, FsReply::Partial);
    world.settle();
    assert_eq!(world.call(USER, Message::bare(vfs::PIPE)), Ok(3 | 4 << 32));
    world.deliver(USER, io(vfs::READ, 3, BUFFER, 10, 0));
    world.settle();
    assert_eq!(world.answer_to(USER), None);
    let new = Endpoint::PIPEFS.next_generation();
    tell(&world, &pm::Restarted { old: Endpoint::PIPEFS.raw(), new: new.raw() });
    assert_eq!(world.answer_to(USER), Some(Err(Errno::EIO)), "whoever sleeps hears of it");
    assert_eq!(world.io(vfs::WRITE, 4, BUFFER, 10, 0), Err(Errno::EIO));
    assert_eq!(world.io(vfs::CLOSE, 3, 0, 0, 0), Ok(0));
    world.exit(USER);
    assert_eq!(world.vfs.tasks(), 0);
}

#[test]
fn what_was_written_and_not_synced_is_reported_once() {
    let sync = Message::bare(vfs::SYNC);
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    world.state.borrow_mut().add("c.bin", Inode::File(pattern(3, 0, 100)));
    assert_eq!(world.open("/c.bin", O_RDWR), Ok(4));
    let crash = || {
        let news = world.crash();
        tell(&world, &news);
        world.settle();
    };
    // Nothing was written.
    crash();
    assert_eq!((world.io(vfs::FSYNC, 3, 0, 0, 0), world.call(USER, sync)), (Ok(0), Ok(0)));
    // Written and synced, by a request about another file.
    assert_eq!(world.io(vfs::WRITE, 3, BUFFER, 10, 0), Ok(10));
    assert_eq!(world.io(vfs::FSYNC, 4, 0, 0, 0), Ok(0));
    crash();
    assert_eq!(world.io(vfs::FSYNC, 3, 0, 0, 0), Ok(0));
    // Written and lost: whoever asks about that file hears it, once.
    for change in [io(vfs::WRITE, 3, BUFFER, 10, 0), io(vfs::FTRUNCATE, 3, 0, 0, 5)] {
        assert!(world.call(USER, change).is_ok());
        crash();
        crash();
        assert_eq!(world.call(USER, sync), Ok(0), "about everything there is nobody to tell");
        assert_eq!(world.io(vfs::FSYNC, 4, 0, 0, 0), Ok(0));
        assert_eq!(world.io(vfs::FSYNC, 3, 0, 0, 0), Err(Errno::EIO));
        assert_eq!(world.io(vfs::FSYNC, 3, 0, 0, 0), Ok(0));
    }
    // A name that is lost is a change of the directory.
    assert_eq!(world.open("/", 0), Ok(5));
    assert_eq!(world.on_path(vfs::MKDIR, "/made", 0), Ok(0));
    crash();
    assert_eq!(world.io(vfs::FSYNC, 5, 0, 0, 0), Err(Errno::EIO));
    assert_eq!(world.io(vfs::FSYNC, 5, 0, 0, 0), Ok(0));
    // Dying in the middle of it is reported by that request, and not again.
    assert_eq!(world.io(vfs::WRITE, 3, BUFFER, 10, 0), Ok(10));
    world.state.borrow_mut().server_dead = true;
    world.deliver(USER, io(vfs::FSYNC, 3, 0, 0, 0));
    world.settle();
    crash();
    assert_eq!(world.answer_to(USER), Some(Err(Errno::EIO)));
    assert_eq!(world.io(vfs::FSYNC, 3, 0, 0, 0), Ok(0));
    world.check_nothing_left();
}
