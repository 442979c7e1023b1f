//! Requests one by one, and messages that make no sense.

use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use refault_abi::fs;
use refault_abi::message::Status;
use refault_abi::options::FsReply;
use refault_abi::vfs::{Dirent, Stat};
use refault_abi::{Endpoint, Errno, Message};
use zerocopy::FromBytes;

use super::world::{Client, DATA, DEVICE, NAME, ROOT, User, image, node, space};
use crate::mount::Limits;

fn client() -> Client {
    Client::mounted(image(1440), FsReply::Partial, Limits::default())
}

#[test]
fn devices_that_hold_no_file_system() {
    let mount = |bytes: Vec<u8>| {
        let mut client = Client::unmounted(bytes, FsReply::Partial, Limits::default());
        let result = client.mount(false).map(drop);
        let log: String = client.world().log.concat();
        assert_eq!(client.lookup(ROOT, "x").err(), Some(Errno::ENXIO), "nothing is mounted");
        (result, log)
    };
    let (result, log) = mount(vec![0; 1 << 20]);
    assert!(result == Err(Errno::EINVAL) && log.contains("not a MINIX version 3"), "{log}");
    assert_eq!(mount(Vec::new()).0, Err(Errno::EINVAL));
    assert_eq!(mount(vec![0; 1024]).0, Err(Errno::EINVAL));
    let mut corrupt = image(1440);
    corrupt[1024 + 10] = 3;
    let (result, log) = mount(corrupt);
    assert!(result == Err(Errno::EIO) && log.contains("first data zone"), "{log}");
    let mut rootless = image(1440);
    rootless[4 * 1024 + 1] = 0x81;
    let (result, log) = mount(rootless);
    assert!(result == Err(Errno::EIO) && log.contains("root is not a directory"), "{log}");
    let mut cut = image(1440);
    cut.truncate(1000 * 1024);
    assert_eq!(mount(cut).0, Err(Errno::EIO));
    let mut client = client();
    assert_eq!(client.mount(false).err(), Some(Errno::EBUSY));
}

#[test]
fn only_vfs_is_served() {
    let mut client = client();
    for source in [Endpoint::PM, Endpoint::new(3, 20), Endpoint::NONE] {
        let mut message = Message::bare(fs::UNMOUNT);
        message.source = source.raw();
        assert_eq!(client.server.handle(&message).get::<Status>().check(), Err(Errno::EPERM));
    }
    assert_eq!(client.bare(0x123), Err(Errno::EBADREQUEST));
    assert!(client.lookup(ROOT, ".").is_ok());
}

#[test]
fn names() {
    let mut client = client();
    client.unit(fs::MKDIR, ROOT, "dir").unwrap();
    let dir = client.lookup(ROOT, "dir").unwrap();
    assert_eq!((dir.mode & 0o170_000, dir.links), (0o040_000, 2));
    let file = client.create("file");
    assert_eq!(node(&client.name(fs::CREATE, ROOT, "file")).err(), Some(Errno::EEXIST));
    client.link(fs::LINK, "hard", b"", file).unwrap();
    assert_eq!(client.lookup(ROOT, "hard").unwrap().links, 2);
    client.rename((ROOT, "hard"), (dir.inode, "moved")).unwrap();
    assert_eq!(client.lookup(dir.inode, "moved").unwrap().inode, file);
    assert_eq!(client.lookup(dir.inode, "..").unwrap().inode, ROOT);
    assert_eq!(client.unit(fs::RMDIR, ROOT, "dir"), Err(Errno::ENOTEMPTY));
    assert_eq!(client.unit(fs::UNLINK, ROOT, "dir"), Err(Errno::EISDIR));
    assert_eq!(client.unit(fs::UNLINK, ROOT, "none"), Err(Errno::ENOENT));
    assert_eq!(client.lookup(file, "below").err(), Some(Errno::ENOTDIR));
    assert_eq!(client.lookup(ROOT, "").err(), Some(Errno::ENOENT));
    assert_eq!(client.lookup(ROOT, &"n".repeat(61)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(client.lookup(ROOT, "a/b").err(), Some(Errno::EINVAL));
    assert_eq!(client.lookup(1 << 40, "x").err(), Some(Errno::EINVAL));
    assert_eq!(client.lookup(70_000, "x").err(), Some(Errno::EIO));
    client.unit(fs::UNLINK, dir.inode, "moved").unwrap();
    client.unit(fs::RMDIR, ROOT, "dir").unwrap();
    client.put(dir.inode, 1).unwrap();
    client.image();
}

#[test]
fn open_files_live_until_the_last_reference_is_back() {
    let mut client = client();
    let empty = space(&client.image());
    let file = client.create("f");
    client.lookup(ROOT, "f").unwrap();
    client.write(file, 0, &[9; 10_000]).unwrap();
    client.unit(fs::UNLINK, ROOT, "f").unwrap();
    client.put(file, 1).unwrap();
    assert_eq!(client.read(file, 0, 10_000).unwrap(), vec![9; 10_000]);
    assert_eq!(client.put(file, 2), Err(Errno::EINVAL), "only one is left");
    client.put(file, 1).unwrap();
    assert_eq!(space(&client.image()), empty);
    assert_eq!(client.put(file, 1), Err(Errno::EINVAL));

    // Unmounting frees what is unlinked and still open.
    let file = client.create("g");
    client.write(file, 0, &[9; 10_000]).unwrap();
    client.unit(fs::UNLINK, ROOT, "g").unwrap();
    client.bare(fs::UNMOUNT).unwrap();
    let bytes = client.disk().borrow().bytes.clone();
    super::world::fsck(&bytes);
    assert_eq!(space(&bytes), empty);
    assert_eq!(client.bare(fs::SYNC), Err(Errno::ENXIO));
    client.mount(false).unwrap();
}

#[test]
fn stat_tells() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 1500]).unwrap();
    client.world().users.insert(DATA, User { memory: vec![0; size_of::<Stat>()], ..User::default() });
    let answer: Status = client.io(fs::STAT, file, 0, size_of::<Stat>() as u64).get();
    answer.check().unwrap();
    let stat = Stat::read_from_bytes(&client.world().users[&DATA].memory).unwrap();
    assert_eq!((stat.device, stat.inode, stat.mode), (DEVICE, file, 0o100_644));
    assert_eq!((stat.size, stat.blocks, stat.links), (1500, 4, 1));
    assert_eq!(stat.mtime, 1_000_000_000);
}

#[test]
fn directories_are_listed_in_pieces() {
    let mut client = client();
    let mut expected: Vec<String> = vec![".".into(), "..".into()];
    for n in 0..100 {
        let name = std::format!("{n:0>width$}", width = 1 + n % 60);
        client.create(&name);
        expected.push(name);
    }
    for room in [88u64, 200, 4096, 100_000] {
        let mut names = Vec::new();
        let mut position = 0;
        loop {
            client.world().users.insert(DATA, User { memory: vec![0; room as usize], ..User::default() });
            let done = client.transfer(fs::GETDENTS, ROOT, position, room).unwrap();
            if done.result == 0 {
                break;
            }
            let memory = &client.world().users[&DATA].memory;
            let mut rest = &memory[..done.result as usize];
            while !rest.is_empty() {
                let (dirent, _) = Dirent::read_from_prefix(rest).unwrap();
                let name = &rest[24..24 + usize::from(dirent.name)];
                names.push(String::from_utf8(name.to_vec()).unwrap());
                position = dirent.next;
                rest = &rest[usize::from(dirent.record)..];
            }
            assert_eq!(position, done.position);
        }
        assert_eq!(names, expected, "{room} bytes at a time");
    }
    client.world().users.insert(DATA, User { memory: vec![0; 31], ..User::default() });
    assert_eq!(client.transfer(fs::GETDENTS, ROOT, 0, 31).err(), Some(Errno::EINVAL), "not even one fits");
    let file = client.lookup(ROOT, "0").unwrap().inode;
    assert_eq!(client.transfer(fs::GETDENTS, file, 0, 31).err(), Some(Errno::ENOTDIR));
}

#[test]
fn the_ends_of_files() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, b"0123456789").unwrap();
    assert_eq!(client.read(file, 4, 100).unwrap(), b"456789");
    assert_eq!(client.read(file, 10, 100).unwrap(), b"");
    assert_eq!(client.read(file, u64::MAX, 100).unwrap(), b"");
    assert_eq!(client.read(ROOT, 0, 100), Err(Errno::EISDIR));
    assert_eq!(client.write(file, u64::MAX, b"x"), Err(Errno::EFBIG));
    assert_eq!(client.write(file, 0x7fff_ffff, b"x"), Err(Errno::EFBIG));
    assert_eq!(client.write(file, 0x7fff_fffe, b"xyz"), Ok(1), "what fits is written");
    assert_eq!(client.truncate(file, 0x8000_0000), Err(Errno::EFBIG));
    assert_eq!(client.truncate(ROOT, 0), Err(Errno::EISDIR));
    client.truncate(file, 3).unwrap();
    client.truncate(file, 6).unwrap();
    assert_eq!(client.read(file, 0, 100).unwrap(), b"012\0\0\0");
    client.image();
}

#[test]
fn a_full_disk_takes_what_fits() {
    let mut client = Client::mounted(image(100), FsReply::Partial, Limits::default());
    let file = client.create("f");
    let taken = client.write(file, 0, &[5; 200 << 10]).unwrap();
    assert!(taken > 60 << 10 && taken < 100 << 10 && taken.is_multiple_of(1024), "{taken}");
    assert_eq!(client.write(file, taken, b"more"), Err(Errno::ENOSPC));
    assert_eq!(client.lookup(ROOT, "f").unwrap().size, taken);
    assert_eq!(client.write(file, taken - 10, &[6; 100]), Ok(10));
    client.image();
}

#[test]
fn read_only_means_it() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 5000]).unwrap();
    let bytes = client.image();
    for device in [false, true] {
        let mut client = Client::unmounted(bytes.clone(), FsReply::Partial, Limits::default());
        client.disk().borrow_mut().read_only = device;
        client.mount(!device).unwrap();
        let file = client.lookup(ROOT, "f").unwrap().inode;
        assert_eq!(client.write(file, 0, b"x"), Err(Errno::EROFS));
        assert_eq!(client.write(file, 6000, b"x"), Err(Errno::EROFS));
        assert_eq!(client.truncate(file, 1), Err(Errno::EROFS));
        assert_eq!(client.truncate(file, 9000), Err(Errno::EROFS));
        assert_eq!(client.unit(fs::UNLINK, ROOT, "f"), Err(Errno::EROFS));
        assert_eq!(client.read(file, 4999, 10).unwrap(), [1]);
        client.bare(fs::UNMOUNT).unwrap();
        assert!(client.disk().borrow().bytes == bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any message at all is answered.
    #[test]
    fn nonsense_is_answered(messages in prop::collection::vec(
        (0xA00u16..0xA22, prop::array::uniform7(prop_oneof![0u64..20, any::<u64>()])), 1..60,
    )) {
        let mut client = Client::mounted(image(200), FsReply::Swallow, Limits { buffers: 8, pages: 8 });
        client.world().users.insert(NAME, User { memory: b"some name".to_vec(), ..User::default() });
        client.world().users.insert(DATA, User { memory: vec![7; 9000], odd: 100, absent: [1].into() });
        for (request, mut payload) in messages {
            // Not gigabytes at once: a swallowed write of any length is zeros until the disk is full, and takes long.
            if request == fs::WRITE {
                payload[3] %= 1 << 20;
            }
            let mut message = Message { source: Endpoint::VFS.raw(), mtype: request.into(), payload };
            message.mtype |= 5 << 16;
            prop_assert_eq!(client.server.handle(&message).transaction(), 5);
        }
    }
}
