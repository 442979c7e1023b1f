//! Processes that die while their requests are under way: every request ends, and nothing is left.

use refault_abi::cdev;

use super::*;
use crate::world::{OTHER, io};

#[test]
fn at_each_step_of_a_request_and_vm_does_not_answer_for_the_dead() {
    for request in [vfs::READ, vfs::WRITE] {
        for step in 0..12 {
            let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
            world.state.borrow_mut().inject = BTreeSet::from([2, 12]);
            let handle = world.map(3, 6, 2);
            world.deliver(USER, io(request, 3, BUFFER, BYTES, 0));
            for _ in 0..step {
                world.step();
            }
            // VM forgets what it was asked for a process that is gone.
            world.state.borrow_mut().outbox.retain(|(to, _)| *to != Endpoint::VM);
            world.exit(USER);
            world.settle();
            assert_eq!(world.vfs.tasks(), 0, "step {step}");
            world.release(handle);
            world.state.borrow_mut().answers.clear();
            // Nobody else is held up.
            let path = vfs::Path { address: 0, length: 6, flags: O_RDWR, ..vfs::Path::default() };
            world.put(0, b"/b.bin");
            assert_eq!(world.call(OTHER, Message::new(vfs::OPEN, &path)), Ok(3));
            assert_eq!(world.call(OTHER, io(vfs::WRITE, 3, BUFFER, 100, 0)), Ok(100));
            world.check_nothing_left();
        }
    }
}

#[test]
fn a_reader_of_the_terminal_is_cancelled() {
    let world = World::new(Retry::Hardened, FsReply::Partial);
    world.settle();
    world.deliver(USER, io(vfs::READ, 0, BUFFER, 100, 0));
    let (to, asked) = world.state.borrow().outbox[0];
    assert_eq!((to, asked.kind()), (Endpoint::TTY, cdev::READ));
    world.settle();
    // Nothing is typed, and others go on.
    assert_eq!(world.call(OTHER, io(vfs::WRITE, 1, BUFFER, 100, 0)), Ok(100));
    world.deliver(Endpoint::PM, {
        let target = refault_abi::kcall::Target { endpoint: USER.raw(), reserved: 0 };
        Message::new(vfs::PM_EXIT, &target).with_transaction(3)
    });
    let cancel = world.state.borrow().outbox.iter().find(|(to, _)| *to == Endpoint::TTY).unwrap().1;
    assert_eq!((cancel.kind(), cancel.get::<cdev::Transfer>().user), (cdev::CANCEL, USER.raw()));
    world.settle();
    assert_eq!(world.answer_to(Endpoint::PM), Some(Ok(0)));
    world.state.borrow_mut().answers.clear();
    // A late answer finds nobody.
    let typed = refault_abi::message::Status { result: 5 };
    world.deliver(Endpoint::TTY, asked.reply(refault_abi::message::REPLY, &typed));
    assert!(world.state.borrow().answers.is_empty());
    world.check_nothing_left();
}

#[test]
fn one_that_waits_for_a_lock() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    let fork = vfs::PmFork { parent: USER.raw(), child: OTHER.raw() };
    assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_FORK, &fork)), Ok(0));
    world.deliver(USER, io(vfs::WRITE, 3, BUFFER, BYTES, 0));
    world.deliver(OTHER, io(vfs::WRITE, 3, BUFFER, 10, 0));
    world.exit(OTHER);
    world.settle();
    assert_eq!(world.answer_to(USER), Some(Ok(BYTES)));
    assert_eq!(world.vfs.tasks(), 0);
    world.state.borrow_mut().answers.clear();
    world.check_nothing_left();
}
