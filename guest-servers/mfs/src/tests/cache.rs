//! The caches: what is announced, dropped and adopted, and what a broken disk does to requests.

use std::vec;
use std::vec::Vec;

use refault_abi::Errno;
use refault_abi::fs;
use refault_abi::options::FsReply;

use super::world::{Client, ROOT, image, node};
use crate::mount::Limits;
use crate::system::{PAGE, PageKey};

fn client() -> Client {
    Client::mounted(image(1440), FsReply::Partial, Limits::default())
}

fn key(inode: u64, index: u32) -> PageKey {
    PageKey { inode: inode as u32, index }
}

#[test]
fn peek_announces_the_pages_of_the_file_and_no_others() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 3 * PAGE + 10]).unwrap();
    client.bare(fs::FLUSH).unwrap();
    assert_eq!(client.peek(file, PAGE as u64, PAGE as u64), Ok(1));
    assert_eq!(client.world().announced.keys().copied().collect::<Vec<_>>(), [key(file, 1)]);
    assert_eq!(client.peek(file, 0, 100 * PAGE as u64), Ok(4));
    assert_eq!(client.peek(file, 4 * PAGE as u64, PAGE as u64), Ok(0), "behind the end");
    assert_eq!(client.peek(file, u64::MAX - 5, PAGE as u64), Ok(0));
    assert_eq!(client.peek(ROOT, 0, PAGE as u64), Err(Errno::EISDIR));
    assert_eq!(client.world().announced.len(), 4);
}

#[test]
fn a_dropped_page_that_vm_still_has_is_taken_from_there() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 2 * PAGE]).unwrap();
    client.peek(file, 0, PAGE as u64).unwrap();
    client.write(file, 10, b"changed after it was announced").unwrap();
    assert_eq!(client.bare(fs::FLUSH), Ok(2));
    let reads = client.disk().borrow().reads;
    let data = client.read(file, 0, PAGE as u64).unwrap();
    assert_eq!(&data[10..17], b"changed");
    // Inode and indirect blocks are read again, but none of the file's own.
    client.disk().borrow_mut().unreadable = (0..2880).collect();
    assert_eq!(client.read(file, 0, PAGE as u64).unwrap(), data);
    assert_eq!(client.read(file, PAGE as u64, 10), Err(Errno::EIO));
    assert!(client.disk().borrow().reads > reads);
}

#[test]
fn vm_is_told_of_pages_that_are_gone() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 4 * PAGE]).unwrap();
    client.peek(file, 0, 4 * PAGE as u64).unwrap();
    client.bare(fs::FLUSH).unwrap();
    client.truncate(file, PAGE as u64 + 1).unwrap();
    assert_eq!(client.world().announced.keys().map(|key| key.index).collect::<Vec<_>>(), [0, 1]);
    client.unit(fs::UNLINK, ROOT, "f").unwrap();
    assert_eq!(client.world().announced.len(), 2, "still open");
    client.put(file, 1).unwrap();
    assert!(client.world().announced.is_empty());
    client.image();
}

#[test]
fn a_new_file_does_not_get_an_old_files_pages() {
    let mut client = client();
    let old = client.create("old");
    client.write(old, 0, &[1; 2 * PAGE]).unwrap();
    client.peek(old, 0, 2 * PAGE as u64).unwrap();
    client.put(old, 1).unwrap();
    client.unit(fs::UNLINK, ROOT, "old").unwrap();
    // Until the disk knows that it is free, nobody else gets it.
    let next = client.create("next");
    assert_ne!(next, old);
    client.bare(fs::SYNC).unwrap();
    let new = client.create("new");
    assert_eq!(new, old, "the inode is used again");
    client.truncate(new, 2 * PAGE as u64).unwrap();
    assert_eq!(client.read(new, 0, 2 * PAGE as u64).unwrap(), vec![0; 2 * PAGE]);
}

#[test]
fn caches_of_one_buffer_and_one_page_suffice() {
    let mut client = Client::mounted(image(1440), FsReply::Partial, Limits { buffers: 1, pages: 1 });
    let file = client.create("f");
    let data: Vec<u8> = (0..400_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    client.write(file, 3, &data).unwrap();
    assert!(client.read(file, 3, data.len() as u64).unwrap() == data);
    client.image();
}

#[test]
fn memory_that_runs_out_is_shared_with_oneself() {
    let mut client = client();
    client.world().memory_limit = Some(3);
    let file = client.create("f");
    // Dirty pages cannot be dropped, and are not lost.
    let written = client.write(file, 0, &[7; 5 * PAGE]);
    assert_eq!(written, Ok(3 * PAGE as u64));
    client.bare(fs::SYNC).unwrap();
    assert_eq!(client.write(file, 3 * PAGE as u64, &[7; 2 * PAGE]), Ok(2 * PAGE as u64));
    assert_eq!(client.read(file, 0, 5 * PAGE as u64).unwrap(), vec![7; 5 * PAGE]);
    client.image();
}

#[test]
fn sync_reaches_the_disk() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, b"data").unwrap();
    let (writes, flushes) = (client.disk().borrow().writes, client.disk().borrow().flushes);
    client.bare(fs::SYNC).unwrap();
    assert!(client.disk().borrow().writes > writes);
    assert_eq!(client.disk().borrow().flushes, flushes + 1);
    let writes = client.disk().borrow().writes;
    client.bare(fs::SYNC).unwrap();
    assert_eq!(client.disk().borrow().writes, writes, "nothing is written twice");
}

#[test]
fn reading_changes_nothing_on_the_disk() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 300 << 10]).unwrap();
    let before = client.image();
    client.read(file, 0, 300 << 10).unwrap();
    client.lookup(ROOT, "f").unwrap();
    client.peek(file, 0, 300 << 10).unwrap();
    client.bare(fs::FLUSH).unwrap();
    assert!(client.image() == before);
}

#[test]
fn an_unreadable_block_is_an_error_to_who_needs_it() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 5 * PAGE]).unwrap();
    let clean = client.create("g");
    client.write(clean, 0, b"fine").unwrap();
    let bytes = client.image();
    client.bare(fs::FLUSH).unwrap();
    // The second page of `f` is wherever its bytes are: find them by making each data sector bad in turn.
    let mut failed = 0;
    let first_data = 34 * 2;
    for sector in first_data..first_data + 60 {
        client.bare(fs::FLUSH).unwrap();
        client.disk().borrow_mut().unreadable = [sector].into();
        match client.read(file, 0, 5 * PAGE as u64) {
            Ok(data) => {
                // Short only by what could not be read, never wrong.
                assert!(data.iter().all(|&byte| byte == 1));
                failed += usize::from(data.len() < 5 * PAGE);
            }
            Err(error) => {
                assert_eq!(error, Errno::EIO);
                failed += 1;
            }
        }
        let other = client.read(clean, 0, 10);
        assert!(other == Ok(b"fine".to_vec()) || other == Err(Errno::EIO));
        client.disk().borrow_mut().unreadable.clear();
    }
    assert!(failed >= 40, "{failed} of 40 sectors were missed");
    assert!(client.image() == bytes);
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let mut client = Client::mounted(image(1440), FsReply::Partial, Limits { buffers: 64, pages: 4 });
    let file = client.create("f");
    let broken: std::collections::BTreeSet<u64> = (0..2880).collect();
    client.write(file, 0, &[1; 3 * PAGE]).unwrap();
    client.disk().borrow_mut().unwritable = broken;
    assert_eq!(client.bare(fs::SYNC), Err(Errno::EIO));
    // Everything is dirty and nothing can be written: requests that need room fail, those that do not go on.
    assert_eq!(client.write(file, 8 * PAGE as u64, &[2; 4 * PAGE]).unwrap_or(0) % 1024, 0);
    assert_eq!(client.read(file, 0, 10).unwrap(), [1; 10]);
    assert_eq!(client.bare(fs::FLUSH), Err(Errno::EIO));
    assert_eq!(client.read(file, 0, 10).unwrap(), [1; 10], "a failed flush drops nothing that is dirty");
    client.disk().borrow_mut().unwritable.clear();
    client.image();
    client.bare(fs::FLUSH).unwrap();
    assert_eq!(client.read(file, 0, 3 * PAGE as u64).unwrap(), vec![1; 3 * PAGE]);
}

#[test]
fn a_corrupt_indirect_block_is_eio_and_logged() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 100 << 10]).unwrap();
    let mut bytes = client.image();
    let slot = 4 * 1024 + (file as usize - 1) * 64 + 24 + 7 * 4;
    let indirect = u32::from_le_bytes(bytes[slot..slot + 4].try_into().unwrap()) as usize * 1024;
    bytes[indirect..indirect + 4].copy_from_slice(&0x00ff_ffffu32.to_le_bytes());
    let mut client = Client::mounted(bytes.clone(), FsReply::Partial, Limits::default());
    let file = node(&client.name(fs::LOOKUP, ROOT, "f")).unwrap().inode;
    assert_eq!(client.read(file, 7 * 1024, 100), Err(Errno::EIO));
    assert_eq!(client.read(file, 0, 100).unwrap(), [1; 100][..], "page 0 has blocks 0 to 3");
    assert!(client.world().log.iter().any(|line| line.contains("zone number out of range")));
    client.bare(fs::UNMOUNT).unwrap();
    assert!(client.disk().borrow().bytes == bytes, "the image is as it was");
}

#[test]
fn a_long_read_asks_for_its_pages_together() {
    let mut client = client();
    let file = client.create("f");
    let data: Vec<u8> = (0..200_000u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    client.write(file, 0, &data).unwrap();
    client.bare(fs::FLUSH).unwrap();
    assert_eq!(client.read(file, 5000, 65_536).unwrap(), data[5000..70_536]);
    assert_eq!(client.disk().borrow().together, 17, "pages 1 to 17");
    // One of them is there already, one is with VM, one cannot be read: the others still come together.
    client.bare(fs::FLUSH).unwrap();
    client.peek(file, 3 * PAGE as u64, 1).unwrap();
    client.bare(fs::FLUSH).unwrap();
    client.read(file, 5 * PAGE as u64, 1).unwrap();
    client.disk().borrow_mut().together = 0;
    assert_eq!(client.read(file, 0, 10 * PAGE as u64).unwrap(), data[..10 * PAGE]);
    assert_eq!(client.disk().borrow().together, 8);
}

#[test]
fn what_another_system_left_behind_the_end_is_never_shown() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; 100]).unwrap();
    let mut bytes = client.image();
    // The rest of the file's only block, which nobody but the file system's own rules keeps clear.
    let zone = bytes.windows(100).position(|window| window == [1; 100]).unwrap();
    bytes[zone + 100..zone + 1024].fill(0xbb);
    for grow in [true, false] {
        let mut client = Client::mounted(bytes.clone(), FsReply::Partial, Limits::default());
        let file = client.lookup(ROOT, "f").unwrap().inode;
        assert_eq!(client.read(file, 0, 5000).unwrap(), [1; 100]);
        client.bare(fs::FLUSH).unwrap();
        if grow {
            client.truncate(file, 9000).unwrap();
        } else {
            client.write(file, 8999, b"\0").unwrap();
        }
        client.bare(fs::FLUSH).unwrap();
        let data = client.read(file, 0, 9000).unwrap();
        assert!(data[..100] == [1; 100] && data[100..].iter().all(|&byte| byte == 0), "grow: {grow}");
    }
}
