//! Pipes: nothing lost, nothing doubled, nobody left waiting.

use refault_abi::kcall;

use super::*;
use crate::world::{OTHER, io};

/// A world in which the user and a child of its have a pipe: descriptors 3 (reading) and 4 (writing).
fn piped() -> World {
    let world = World::new(Retry::Hardened, FsReply::Partial);
    world.settle();
    assert_eq!(world.call(USER, Message::bare(vfs::PIPE)), Ok(3 | 4 << 32));
    let fork = vfs::PmFork { parent: USER.raw(), child: OTHER.raw() };
    assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_FORK, &fork)), Ok(0));
    world.state.borrow_mut().site = 0;
    world
}

/// Where the reader's memory begins.
const INTO: u64 = 25 * 4096 + 77;

fn close(world: &World, who: Endpoint, descriptor: u64) {
    assert_eq!(world.call(who, io(vfs::CLOSE, descriptor, 0, 0, 0)), Ok(0));
    world.settle();
}

#[test]
fn bytes_come_out_as_they_went_in_under_every_schedule() {
    let bytes = 20_000;
    let run = |inject: &[u64], grantee_side: bool| {
        let world = piped();
        world.put(BUFFER as usize, &pattern(7, 0, bytes));
        {
            let mut state = world.state.borrow_mut();
            state.inject = inject.iter().copied().collect();
            state.grantee_side = grantee_side;
        }
        // The reader is there first, and gets what there is, not less.
        world.deliver(OTHER, io(vfs::READ, 3, INTO, 6_000, 0));
        world.settle();
        assert_eq!(world.answer_to(OTHER), None);
        assert_eq!(world.call(USER, io(vfs::WRITE, 4, BUFFER, bytes, 0)), Ok(bytes));
        world.settle();
        assert_eq!(world.answer_to(OTHER), Some(Ok(6_000)));
        close(&world, USER, 4);
        close(&world, OTHER, 4);
        let mut done = 6_000;
        loop {
            let got = world.call(OTHER, io(vfs::READ, 3, INTO + done, 9_000, 0)).unwrap();
            if got == 0 {
                break;
            }
            done += got;
        }
        assert_eq!(done, bytes);
        let state = world.state.borrow();
        let out = &state.memory[INTO as usize..(INTO + bytes) as usize];
        assert_eq!(matching_prefix(7, 0, out) as u64, bytes, "{inject:?}");
        let sites = state.site;
        drop(state);
        assert_eq!(world.counter(Counter::VfsMarksSeen), world.counter(Counter::VfsRepeats));
        assert!(inject.is_empty() || world.counter(Counter::VfsRepeats) > 0);
        world.check_nothing_left();
        sites
    };
    let sites = run(&[], false);
    assert!(sites > 10);
    for grantee_side in [false, true] {
        for first in 0..sites {
            run(&[first], grantee_side);
            for second in first + 1..(first + 8).min(sites) {
                run(&[first, second], grantee_side);
            }
        }
    }
}

#[test]
fn a_writer_waits_for_room_and_small_writes_stay_together() {
    let world = piped();
    let capacity = refault_pipefs::pipe::CAPACITY as u64;
    let bytes = 2 * capacity;
    world.put(0, &pattern(9, 0, bytes));
    world.deliver(USER, io(vfs::WRITE, 4, 0, bytes, 0));
    world.settle();
    assert_eq!(world.answer_to(USER), None, "it does not fit");
    // The same memory lies behind both processes: what has been read is compared, then forgotten.
    let place = 35 * 4096;
    let mut done = 0;
    while done < bytes {
        let got = world.call(OTHER, io(vfs::READ, 3, place, 10_000.min(bytes - done), 0)).unwrap();
        let out = world.state.borrow().memory[place as usize..(place + got) as usize].to_vec();
        assert_eq!(matching_prefix(9, done, &out) as u64, got);
        done += got;
        world.settle();
    }
    assert_eq!(world.answer_to(USER), Some(Ok(bytes)));

    // Full but for 100 bytes: a write of 200 waits as a whole.
    assert_eq!(world.call(USER, io(vfs::WRITE, 4, 0, capacity - 100, 0)), Ok(capacity - 100));
    world.deliver(USER, io(vfs::WRITE, 4, 0, 200, 0));
    world.settle();
    assert_eq!(world.answer_to(USER), None);
    assert_eq!(world.call(OTHER, io(vfs::READ, 3, place, 99, 0)), Ok(99));
    world.settle();
    assert_eq!(world.answer_to(USER), None);
    assert_eq!(world.call(OTHER, io(vfs::READ, 3, place, 1, 0)), Ok(1));
    world.settle();
    assert_eq!(world.answer_to(USER), Some(Ok(200)));
    world.check_nothing_left();
}

#[test]
fn the_other_end_is_gone() {
    let world = piped();
    close(&world, USER, 3);
    // A writer asleep when the last reader goes: what is in the pipe counts.
    let capacity = refault_pipefs::pipe::CAPACITY as u64;
    world.deliver(USER, io(vfs::WRITE, 4, 0, capacity + 10, 0));
    world.settle();
    world.exit(OTHER);
    world.settle();
    assert_eq!(world.answer_to(USER), Some(Ok(capacity)));
    assert_eq!(world.io(vfs::WRITE, 4, 0, 10, 0), Err(Errno::EPIPE));
    assert_eq!(world.io(vfs::READ, 4, 0, 10, 0), Err(Errno::EBADF));
    assert_eq!(world.io(vfs::LSEEK, 4, 0, 10, 0), Err(Errno::ESPIPE));
    assert_eq!(world.io(vfs::PWRITE, 4, 0, 10, 0), Err(Errno::ESPIPE));
    assert_eq!(world.io(vfs::FTRUNCATE, 4, 0, 10, 0), Err(Errno::EINVAL));
    world.check_nothing_left();

    // A reader asleep when the last writer goes; one that dies asleep.
    let world = piped();
    close(&world, USER, 4);
    world.deliver(USER, io(vfs::READ, 3, 0, 10, 0));
    world.settle();
    assert_eq!(world.answer_to(USER), None);
    close(&world, OTHER, 4);
    assert_eq!(world.answer_to(USER), Some(Ok(0)));
    world.check_nothing_left();

    let world = piped();
    world.deliver(USER, io(vfs::READ, 3, 0, 10, 0));
    world.settle();
    assert_eq!(world.vfs.tasks(), 1);
    world.exit(USER);
    world.settle();
    assert_eq!(world.vfs.tasks(), 0);
    assert_eq!(world.call(OTHER, io(vfs::WRITE, 4, 0, 10, 0)), Ok(10), "the child still reads it");
    world.check_nothing_left();
}

#[test]
fn a_table_without_room_leaves_no_pipe() {
    let world = World::new(Retry::Hardened, FsReply::Partial);
    world.settle();
    let dup = vfs::Dup { descriptor: 0, wanted: -1 };
    for descriptor in 3..63 {
        assert_eq!(world.call(USER, Message::new(vfs::DUP, &dup)), Ok(descriptor));
    }
    // One is free, two are needed.
    assert_eq!(world.call(USER, Message::bare(vfs::PIPE)), Err(Errno::EMFILE));
    assert_eq!(world.call(USER, Message::new(vfs::DUP, &dup)), Ok(63));
    assert_eq!(world.call(USER, Message::bare(vfs::PIPE)), Err(Errno::EMFILE));
    let target = kcall::Target { endpoint: OTHER.raw(), reserved: 0 };
    assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_NEW, &target)), Ok(0));
    world.check_nothing_left();
}

#[test]
fn no_more_memory_is_brought_in_than_a_pipe_can_fill() {
    assert!(crate::requests::pipe::MOST >= refault_pipefs::pipe::CAPACITY as u64);
    let world = piped();
    world.put(BUFFER as usize, &pattern(7, 0, 10));
    assert_eq!(world.call(USER, io(vfs::WRITE, 4, BUFFER, 10, 0)), Ok(10));
    // The reader offers memory behind which there is nothing: VM would have to refuse all of it.
    let site = world.state.borrow().site;
    world.state.borrow_mut().inject = [site].into();
    assert_eq!(world.call(OTHER, io(vfs::READ, 3, 20 * 4096, 1 << 40, 0)), Ok(10));
    assert_eq!(world.counter(Counter::VfsRepeats), 1);
    world.check_nothing_left();
}
