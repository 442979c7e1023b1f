//! `/dev`: names that are on no disk.

use refault_abi::vfs::{Dirent, SEEK_END, Stat};
use zerocopy::FromBytes;

use super::*;

#[test]
fn names() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    assert_eq!(world.open("/dev", 0), Ok(4));
    let bytes = world.io(vfs::GETDENTS, 4, BUFFER, 4096, 0).unwrap();
    let listed = world.state.borrow().memory[BUFFER as usize..(BUFFER + bytes) as usize].to_vec();
    let (mut at, mut names) = (0, Vec::new());
    while at < listed.len() {
        let (header, _) = Dirent::read_from_prefix(&listed[at..]).unwrap();
        let name = &listed[at + size_of::<Dirent>()..][..usize::from(header.name)];
        names.push(alloc::string::String::from_utf8(name.to_vec()).unwrap());
        at += usize::from(header.record);
    }
    assert_eq!(names, [".", "..", "tty", "null", "zero", "disk0"]);
    assert_eq!(world.io(vfs::GETDENTS, 4, BUFFER, 4096, 0), Ok(0));

    for (path, flags, errno) in [
        ("/dev/none", 0, Errno::ENOENT),
        ("/dev/disk1", 0, Errno::ENOENT),
        ("/dev/new", O_RDWR | O_CREAT, Errno::EROFS),
        ("/dev", O_RDWR, Errno::EISDIR),
        ("/dev/tty", vfs::O_DIRECTORY, Errno::ENOTDIR),
        ("/dev/tty/x", 0, Errno::ENOTDIR),
        ("/dev/null", O_CREAT | O_EXCL | O_RDWR, Errno::EEXIST),
    ] {
        assert_eq!(world.open(path, flags), Err(errno), "{path}");
    }
    for (request, path, errno) in [
        (vfs::MKDIR, "/dev", Errno::EEXIST),
        (vfs::RMDIR, "/dev", Errno::EBUSY),
        (vfs::UNLINK, "/dev", Errno::EBUSY),
        (vfs::MKDIR, "/dev/x", Errno::EROFS),
        (vfs::UNLINK, "/dev/tty", Errno::EROFS),
    ] {
        assert_eq!(world.on_path(request, path, 0), Err(errno), "{path}");
    }
    assert_eq!(world.on_path(vfs::CHDIR, "/dev/../dev/.", 0), Ok(0));
    assert_eq!(world.open("null", O_RDWR), Ok(5));
    assert_eq!(world.open("../b.bin", 0), Ok(6));
    world.check_nothing_left();
}

#[test]
fn nothing_and_zeroes() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    assert_eq!(world.open("/dev/null", O_RDWR | O_TRUNC), Ok(4));
    assert_eq!(world.io(vfs::READ, 4, BUFFER, 100, 0), Ok(0));
    assert_eq!(world.io(vfs::WRITE, 4, BUFFER, 100, 0), Ok(100));
    assert_eq!(world.open("/dev/zero", O_RDWR), Ok(5));
    assert_eq!(world.io(vfs::WRITE, 5, BUFFER, 100, 0), Ok(100));
    let sites = {
        world.state.borrow_mut().site = 0;
        assert_eq!(world.io(vfs::READ, 5, BUFFER, BYTES, 0), Ok(BYTES));
        world.state.borrow().site
    };
    assert_eq!(sites, 9);
    for first in 0..sites {
        for second in first..2 * sites {
            world.put(BUFFER as usize, &pattern(7, 0, BYTES));
            {
                let mut state = world.state.borrow_mut();
                state.site = 0;
                state.inject = BTreeSet::from([first, second]);
            }
            assert_eq!(world.io(vfs::READ, 5, BUFFER, BYTES, 0), Ok(BYTES));
            let state = world.state.borrow();
            assert!(state.memory[BUFFER as usize..(BUFFER + BYTES) as usize].iter().all(|byte| *byte == 0));
            assert_eq!(state.suspended, 0, "the driver is never suspended");
        }
    }
    world.check_nothing_left();
}

#[test]
fn a_disk_as_a_file() {
    let world = world(Retry::Hardened, FsReply::Partial, O_RDWR);
    let size = world.state.borrow().disk.len() as u64;
    let disk = pattern(8, 0, size);
    world.state.borrow_mut().disk = disk;
    assert_eq!(world.open("/dev/disk0", O_RDWR | O_TRUNC | O_APPEND), Ok(4));
    let end = vfs::Io { descriptor: 4, flags: SEEK_END, offset: -1_000, ..vfs::Io::default() };
    assert_eq!(world.call(USER, Message::new(vfs::LSEEK, &end)), Ok(size - 1_000));
    assert_eq!(world.io(vfs::READ, 4, BUFFER, 4096, 0), Ok(1_000), "the disk ends here");
    assert_eq!(world.io(vfs::READ, 4, BUFFER, 4096, 0), Ok(0));
    assert_eq!(world.position(4), size);
    // After a fault, no more memory is brought in than the disk can fill: behind the user's there is nothing.
    let site = world.state.borrow().site;
    world.state.borrow_mut().inject = [site].into();
    assert_eq!(world.io(vfs::PREAD, 4, BUFFER, 1 << 40, size.cast_signed() - 1_000), Ok(1_000));
    assert_eq!(world.counter(Counter::VfsRepeats), 1);
    world.put(BUFFER as usize, b"changed");
    assert_eq!(world.io(vfs::PWRITE, 4, BUFFER, 7, 512), Ok(7));
    assert_eq!(&world.state.borrow().disk[512..519], b"changed");
    assert_eq!(world.io(vfs::FTRUNCATE, 4, 0, 0, 10), Err(Errno::EINVAL));
    assert_eq!(world.io(vfs::FSTAT, 4, BUFFER, 72, 0), Ok(0));
    {
        let state = world.state.borrow();
        let stat = Stat::read_from_bytes(&state.memory[BUFFER as usize..][..72]).unwrap();
        assert_eq!((stat.size, stat.mode & 0o170000), (size, 0o060000));
    }

    // Mapped: VM knows its pages by the disk's own number, and asks for them one by one.
    let reply = world.fd_lookup(4);
    assert_eq!((reply.result, reply.device, reply.inode, reply.size), (0, 1, fs::DEVICE_INODE, size));
    let handle = world.map(4, 2, 3);
    assert_eq!(world.open("/dev/disk0", O_RDWR), Ok(5));
    assert_eq!(world.io(vfs::READ, 5, BUFFER, BYTES, 0), Ok(BYTES));
    assert_eq!(buffer_of(&world, 8), BYTES);
    let peeks = world.state.borrow().log.iter().filter(|(kind, _)| *kind == fs::BPEEK).count();
    assert_eq!(peeks, 3);
    world.release(reply.handle);
    world.release(handle);
    world.check_nothing_left();
}

fn buffer_of(world: &World, id: u32) -> u64 {
    let start = BUFFER as usize;
    let state = world.state.borrow();
    // Bytes 512 to 519 were changed.
    assert_eq!(&state.memory[start + 512..start + 519], b"changed");
    let (head, tail) =
        (&state.memory[start..start + 512], &state.memory[start + 519..start + BYTES as usize]);
    (matching_prefix(id, 0, head) + matching_prefix(id, 519, tail) + 7) as u64
}
