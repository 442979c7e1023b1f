//! Disks that are full, files that lose their names, sizes that go down and up: whatever a request ends with, the checker
//! finds nothing, and nothing is lost that a user was told is there.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use refault_abi::Errno;
use refault_abi::fs;
use refault_abi::options::FsReply;

use super::world::{Client, DATA, ROOT, User, image, node, space};
use crate::mount::Limits;
use crate::system::PAGE;

const KIB: usize = 1024;

fn client(blocks: u32) -> Client {
    Client::mounted(image(blocks), FsReply::Partial, Limits::default())
}

/// Makes a file that nobody has open.
fn closed(client: &mut Client, directory: u64, name: &str) -> refault_abi::Result<u64> {
    let inode = node(&client.name(fs::CREATE, directory, name))?.inode;
    client.put(inode, 1).unwrap();
    Ok(inode)
}

/// An inode by its name, which nobody has open.
fn inode(client: &mut Client, directory: u64, name: &str) -> u64 {
    let inode = client.lookup(directory, name).unwrap().inode;
    client.put(inode, 1).unwrap();
    inode
}

/// Fills the disk until `left` KiB are free.
fn fill(client: &mut Client, left: u32) -> u64 {
    let file = client.create("filler");
    let (free, _) = space(&client.image());
    // A file of this size needs an indirect block as well.
    let taken = (free - left - 1) as usize * KIB;
    assert_eq!(client.write(file, 0, &vec![0xf1; taken]), Ok(taken as u64));
    assert_eq!(space(&client.image()).0, left);
    file
}

#[test]
fn a_write_ends_where_the_disk_does_wherever_that_is() {
    // Among the direct zones, at the indirect block, behind it.
    for left in [0u32, 1, 3, 7, 8, 9, 12] {
        for start in [0u64, 100, 6 * KIB as u64 + 1000, 20_000] {
            let mut client = client(100);
            fill(&mut client, left);
            let file = client.create("f");
            let before = space(&client.image()).0;
            let data: Vec<u8> = (0..40 * KIB).map(|n| (n ^ (n >> 8)) as u8).collect();
            let result = client.write(file, start, &data);
            let count = match result {
                Ok(count) => count as usize,
                Err(error) => {
                    assert_eq!(error, Errno::ENOSPC);
                    0
                }
            };
            assert!(count < data.len());
            let size = client.lookup(ROOT, "f").unwrap().size;
            assert_eq!(size, if count > 0 { start + count as u64 } else { 0 }, "{left} {start}");
            let mut expected = vec![0; if count > 0 { start as usize } else { 0 }];
            expected.extend(&data[..count]);
            assert!(client.read(file, 0, 1 << 20).unwrap() == expected);
            client.bare(fs::FLUSH).unwrap();
            assert!(client.read(file, 0, 1 << 20).unwrap() == expected);
            // Nothing of it stays taken when the file is gone.
            client.image();
            client.unit(fs::UNLINK, ROOT, "f").unwrap();
            client.put(file, 2).unwrap();
            assert_eq!(space(&client.image()).0, before);
        }
    }
}

#[test]
fn a_fault_on_a_full_disk_leaves_what_is_counted() {
    for mode in [FsReply::Partial, FsReply::Whole] {
        let mut client = Client::mounted(image(100), mode, Limits::default());
        fill(&mut client, 12);
        let file = client.create("f");
        let (before, _) = space(&client.image());
        let memory: Vec<u8> = (0..40 * KIB).map(|n| (n * 3) as u8).collect();
        client.world().users.insert(DATA, User { memory: memory.clone(), odd: 1013, absent: [2].into() });
        let reached = 2 * PAGE - 1013;
        let kept = if mode == FsReply::Partial { reached } else { 0 };
        let result = client.transfer(fs::WRITE, file, 0, memory.len() as u64).map(|done| done.result);
        assert_eq!(result, if kept > 0 { Ok(kept as i64) } else { Err(Errno::EFAULT) });
        assert_eq!(client.lookup(ROOT, "f").unwrap().size, kept as u64);
        // Eight blocks, and one of numbers for the eighth.
        let taken = if kept > 0 { 9 } else { 0 };
        assert_eq!(space(&client.image()).0, before - taken, "{mode:?}");
        // The repetition takes all there is.
        client.world().users.get_mut(&DATA).unwrap().absent.clear();
        let count = client.transfer(fs::WRITE, file, 0, memory.len() as u64).unwrap().result as usize;
        assert_eq!(count, 11 * KIB, "and a block of numbers");
        assert!(client.read(file, 0, 1 << 20).unwrap() == memory[..count]);
        assert_eq!(space(&client.image()).0, 0);
    }
}

#[test]
fn names_on_a_full_disk() {
    let mut client = client(100);
    let filler = fill(&mut client, 0);
    let names = |client: &mut Client| client.lookup(ROOT, ".").unwrap().size / 64;
    // Names fit until the directory has to grow.
    let mut made = Vec::new();
    let error = loop {
        let name = format!("n{}", made.len());
        match closed(&mut client, ROOT, &name) {
            Ok(_) => made.push(name),
            Err(error) => break error,
        }
    };
    assert_eq!((error, names(&mut client)), (Errno::ENOSPC, 16));
    assert_eq!(made.len(), 13);
    client.image();
    // A name is free, but what is named needs a block.
    client.unit(fs::UNLINK, ROOT, "n12").unwrap();
    assert_eq!(client.unit(fs::MKDIR, ROOT, "d"), Err(Errno::ENOSPC));
    assert_eq!(client.link(fs::SLINK, "l", b"target", 0), Err(Errno::ENOSPC));
    assert_eq!(client.lookup(ROOT, "l").err(), Some(Errno::ENOENT));
    client.link(fs::LINK, "hard", b"", filler).unwrap();
    assert_eq!(client.link(fs::LINK, "hard2", b"", filler), Err(Errno::ENOSPC));
    assert_eq!(client.lookup(ROOT, "filler").unwrap().links, 2);
    // Moving a name needs no room where it replaces one, and some where it does not.
    client.rename((ROOT, "n1"), (ROOT, "n2")).unwrap();
    client.rename((ROOT, "n3"), (ROOT, "new")).unwrap();
    client.image();
    // A hole needs nothing, and filling it does.
    let file = client.lookup(ROOT, "new").unwrap().inode;
    client.truncate(file, 50_000).unwrap();
    assert_eq!(client.write(file, 30_000, b"x"), Err(Errno::ENOSPC));
    assert_eq!(client.read(file, 29_990, 20).unwrap(), [0; 20]);
    client.image();
    client.truncate(filler, 1000).unwrap();
    assert_eq!(client.write(file, 30_000, b"x"), Ok(1));
    client.unit(fs::MKDIR, ROOT, "d").unwrap();
    client.image();
}

#[test]
fn inodes_run_out() {
    let mut client = client(200);
    client.unit(fs::MKDIR, ROOT, "d").unwrap();
    let d = client.lookup(ROOT, "d").unwrap().inode;
    let mut count = 0u32;
    while closed(&mut client, d, &format!("f{count}")).is_ok() {
        count += 1;
    }
    let bytes = client.image();
    assert_eq!(space(&bytes).1, 0);
    for request in [fs::MKDIR, fs::CREATE] {
        let answer: refault_abi::message::Status = client.name(request, ROOT, "more").get();
        assert_eq!(answer.check().err(), Some(Errno::ENOSPC));
    }
    assert_eq!(client.link(fs::SLINK, "more", b"target", 0), Err(Errno::ENOSPC));
    assert!(client.image() == bytes, "nothing has changed");
}

#[test]
fn what_is_replaced_while_it_is_open_lives_on() {
    let mut client = client(1440);
    let (old, new) = (client.create("old"), client.create("new"));
    client.write(old, 0, &[1; 20_000]).unwrap();
    client.write(new, 0, &[2; 9000]).unwrap();
    client.peek(old, 0, 20_000).unwrap();
    let before = space(&client.image());
    client.rename((ROOT, "new"), (ROOT, "old")).unwrap();
    assert_eq!(client.lookup(ROOT, "old").unwrap().inode, new);
    assert_eq!(client.lookup(ROOT, "new").err(), Some(Errno::ENOENT));
    assert_eq!(client.read(old, 0, 1 << 20).unwrap(), vec![1; 20_000]);
    client.write(old, 19_999, &[3; 9000]).unwrap();
    client.bare(fs::FLUSH).unwrap();
    assert_eq!(client.read(old, 19_999, 1 << 20).unwrap(), vec![3; 9000]);
    client.put(old, 1).unwrap();
    // Its 20 blocks and the block of numbers are free again, and its inode.
    assert_eq!(space(&client.image()), (before.0 + 21, before.1 + 1));
    assert!(client.world().announced.keys().all(|key| u64::from(key.inode) != old));
    assert_eq!(client.read(new, 0, 1 << 20).unwrap(), vec![2; 9000]);
}

#[test]
fn directories_move_but_not_into_themselves() {
    let mut client = client(1440);
    for name in ["a", "b", "full", "empty"] {
        client.unit(fs::MKDIR, ROOT, name).unwrap();
    }
    let (a, b, full) =
        (inode(&mut client, ROOT, "a"), inode(&mut client, ROOT, "b"), inode(&mut client, ROOT, "full"));
    client.unit(fs::MKDIR, a, "inner").unwrap();
    let inner = inode(&mut client, a, "inner");
    closed(&mut client, inner, "file").unwrap();
    closed(&mut client, full, "file").unwrap();
    for (directory, name) in [(a, "x"), (inner, "x"), (inner, "file")] {
        assert_eq!(client.rename((ROOT, "a"), (directory, name)), Err(Errno::EINVAL), "{directory} {name}");
    }
    assert_eq!(client.rename((ROOT, "a"), (ROOT, "full")), Err(Errno::ENOTEMPTY));
    assert_eq!(client.rename((ROOT, "a"), (full, "file")), Err(Errno::ENOTDIR));
    assert_eq!(client.rename((full, "file"), (ROOT, "empty")), Err(Errno::EISDIR));
    assert_eq!(client.rename((ROOT, "."), (ROOT, "x")), Err(Errno::EINVAL));
    assert_eq!(client.rename((ROOT, "none"), (ROOT, "x")), Err(Errno::ENOENT));
    client.image();
    client.rename((a, "inner"), (b, "moved")).unwrap();
    assert_eq!(inode(&mut client, inner, ".."), b);
    assert_eq!((client.lookup(ROOT, "a").unwrap().links, client.lookup(ROOT, "b").unwrap().links), (2, 3));
    client.rename((b, "moved"), (ROOT, "empty")).unwrap();
    assert_eq!(inode(&mut client, inner, ".."), ROOT);
    client.rename((inner, "file"), (full, "file")).unwrap();
    client.rename((full, "file"), (full, "file")).unwrap();
    client.image();
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let mut client = client(1440);
    let file = client.create("f");
    let data: Vec<u8> = (0..70_000u32).map(|n| 1 + (n % 251) as u8).collect();
    for cut in [0u64, 1, 1023, 1024, 4095, 4096, 4097, 8191, 20_000, 69_999] {
        for flush in [true, false] {
            client.write(file, 0, &data).unwrap();
            client.peek(file, 0, 70_000).unwrap();
            if flush {
                client.bare(fs::FLUSH).unwrap();
            }
            client.truncate(file, cut).unwrap();
            client.truncate(file, 70_000).unwrap();
            let mut expected = data[..cut as usize].to_vec();
            expected.resize(70_000, 0);
            assert!(client.read(file, 0, 1 << 20).unwrap() == expected, "{cut}");
            client.bare(fs::FLUSH).unwrap();
            assert!(client.read(file, 0, 1 << 20).unwrap() == expected, "{cut}");
            client.image();
        }
    }
}

#[test]
fn unmounting_writes_everything_even_after_a_failure() {
    let mut client = client(1440);
    let (kept, gone) = (client.create("kept"), client.create("gone"));
    client.write(kept, 0, &[1; 5000]).unwrap();
    client.write(gone, 0, &[2; 5000]).unwrap();
    let place = client.image().windows(1000).position(|window| window == [1; 1000]).unwrap() / 512;
    client.write(kept, 0, &[3; 5000]).unwrap();
    client.unit(fs::UNLINK, ROOT, "gone").unwrap();
    client.disk().borrow_mut().unwritable = [place as u64].into();
    let flushes = client.disk().borrow().flushes;
    assert_eq!(client.bare(fs::UNMOUNT), Err(Errno::EIO));
    assert_eq!(client.bare(fs::SYNC), Err(Errno::ENXIO), "it is unmounted all the same");
    let said: String = client.world().log.concat();
    assert!(said.contains("cannot write"), "{said}");
    assert_eq!(client.disk().borrow().flushes, flushes + 1);
    super::world::fsck(&client.disk().borrow().bytes.clone());
}
