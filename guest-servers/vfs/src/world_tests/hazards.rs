//! Circles of waits: each hangs as the seed has it and ends as ours does. Names as in the specification.

use refault_abi::options::Options;

use super::*;
use crate::world::{OTHER, io};

/// A world in the words of the command line, with two files as descriptors 3 (`/b.bin`) and 4 (`/c.bin`).
fn with(words: &str) -> World {
    let world = World::with(Options::parse(words).unwrap());
    world.state.borrow_mut().add("b.bin", Inode::File(pattern(2, 0, BYTES)));
    world.state.borrow_mut().add("c.bin", Inode::File(pattern(3, 0, BYTES)));
    world.state.borrow_mut().add("prog", Inode::Program(pattern(5, 0, BYTES)));
    world.settle();
    assert_eq!((world.open("/b.bin", O_RDWR), world.open("/c.bin", O_RDWR)), (Ok(3), Ok(4)));
    world
}

/// Runs the scenario both ways: the seed's is stuck for `reasons`, ours answers everybody of `clients` with everything.
fn both_ways(clients: &[Endpoint], reasons: &[&str], scenario: impl Fn(&World)) {
    let world = with("mode=faithful");
    scenario(&world);
    let why = world.stuck();
    for reason in reasons {
        assert!(why.contains(reason), "{reason} is not among {why:?}");
    }
    assert!(clients.iter().any(|client| world.answer_to(*client).is_none()));

    let world = with("mode=hardened");
    scenario(&world);
    world.settle();
    for client in clients {
        assert_eq!(world.answer_to(*client), Some(Ok(BYTES / 2)), "{client:?}");
    }
    assert_eq!(world.vfs.tasks(), 0);
}

#[test]
fn d1_a_copy_that_waits_for_vm() {
    // The file system is suspended in the middle of the one request it serves; the page-in waits for it.
    let world = with("try=off");
    world.map(4, 2, 1);
    world.deliver(USER, io(vfs::READ, 3, BUFFER, BYTES, 0));
    assert_eq!(world.stuck(), ["READ", "turn at a file system"]);
    let circle: Vec<_> = world.state.borrow().waiting.values().map(|(c, t, o, _)| (*c, *t, *o)).collect();
    assert_eq!(
        circle,
        [(USER, Endpoint::MFS, Endpoint::NONE), (Endpoint::VM, Endpoint::VFS, USER)],
        "for whom, whom, for whom"
    );
    for words in ["mode=hardened", "mode=faithful"] {
        let world = with(words);
        world.map(4, 2, 1);
        assert_eq!(world.io(vfs::READ, 3, BUFFER, BYTES, 0), Ok(BYTES), "{words}");
        assert_eq!(world.state.borrow().suspended, 0);
    }
}

#[test]
fn h2_no_worker_left_for_a_page_in() {
    let world = |words| {
        let world = with(words);
        world.map(4, 2, 2);
        assert_eq!(world.open("/prog", O_RDWR), Ok(5));
        let clients: Vec<Endpoint> = (30..37).map(|slot| Endpoint::new(1, slot)).collect();
        for client in &clients {
            let fork = vfs::PmFork { parent: USER.raw(), child: client.raw() };
            assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_FORK, &fork)), Ok(0));
        }
        // The first write has the file's lock and will need a page that VM has to ask for; seven others wait for the
        // lock, and so does the opening of the program.
        world.deliver(USER, io(vfs::PWRITE, 5, BUFFER, BYTES / 2, 0));
        for client in &clients {
            world.deliver(*client, io(vfs::PWRITE, 5, 20 * 4096, BYTES / 2, 0));
        }
        world.put(0, b"/prog");
        let exec = vfs::PmExec { endpoint: USER.raw(), length: 5, ..vfs::PmExec::default() };
        world.deliver(Endpoint::PM, Message::new(vfs::PM_EXEC, &exec).with_transaction(9));
        (world, clients)
    };
    let (stuck, _) = world("mode=faithful");
    let why = stuck.stuck();
    assert!(why.contains(&"HANDLEMEM") && why.contains(&"free worker"), "{why:?}");
    assert_eq!(why.iter().filter(|why| **why == "file lock").count(), 8);

    let (free, clients) = world("");
    free.settle();
    for client in clients.iter().chain([&USER]) {
        assert_eq!(free.answer_to(*client), Some(Ok(BYTES / 2)));
    }
    assert_eq!(free.vfs.tasks(), 0);
}

#[test]
fn h4_reading_a_file_into_a_mapping_by_the_same_descriptor() {
    both_ways(&[USER], &["HANDLEMEM", "open-file lock"], |world| {
        world.map(3, 2, 3);
        world.deliver(USER, io(vfs::READ, 3, BUFFER, BYTES / 2, 0));
    });
}

#[test]
fn h5_writing_a_file_from_a_mapping_of_it() {
    both_ways(&[USER], &["HANDLEMEM", "file lock"], |world| {
        assert_eq!(world.open("/b.bin", O_RDWR), Ok(5));
        world.map(5, 2, 3);
        world.deliver(USER, io(vfs::WRITE, 3, BUFFER, BYTES / 2, 0));
    });
    // A read with a writer queued behind it.
    both_ways(&[USER, OTHER], &["HANDLEMEM", "file lock"], |world| {
        assert_eq!(world.open("/b.bin", O_RDWR), Ok(5));
        world.map(5, 2, 3);
        let fork = vfs::PmFork { parent: USER.raw(), child: OTHER.raw() };
        assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_FORK, &fork)), Ok(0));
        world.deliver(USER, io(vfs::PREAD, 3, BUFFER, BYTES / 2, 0));
        world.deliver(OTHER, io(vfs::PWRITE, 3, 20 * 4096, BYTES / 2, 0));
    });
    // Two processes that write each other's mapped files.
    both_ways(&[USER, OTHER], &["HANDLEMEM", "file lock"], |world| {
        let fork = vfs::PmFork { parent: USER.raw(), child: OTHER.raw() };
        assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_FORK, &fork)), Ok(0));
        world.map(4, 2, 2);
        world.map(3, 22, 2);
        world.deliver(USER, io(vfs::PWRITE, 3, BUFFER, BYTES / 2, 0));
        world.deliver(OTHER, io(vfs::PWRITE, 4, BUFFER + 20 * 4096, BYTES / 2, 0));
    });
}

#[test]
fn h6_reading_a_disk_into_a_mapping_of_a_disk() {
    both_ways(&[USER], &["HANDLEMEM", "lock of all disks"], |world| {
        assert_eq!((world.open("/dev/disk0", O_RDWR), world.open("/dev/disk0", O_RDWR)), (Ok(5), Ok(6)));
        world.map(6, 2, 3);
        world.deliver(USER, io(vfs::READ, 5, BUFFER, BYTES / 2, 0));
    });
}

#[test]
fn h7_a_programs_arguments_in_a_page_that_is_not_there() {
    let world = |words| {
        let world = with(words);
        world.map(3, 3, 1);
        world.put(0, b"/prog");
        let strings = 3 * 4096 + 50;
        let exec = vfs::PmExec { endpoint: USER.raw(), length: 5, address: 0, strings, bytes: 100 };
        world.deliver(Endpoint::PM, Message::new(vfs::PM_EXEC, &exec).with_transaction(9));
        world
    };
    assert_eq!(world("mode=faithful").stuck(), ["HANDLEMEM", "process lock of vm"]);
    let ours = world("");
    ours.settle();
    let (_, answer) = ours.state.borrow_mut().answers.pop_front().unwrap();
    assert_eq!(answer.get::<vfs::Program>().result, 0);
}

#[test]
fn h8_pm_waits_for_a_page_and_vfs_waits_for_pm() {
    for (words, waits) in [("mode=faithful", true), ("mode=hardened", false)] {
        let world = with(words);
        let handle = world.fd_lookup(3).handle;
        // PM copies from a process's page; VM asks VFS for it. Meanwhile VFS has closed the files of another process.
        world.state.borrow_mut().pm_suspended = true;
        let target = refault_abi::kcall::Target { endpoint: OTHER.raw(), reserved: 0 };
        world.deliver(Endpoint::PM, Message::new(vfs::PM_EXIT, &target).with_transaction(5));
        let call = vfs::VmCall {
            operation: vfs::PAGEIN,
            request: 5,
            handle,
            length: 4096,
            ..vfs::VmCall::default()
        };
        if waits {
            assert!(!world.step() && world.vfs.tasks() == 0, "VFS itself waits, and takes no page-in");
            assert_eq!(world.stuck(), Vec::<&str>::new());
        } else {
            world.deliver(Endpoint::VM, Message::new(vfs::VMCALL, &call));
            world.settle();
            assert_eq!(world.answer_to(Endpoint::PM), Some(Ok(0)));
        }
    }
}

#[test]
fn the_seeds_page_ins_move_positions_and_its_failed_appends_are_forgotten() {
    let world = with("mode=faithful");
    // A mapping of what descriptor 4 leads to is touched: 4's position moves.
    world.map(4, 2, 1);
    assert_eq!(world.io(vfs::PREAD, 3, BUFFER, BYTES, 0), Ok(BYTES));
    assert_eq!(world.position(4), 4096);

    assert_eq!(world.open("/b.bin", O_WRONLY | O_APPEND), Ok(5));
    assert_eq!(world.io(vfs::WRITE, 5, MEMORY as u64 - 10_000, BYTES, 0), Err(Errno::EFAULT));
    assert_eq!(world.io(vfs::WRITE, 5, 0, 10, 0), Ok(10));
    let last = world.state.borrow().log.last().copied();
    assert_eq!(last, Some((fs::WRITE, BYTES)), "where the file ended before the failed one");
}

#[test]
fn workers_are_for_requests_that_do_something() {
    // Ten readers at pipes and the terminal: a sleeping request needs no worker.
    let world = with("mode=faithful");
    assert_eq!(world.call(USER, Message::bare(vfs::PIPE)), Ok(5 | 6 << 32));
    let sleepers: Vec<Endpoint> = (30..42).map(|slot| Endpoint::new(1, slot)).collect();
    for (index, client) in sleepers.iter().enumerate() {
        let fork = vfs::PmFork { parent: USER.raw(), child: client.raw() };
        assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_FORK, &fork)), Ok(0));
        let descriptor = if index % 2 == 0 { 5 } else { 0 };
        world.deliver(*client, io(vfs::READ, descriptor, BUFFER, 10, 0));
        world.settle();
    }
    assert_eq!(world.vfs.tasks(), sleepers.len());
    assert_eq!(world.io(vfs::READ, 3, BUFFER, 100, 0), Ok(100));
    for _ in sleepers.iter().step_by(2) {
        assert_eq!(world.io(vfs::WRITE, 6, BUFFER, 10, 0), Ok(10));
        world.settle();
    }
    assert_eq!(world.vfs.tasks(), sleepers.len() / 2);
    for client in &sleepers {
        world.exit(*client);
    }
    world.settle();
    assert_eq!(world.vfs.tasks(), 0);
}
