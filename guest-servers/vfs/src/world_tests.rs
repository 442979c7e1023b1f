//! The server in its [world](crate::world): what it does, under every schedule of one and two faults.

mod clients;
mod devices;
mod hazards;
mod pipes;
mod restarts;
mod schedules;
mod seeded;

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::options::{FsReply, Retry};
use refault_abi::pattern::{fill, matching_prefix};
use refault_abi::vfs::{self, O_APPEND, O_CREAT, O_EXCL, O_RDWR, O_TRUNC, O_WRONLY};
use refault_abi::{Endpoint, Errno, Message, fs, vm};

use crate::world::{Inode, MEMORY, ROOT, USER, World};

/// An odd place in the user's memory, behind the page for paths.
const BUFFER: u64 = 4096 + 123;
/// Bytes of the file and of each transfer: nine pages of the buffer.
const BYTES: u64 = 32_768;

const REPLIES: [FsReply; 3] = [FsReply::Whole, FsReply::Partial, FsReply::Swallow];

fn pattern(id: u32, from: u64, bytes: u64) -> Vec<u8> {
    let mut data = vec![0; bytes as usize];
    fill(id, from, &mut data);
    data
}

/// A world with a file, opened as descriptor 3.
fn world(retry: Retry, mode: FsReply, flags: u32) -> World {
    let world = World::new(retry, mode);
    world.state.borrow_mut().add("b.bin", Inode::File(pattern(2, 0, BYTES)));
    world.settle();
    assert_eq!(world.open("/b.bin", flags), Ok(3));
    world.state.borrow_mut().site = 0;
    world
}

fn buffer_prefix(world: &World) -> u64 {
    let start = BUFFER as usize;
    matching_prefix(2, 0, &world.state.borrow().memory[start..start + BYTES as usize]) as u64
}

/// A whole read under a schedule of sites; what it answered.
fn read_under(world: &World, sites: &[u64], grantee_side: bool) -> refault_abi::Result<u64> {
    {
        let mut state = world.state.borrow_mut();
        state.inject = sites.iter().copied().collect();
        state.grantee_side = grantee_side;
    }
    world.io(vfs::READ, 3, BUFFER, BYTES, 0)
}

#[test]
fn hardened_reads_are_whole_under_every_schedule_of_one_and_two_faults() {
    let sites = {
        let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
        assert_eq!(read_under(&world, &[], false), Ok(BYTES));
        assert_eq!(world.counter(Counter::VfsMarksSeen), 0);
        world.state.borrow().site
    };
    assert!(sites > 8);
    for mode in REPLIES {
        for grantee_side in [false, true] {
            for first in 0..sites {
                // A second fault may also come in the repetition.
                for second in first..2 * sites {
                    let world = world(Retry::Hardened, mode, O_RDWR);
                    let schedule = BTreeSet::from([first, second]);
                    let schedule = schedule.into_iter().collect::<Vec<_>>();
                    assert_eq!(
                        read_under(&world, &schedule, grantee_side),
                        Ok(BYTES),
                        "{mode:?} {schedule:?}"
                    );
                    assert_eq!(buffer_prefix(&world), BYTES);
                    assert_eq!(world.position(3), BYTES);
                    let (marks, repeats) =
                        (world.counter(Counter::VfsMarksSeen), world.counter(Counter::VfsRepeats));
                    assert!(marks >= 1, "no fault happened");
                    assert_eq!(marks, repeats);
                    assert_eq!(world.state.borrow().suspended, 0, "every attempt keeps CPF_TRY");
                    world.check_nothing_left();
                }
            }
        }
    }
}

#[test]
fn hardened_writes_are_whole_under_every_single_fault() {
    for mode in REPLIES {
        for site in 0..12 {
            let world = world(Retry::Hardened, mode, O_RDWR);
            world.put(BUFFER as usize, &pattern(7, 0, BYTES));
            world.state.borrow_mut().inject = BTreeSet::from([site]);
            assert_eq!(world.io(vfs::PWRITE, 3, BUFFER, BYTES, 100), Ok(BYTES));
            assert_eq!(world.counter(Counter::VfsMarksSeen), 1);
            let mut expected = pattern(2, 0, 100);
            expected.extend(pattern(7, 0, BYTES));
            assert_eq!(world.state.borrow().inodes[&2], Inode::File(expected));
            assert_eq!(world.position(3), 0, "PWRITE does not move the position");
            world.check_nothing_left();
        }
    }
}

#[test]
fn policies_of_old_behave_as_they_did() {
    // The third page of the buffer is absent from the beginning.
    let outcome = |retry, mode| {
        let world = world(retry, mode, O_RDWR);
        world.state.borrow_mut().absent.insert(3);
        let got = world.io(vfs::READ, 3, BUFFER, BYTES, 0);
        let state = (got, world.position(3), world.counter(Counter::VfsRepeats));
        world.check_nothing_left();
        state
    };
    // What the seed found: a file system that answers partially, and nobody looks at the mark.
    assert_eq!(outcome(Retry::Efault, FsReply::Partial), (Ok(4096), 4096, 0));
    assert_eq!(outcome(Retry::Efault, FsReply::Whole), (Ok(BYTES), BYTES, 1));
    for mode in REPLIES {
        assert_eq!(outcome(Retry::Mark, mode), (Ok(BYTES), BYTES, 1));
        assert_eq!(outcome(Retry::Hardened, mode), (Ok(BYTES), BYTES, 1));
    }
}

#[test]
fn the_marks_second_attempt_waits_for_vm_and_is_final() {
    let world = world(Retry::Mark, FsReply::Partial, O_RDWR);
    world.state.borrow_mut().absent.insert(3);
    // Taken away once more in the second attempt, which is without CPF_TRY.
    assert_eq!(read_under(&world, &[5], false), Ok(BYTES));
    assert_eq!(world.state.borrow().suspended, 1);
    assert_eq!(world.counter(Counter::VfsMarksSeen), 1);
}

#[test]
fn a_page_that_never_stays_ends_in_a_defined_error() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    world.state.borrow_mut().cursed.insert(4);
    assert_eq!(world.io(vfs::READ, 3, BUFFER, BYTES, 0), Err(Errno::EFAULT));
    assert_eq!(world.counter(Counter::VfsGivenUp), 1);
    assert_eq!(world.counter(Counter::VfsRepeats), u64::from(crate::retry::FAULTS_PER_PAGE));
    assert_eq!(world.position(3), 0);
    // A raw copy of VFS's own, of a path in such a page, likewise.
    let path = vfs::Path { address: 4 * 4096, length: 1, ..vfs::Path::default() };
    assert_eq!(world.call(USER, Message::new(vfs::CHDIR, &path)), Err(Errno::EFAULT));
    world.state.borrow_mut().cursed.clear();
    assert_eq!(world.io(vfs::READ, 3, BUFFER, BYTES, 0), Ok(BYTES), "and no harm is done");
    world.check_nothing_left();
}

#[test]
fn memory_that_vm_refuses_is_the_users_error_and_moves_nothing() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    let address = MEMORY as u64 - 10_000;
    assert_eq!(world.io(vfs::READ, 3, address, BYTES, 0), Err(Errno::EFAULT));
    assert_eq!(world.position(3), 0);
    // The file ends before the bad memory begins: what the transfer cannot reach does not matter.
    assert_eq!(world.io(vfs::PREAD, 3, address, BYTES, BYTES as i64 - 9_000), Ok(9_000));
    assert_eq!(world.io(vfs::READ, 3, 0xffff_8000_0000_0000, 1, 0), Err(Errno::EFAULT));
    assert_eq!(world.io(vfs::READ, 3, u64::MAX, u64::MAX, 0), Err(Errno::EFAULT));
    world.check_nothing_left();
}

#[test]
fn an_append_offset_is_frozen() {
    for mode in REPLIES {
        for site in 0..12 {
            let world = world(Retry::Hardened, mode, O_WRONLY | O_APPEND);
            world.put(BUFFER as usize, &pattern(7, 0, BYTES));
            world.state.borrow_mut().inject = BTreeSet::from([site]);
            assert_eq!(world.io(vfs::WRITE, 3, BUFFER, BYTES, 0), Ok(BYTES));
            let state = world.state.borrow();
            let writes: Vec<_> = state.log.iter().filter(|(kind, _)| *kind == fs::WRITE).collect();
            assert_eq!(writes, vec![&(fs::WRITE, BYTES); 2], "both attempts at the same offset");
            let mut expected = pattern(2, 0, BYTES);
            expected.extend(pattern(7, 0, BYTES));
            assert_eq!(state.inodes[&2], Inode::File(expected));
        }
    }
}

#[test]
fn a_failed_write_leaves_the_file_as_long_as_it_was() {
    for mode in REPLIES {
        for flags in [O_WRONLY | O_APPEND, O_WRONLY] {
            let world = world(Retry::Hardened, mode, flags);
            let from = if flags & O_APPEND != 0 { BYTES } else { BYTES - 3000 };
            if flags & O_APPEND == 0 {
                let seek = vfs::Io { descriptor: 3, offset: from as i64, ..vfs::Io::default() };
                assert_eq!(world.call(USER, Message::new(vfs::LSEEK, &seek)), Ok(from));
            }
            // The attempt makes the file longer, then the memory turns out to be bad.
            assert_eq!(world.io(vfs::WRITE, 3, MEMORY as u64 - 10_000, BYTES, 0), Err(Errno::EFAULT));
            let length = |world: &World| match &world.state.borrow().inodes[&2] {
                Inode::File(data) => data.len() as u64,
                _ => panic!(),
            };
            assert_eq!(length(&world), BYTES, "{mode:?}");
            assert!(world.state.borrow().log.iter().any(|(kind, _)| *kind == fs::FTRUNC), "it had grown");
            assert_eq!(world.io(vfs::WRITE, 3, 0, 10, 0), Ok(10));
            assert_eq!(world.state.borrow().log.last(), Some(&(fs::WRITE, from)), "where it was to begin");
            assert_eq!(length(&world), BYTES.max(from + 10));
            world.check_nothing_left();

            // The same at the bound of the repeats.
            let world = self::world(Retry::Hardened, mode, O_WRONLY | O_APPEND);
            world.state.borrow_mut().cursed.insert(5);
            assert_eq!(world.io(vfs::WRITE, 3, BUFFER, BYTES, 0), Err(Errno::EFAULT));
            assert_eq!((world.counter(Counter::VfsGivenUp), length(&world)), (1, BYTES));
            world.check_nothing_left();
        }
    }
}

#[test]
fn a_page_in_takes_no_lock_that_a_requester_holds() {
    for request in [vfs::READ, vfs::WRITE] {
        let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
        let reply = world.fd_lookup(3);
        assert_eq!((reply.result, reply.request, reply.inode, reply.size), (0, 77, 2, BYTES));
        // The buffer is a mapping of the very file that is read or written through the very same descriptor.
        let handle = world.map(3, 1, 8);
        assert_eq!(world.io(request, 3, BUFFER, BYTES - 4096, 0), Ok(BYTES - 4096));
        assert_eq!(world.position(3), BYTES - 4096, "page-ins move no position");
        let peeks = world.state.borrow().log.iter().filter(|(kind, _)| *kind == fs::PEEK).count();
        assert_eq!(peeks, 8);

        world.release(reply.handle);
        world.release(handle);
        let stale = vfs::VmCall { operation: vfs::PAGEIN, handle, ..vfs::VmCall::default() };
        world.deliver(Endpoint::VM, Message::new(vfs::VMCALL, &stale));
        let results: Vec<i64> =
            world.state.borrow().outbox.iter().map(|(_, m)| m.get::<vm::VfsReply>().result).collect();
        assert_eq!(results, vec![i64::from(Errno::EBADF.code())], "RELEASE is not answered");
        world.settle();
        world.check_nothing_left();
    }
}

#[test]
fn symbolic_links_are_made_once() {
    for site in 0..3 {
        let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
        world.put(0, b"/link");
        world.put(8000, b"/b.bin");
        world.state.borrow_mut().inject = BTreeSet::from([site]);
        // The target crosses no page; the path is touched first.
        let path = vfs::Path { address: 0, length: 5, buffer: 8000, bytes: 6, ..vfs::Path::default() };
        assert_eq!(world.call(USER, Message::new(vfs::SYMLINK, &path)), Ok(0));
        assert_eq!(world.state.borrow().inodes[&3], Inode::Link(b"/b.bin".to_vec()));
        assert_eq!(world.call(USER, Message::new(vfs::SYMLINK, &path)), Err(Errno::EEXIST));

        let path = vfs::Path { address: 0, length: 5, buffer: 9000, bytes: 100, ..vfs::Path::default() };
        assert_eq!(world.call(USER, Message::new(vfs::READLINK, &path)), Ok(6));
        assert_eq!(&world.state.borrow().memory[9000..9006], b"/b.bin");
        assert_eq!(world.open("/link", O_RDWR), Ok(4));
        world.check_nothing_left();
    }
}

#[test]
fn opening() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    world.state.borrow_mut().add("dir", Inode::Directory([(b"..".to_vec(), ROOT)].into()));
    assert_eq!(world.open("/new", O_RDWR), Err(Errno::ENOENT));
    assert_eq!(world.open("/new", O_RDWR | O_CREAT | O_EXCL), Ok(4));
    assert_eq!(world.open("/new", O_RDWR | O_CREAT | O_EXCL), Err(Errno::EEXIST));
    assert_eq!(world.open("/new", O_RDWR | O_CREAT), Ok(5));
    assert_eq!(world.open("/dir", O_RDWR), Err(Errno::EISDIR));
    assert_eq!(world.open("/dir", 0), Ok(6));
    assert_eq!(world.open("/b.bin/x", 0), Err(Errno::ENOTDIR));
    assert_eq!(world.open("/b.bin", vfs::O_DIRECTORY), Err(Errno::ENOTDIR));
    assert_eq!(world.open("/b.bin", 3), Err(Errno::EINVAL));
    assert_eq!(world.io(vfs::READ, 6, BUFFER, 1, 0), Err(Errno::EISDIR));
    assert_eq!(world.io(vfs::CLOSE, 4, 0, 0, 0), Ok(0));
    assert_eq!(world.io(vfs::READ, 4, BUFFER, 1, 0), Err(Errno::EBADF));
    assert_eq!(world.open("/dir/../b.bin", O_RDWR | O_TRUNC), Ok(4));
    assert_eq!(world.state.borrow().inodes[&2], Inode::File(Vec::new()));
    assert_eq!(world.on_path(vfs::CHDIR, "dir", 0), Ok(0));
    assert_eq!(world.open("x", O_CREAT | O_WRONLY), Ok(7));
    assert_eq!(world.open("/dir/x", 0), Ok(8));
    assert_eq!(world.io(vfs::READ, 7, BUFFER, 1, 0), Err(Errno::EBADF), "opened for writing only");
    assert_eq!(world.io(vfs::WRITE, 8, BUFFER, 1, 0), Err(Errno::EBADF), "opened for reading only");
    assert_eq!(world.on_path(vfs::CHDIR, "/b.bin", 0), Err(Errno::ENOTDIR));
    assert_eq!(world.on_path(vfs::MKDIR, "/made/", 0), Ok(0));
    assert_eq!(world.on_path(vfs::MKDIR, "/made", 0), Err(Errno::EEXIST));
    assert_eq!(world.on_path(vfs::UNLINK, "/made/", 0), Err(Errno::EISDIR));
    assert_eq!(world.on_path(0x1ff, "", 0), Err(Errno::EBADREQUEST));
    world.check_nothing_left();
}

#[test]
fn the_terminal_has_no_position() {
    let world = world(Retry::Hardened, FsReply::Partial, 0);
    assert_eq!(world.io(vfs::WRITE, 1, BUFFER, 10, 0), Ok(10));
    assert_eq!(world.io(vfs::PWRITE, 1, BUFFER, 10, 0), Err(Errno::ESPIPE));
    assert_eq!(world.io(vfs::LSEEK, 1, 0, 0, 0), Err(Errno::ESPIPE));
    assert_eq!(world.io(vfs::FSTAT, 1, BUFFER, 72, 0), Ok(0));
    world.check_nothing_left();
}

#[test]
fn answers_reach_only_whom_they_are_for() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    let io = vfs::Io { descriptor: 3, address: BUFFER, bytes: 10, ..vfs::Io::default() };
    world.deliver(USER, Message::new(vfs::READ, &io));
    let (_, asked) = world.state.borrow_mut().outbox[0];
    let forged = asked.reply(refault_abi::message::REPLY, &fs::Done { result: 10, position: 0, size: 0 });
    // From somebody who was not asked; and under another id.
    world.deliver(USER, forged);
    world.deliver(Endpoint::MFS, forged.with_transaction(asked.transaction() + 1));
    assert!(world.state.borrow().answers.is_empty());
    // A second request of the same process is refused while the first is under way.
    world.deliver(USER, Message::new(vfs::READ, &io));
    let refused = world.state.borrow_mut().answers.pop_front().unwrap().1;
    assert_eq!(refused.get::<refault_abi::message::Status>().check(), Err(Errno::EAGAIN));
    world.settle();
    assert_eq!(world.state.borrow_mut().answers.len(), 1);
    world.state.borrow_mut().answers.clear();
    // Twice the same answer: the second finds nobody.
    world.deliver(Endpoint::MFS, forged);
    assert!(world.state.borrow().answers.is_empty());
    world.check_nothing_left();
}

#[test]
fn programs_are_pinned_and_processes_forked() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    let exec = |path: &[u8], endpoint: Endpoint| {
        world.put(0, path);
        let request =
            vfs::PmExec { endpoint: endpoint.raw(), length: path.len() as u32, ..vfs::PmExec::default() };
        world.deliver(Endpoint::PM, Message::new(vfs::PM_EXEC, &request).with_transaction(9));
        world.settle();
        let (to, answer) = world.state.borrow_mut().answers.pop_front().unwrap();
        assert_eq!((to, answer.transaction()), (Endpoint::PM, 9));
        answer.get::<vfs::Program>()
    };
    let refused = |errno: Errno| i64::from(errno.code());
    assert_eq!(exec(b"/b.bin", USER).result, refused(Errno::EACCES), "no x bit");
    assert_eq!(exec(b"/", USER).result, refused(Errno::EACCES));
    assert_eq!(exec(b"/no", USER).result, refused(Errno::ENOENT));
    assert_eq!(exec(b"/b.bin", Endpoint::new(7, 33)).result, refused(Errno::ESRCH));
    world.state.borrow_mut().add("prog", Inode::Program(pattern(5, 0, 5000)));
    let program = exec(b"/prog", USER);
    assert_eq!((program.result, program.device, program.inode, program.size), (0, 1, 3, 5000));

    let child = Endpoint::new(1, 21);
    let fork = vfs::PmFork { parent: USER.raw(), child: child.raw() };
    assert_eq!(world.call(Endpoint::PM, Message::new(vfs::PM_FORK, &fork)), Ok(0));
    let read = |who| {
        let io = vfs::Io { descriptor: 3, address: BUFFER, bytes: 100, ..vfs::Io::default() };
        world.call(who, Message::new(vfs::READ, &io))
    };
    assert_eq!((read(USER), read(child)), (Ok(100), Ok(100)));
    assert_eq!(world.position(3), 200, "one position");
    world.exit(child);
    assert_eq!(read(USER), Ok(100));
    world.release(program.handle);
    world.check_nothing_left();
}
