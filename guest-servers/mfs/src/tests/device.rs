//! The disk itself beside the mounted file system: one truth, whichever way it is asked for.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use refault_abi::Errno;
use refault_abi::counters::Counter;
use refault_abi::fs;
use refault_abi::options::FsReply;

use super::world::{Client, DATA, DISK, ROOT, User, image, space};
use crate::mount::Limits;
use crate::system::{PAGE, PageKey};

const KIB: usize = 1024;

fn client() -> Client {
    Client::mounted(image(1440), FsReply::Partial, Limits::default())
}

fn device_page(index: u32) -> PageKey {
    PageKey { inode: 0, index }
}

/// Where on the disk these bytes are.
fn find(client: &mut Client, bytes: &[u8]) -> usize {
    let image = client.image();
    let mut places = image.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes);
    let (place, _) = places.next().unwrap();
    assert!(places.next().is_none(), "not found once only");
    place
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|n| (n as u8).wrapping_mul(31) ^ (n >> 8) as u8 ^ seed).collect()
}

#[test]
fn the_disk_is_asked_for_by_its_number() {
    let mut client = client();
    let driver = refault_abi::Endpoint::BLK.raw();
    assert_eq!(client.world().driver, (driver, DISK));
}

#[test]
fn reading_shows_what_has_not_been_written_back() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &noise(1, 5000)).unwrap();
    let flushes = client.disk().borrow().flushes;
    let seen = client.bread(0, 1440 * KIB as u64).unwrap();
    assert_eq!(client.disk().borrow().flushes, flushes, "written, but not made durable for it");
    assert_eq!(seen.len(), 1440 * KIB);
    assert!(seen == client.disk().borrow().bytes);
    assert!(seen.windows(5000).any(|window| window == noise(1, 5000)));
}

#[test]
fn the_ends_of_the_disk() {
    // The last page is a part of one, and the disk is larger than the file system on it.
    let mut bytes = image(1440);
    bytes.extend(noise(3, 1536));
    let mut client = Client::mounted(bytes, FsReply::Partial, Limits::default());
    let size = 1440 * KIB as u64 + 1536;
    assert_eq!(client.bread(size - 100, 10_000).unwrap(), noise(3, 1536)[1436..]);
    assert_eq!(client.bread(size, 10), Ok(vec![]));
    assert_eq!(client.bread(u64::MAX, 10), Ok(vec![]));
    let done = client.transfer(fs::BREAD, 0, 0, 0).unwrap();
    assert_eq!((done.result, done.size), (0, size), "a way to ask for the size");
    assert_eq!(client.bwrite(size - 100, &[9; 500]), Ok(100), "clipped");
    assert_eq!(client.bread(size - 101, 101).unwrap(), [&noise(3, 1536)[1435..1436], &[9; 100]].concat());
    assert_eq!(client.bwrite(size, &[9]), Err(Errno::ENOSPC));
    assert_eq!(client.bwrite(u64::MAX, &[9]), Err(Errno::ENOSPC));
    assert_eq!(client.transfer(fs::BWRITE, 0, 5, 0).unwrap().result, 0);
    assert_eq!(client.bpeek(size - 1, 1), Ok(1));
    assert_eq!(client.bpeek(size, 100), Ok(0));
    client.disk().borrow_mut().unreadable = [4].into();
    assert_eq!(client.bread(2048, 512), Err(Errno::EIO));
    assert_eq!(client.bwrite(2050, &[0; 4]), Err(Errno::EIO));
    assert_eq!(client.bpeek(0, 1), Err(Errno::EIO));
}

#[test]
fn a_read_only_disk_is_not_written() {
    let bytes = client().image();
    for device in [false, true] {
        let mut client = Client::unmounted(bytes.clone(), FsReply::Partial, Limits::default());
        client.disk().borrow_mut().read_only = device;
        client.mount(!device).unwrap();
        assert_eq!(client.bwrite(0, &[1; 512]), Err(Errno::EROFS));
        assert_eq!(client.bread(0, 512).unwrap(), bytes[..512]);
    }
}

#[test]
fn a_write_to_a_files_block_is_seen_in_the_file_and_in_its_mappings() {
    let mut client = client();
    let file = client.create("f");
    let mut data = noise(7, 3 * PAGE + 100);
    client.write(file, 0, &data).unwrap();
    client.peek(file, 0, data.len() as u64).unwrap();
    let place = find(&mut client, &data[..KIB]) as u64;
    let frames: Vec<u64> = client.world().announced.values().map(|(id, _)| *id).collect();
    // Inside of a block, at an odd place.
    assert_eq!(client.bwrite(place + 301, b"beside the file system"), Ok(22));
    data[301..323].copy_from_slice(b"beside the file system");
    assert!(client.read(file, 0, 20_000).unwrap() == data);
    // The very frame that processes map has it.
    client.bare(fs::FLUSH).unwrap();
    let world = client.world();
    assert!(world.announced.values().map(|(id, _)| *id).eq(frames));
    let first = PageKey { inode: file as u32, index: 0 };
    let page = world.announced[&first].1.as_ref().unwrap();
    assert!(page.as_ref()[..PAGE] == data[..PAGE]);
    // Now only VM has the pages: it forgets the one that was written, and keeps the others.
    assert_eq!(client.bwrite(place, b"again"), Ok(5));
    data[..5].copy_from_slice(b"again");
    assert!(!client.world().announced.contains_key(&first));
    assert_eq!(client.world().announced.len(), 3);
    assert!(client.read(file, 0, 20_000).unwrap() == data);
    client.image();
}

#[test]
fn a_write_to_an_inode_is_believed() {
    let mut client = client();
    let file = client.create("f");
    let other = client.create("g");
    let data = noise(9, 2 * PAGE);
    client.write(file, 0, &data).unwrap();
    client.write(other, 0, &noise(10, PAGE)).unwrap();
    client.peek(file, 0, data.len() as u64).unwrap();
    // Inodes begin behind one block of each map; the size is at byte 8, the first zone at 24.
    let inode = |number: u64| 4 * KIB as u64 + (number - 1) * 64;
    assert_eq!(client.bwrite(inode(file) + 8, &1000u32.to_le_bytes()), Ok(4));
    assert_eq!(client.lookup(ROOT, "f").unwrap().size, 1000);
    assert_eq!(client.read(file, 0, 9000).unwrap(), data[..1000]);
    client.truncate(file, 4096).unwrap();
    let grown = client.read(file, 0, 9000).unwrap();
    assert!(grown[..1000] == data[..1000] && grown[1000..].iter().all(|&byte| byte == 0));
    // A size that changes inside of a block, while the page is here: what was hidden behind the end comes out again.
    client.write(file, 0, &data).unwrap();
    for size in [4300u32, 5000] {
        assert_eq!(client.bwrite(inode(file) + 8, &size.to_le_bytes()), Ok(4));
        assert!(client.read(file, 0, 9000).unwrap() == data[..size as usize]);
        if size == 4300 {
            client.bare(fs::FLUSH).unwrap();
            client.world().announced.clear();
            assert!(client.read(file, 0, 9000).unwrap() == data[..4300]);
        }
    }
    client.truncate(file, 1000).unwrap();
    client.truncate(file, 4096).unwrap();
    // The files exchange their contents.
    let zones = |client: &mut Client, number| client.bread(inode(number) + 24, 40).unwrap();
    let (of_file, of_other) = (zones(&mut client, file), zones(&mut client, other));
    client.bwrite(inode(file) + 24, &of_other).unwrap();
    client.bwrite(inode(other) + 24, &of_file).unwrap();
    assert!(client.read(file, 0, 9000).unwrap() == noise(10, PAGE));
    assert!(client.read(other, 0, 9000).unwrap() == grown);
}

#[test]
fn pages_of_the_disk_are_for_one_use_and_always_new() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &noise(1, PAGE)).unwrap();
    let place = find(&mut client, &noise(1, KIB));
    let index = (place / PAGE) as u32;
    for round in 2..4 {
        client.write(file, 0, &noise(round, PAGE)).unwrap();
        assert_eq!(client.bpeek(place as u64, 1), Ok(1));
        assert!(client.world().once.contains(&device_page(index)));
        let bytes = client.disk().borrow().bytes.clone();
        let page = client.world().announced[&device_page(index)].1.as_ref().unwrap();
        let start = index as usize * PAGE;
        assert!(page.as_ref() == &bytes[start..start + PAGE]);
        assert!(bytes[place..place + KIB] == noise(round, KIB));
    }
    assert_eq!(client.bpeek(PAGE as u64 * 3 + 5, 2 * PAGE as u64), Ok(3));
    // No page of it stays with the server.
    client.world().memory_limit = Some(0);
    client.bare(fs::FLUSH).unwrap();
    assert_eq!(client.bpeek(0, 1), Err(Errno::ENOMEM));
}

#[test]
fn a_failed_copy_is_answered_as_the_mode_says() {
    const BYTES: usize = 20 * PAGE;
    let reached = 2 * PAGE - 1013;
    for (mode, expected) in [
        (FsReply::Partial, Ok(reached as i64)),
        (FsReply::Whole, Err(Errno::EFAULT)),
        (FsReply::Swallow, Ok(BYTES as i64)),
    ] {
        let mut client = Client::mounted(image(1440), mode, Limits::default());
        let before = client.image();
        let user = || User { memory: noise(5, BYTES), odd: 1013, absent: [2].into() };
        client.world().users.insert(DATA, user());
        let done = client.transfer(fs::BREAD, 0, 777, BYTES as u64);
        assert_eq!(done.map(|done| done.result), expected, "{mode:?}");
        assert!(client.world().users[&DATA].memory[..reached] == before[777..777 + reached]);
        let partial = u64::from(mode == FsReply::Partial);
        assert_eq!(client.counter(Counter::FsPartialResults), partial);

        // Writing behind everything that is in use.
        let place = 900 * KIB + 333;
        client.world().users.insert(DATA, user());
        let done = client.transfer(fs::BWRITE, 0, place as u64, BYTES as u64);
        assert_eq!(done.map(|done| done.result), expected, "{mode:?}");
        let after = client.disk().borrow().bytes.clone();
        if mode != FsReply::Swallow {
            let kept = place + if mode == FsReply::Partial { reached } else { 0 };
            assert!(after[kept..] == before[kept..], "{mode:?}: only what is counted is on the disk");
            assert!(after[place..kept] == noise(5, BYTES)[..kept - place]);
        }
        assert!(after[..place] == before[..place]);
        // The repetition.
        client.world().users.get_mut(&DATA).unwrap().absent.clear();
        let done = client.transfer(fs::BWRITE, 0, place as u64, BYTES as u64);
        assert_eq!(done.unwrap().result, BYTES as i64);
        let after = client.disk().borrow().bytes.clone();
        assert!(after[place..place + BYTES] == noise(5, BYTES));
        assert!(after[place + BYTES..] == before[place + BYTES..]);
    }
}

#[test]
fn reads_that_are_refused_move_nothing() {
    for (mode, error) in [(FsReply::Restart, Errno::ERESTART), (FsReply::Efault, Errno::EFAULT)] {
        let mut client = Client::mounted(image(1440), mode, Limits::default());
        let file = client.create("f");
        assert_eq!(client.write(file, 0, b"data"), Ok(4), "only reads");
        client.world().users.insert(DATA, User { memory: vec![0xcc; 4], ..User::default() });
        assert_eq!(client.transfer(fs::READ, file, 0, 4).err(), Some(error));
        assert_eq!(client.transfer(fs::BREAD, 0, 0, 4).err(), Some(error));
        assert_eq!(client.world().users[&DATA].memory, [0xcc; 4]);
        assert_eq!(client.counter(Counter::FsCopyFailures), 0);
        assert_eq!(client.peek(file, 0, 1), Ok(1), "page-ins go on");
    }
}

#[test]
fn a_hole_is_announced_for_one_use() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[1; PAGE]).unwrap();
    client.write(file, 3 * PAGE as u64, &[1; 10]).unwrap();
    client.truncate(file, 6 * PAGE as u64).unwrap();
    assert_eq!(client.peek(file, 0, 6 * PAGE as u64), Ok(6));
    let once: Vec<u32> = client.world().once.iter().map(|key| key.index).collect();
    assert_eq!(once, [1, 2, 4, 5]);
    // A hole that is filled is a page like any other.
    client.write(file, PAGE as u64 + 7, b"x").unwrap();
    client.peek(file, PAGE as u64, 1).unwrap();
    assert!(!client.world().once.contains(&PageKey { inode: file as u32, index: 1 }));
    // VM does not give such a page back: it is made again.
    client.bare(fs::FLUSH).unwrap();
    assert_eq!(client.read(file, 4 * PAGE as u64, 9000).unwrap(), vec![0; 2 * PAGE]);
    assert_eq!(client.world().zeroed, 2 * PAGE as u64, "and not for a read");
    // A fault in the middle of it is one like in any page.
    client.world().users.insert(DATA, User { memory: vec![0xcc; 3 * PAGE], odd: 100, absent: [1].into() });
    let done = client.transfer(fs::READ, file, 3 * PAGE as u64, 3 * PAGE as u64).unwrap();
    assert_eq!(done.result as usize, PAGE - 100);
    client.world().users.insert(DATA, User { memory: vec![0xcc; 3 * PAGE], odd: 100, absent: [2].into() });
    let done = client.transfer(fs::READ, file, 4 * PAGE as u64, 2 * PAGE as u64).unwrap();
    assert_eq!(done.result as usize, 2 * PAGE - 100);
    client.image();
}

#[test]
fn references_are_taken_again_after_a_restart() {
    let mut client = client();
    let file = client.create("f");
    client.write(file, 0, &[4; 5000]).unwrap();
    let gone = client.create("gone");
    client.write(gone, 0, &[5; 5000]).unwrap();
    client.unit(fs::UNLINK, ROOT, "gone").unwrap();
    client.bare(fs::SYNC).unwrap();
    let bytes = client.disk().borrow().bytes.clone();
    let never = client.create("never written");
    // The server dies here, and its successor mounts what is on the disk.
    let mut client = Client::mounted(bytes, FsReply::Partial, Limits::default());
    assert_eq!(client.get_node(file, 2).unwrap().size, 5000);
    assert_eq!(client.get_node(gone, 1).unwrap().links, 0);
    assert_eq!(client.get_node(never, 1).err(), Some(Errno::ENOENT));
    assert_eq!(client.get_node(0, 1).err(), Some(Errno::ENOENT));
    assert_eq!(client.get_node(1 << 20, 1).err(), Some(Errno::ENOENT));
    assert_eq!(client.get_node(1 << 40, 1).err(), Some(Errno::EINVAL));
    assert_eq!(client.get_node(file, u64::MAX).err(), Some(Errno::EINVAL));
    assert_eq!(client.read(gone, 0, 9000).unwrap(), vec![5; 5000]);
    client.put(file, 2).unwrap();
    assert_eq!(client.put(file, 1), Err(Errno::EINVAL));
    let (zones, inodes) = space(&client.disk().borrow().bytes.clone());
    client.put(gone, 1).unwrap();
    assert_eq!(
        space(&client.image()),
        (zones + 5, inodes + 1),
        "what had no name is freed with its last user"
    );
}

/// Somebody spoils the indirect block so that pointers behind the end of the file lead nowhere; a write that comes upon them fails
/// half way. What was written before is on the disk, and the disk can be read.
#[test]
fn a_damaged_pointer_behind_the_end_keeps_nothing_from_the_disk() {
    let mut client = Client::mounted(image(200), FsReply::Partial, Limits { buffers: 5, pages: 5 });
    let file = client.create("f");
    let first = client.image().iter().rposition(|&byte| byte != 0xee).unwrap().next_multiple_of(KIB);
    assert_eq!(client.write(file, 7 * KIB as u64, b"x"), Ok(1));
    // The indirect block is the first zone taken; from its 42nd pointer on there is noise.
    client.bwrite((first + 42 * 4) as u64, &noise(0x81, 46)).unwrap();
    assert_eq!(client.write(file, 47_768, &noise(2, 7701)), Err(Errno::EIO));
    let disk = client.bread(0, 200 * KIB as u64).unwrap();
    let mut fresh = Client::mounted(disk, FsReply::Partial, Limits::default());
    let bytes = fresh.read(file, 47_768, 8000);
    assert_eq!(bytes, client.read(file, 47_768, 8000));
    assert_eq!(bytes, Ok(noise(2, 7701)[..49 * KIB - 47_768].to_vec()), "up to the first damaged pointer");
}

#[derive(Debug, Clone)]
enum Step {
    Write(u32, u16),
    Beside(usize, u16),
    Peek(u32),
    Truncate(u32),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u32..60_000, 1u16..9000).prop_map(|(position, length)| Step::Write(position, length)),
        4 => (0usize..60_000, 1u16..6000).prop_map(|(place, length)| Step::Beside(place, length)),
        2 => (0u32..60_000).prop_map(Step::Peek),
        1 => (0u32..60_000).prop_map(Step::Truncate),
        1 => Just(Step::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Writes to a file and beside it, its indirect block included: what the server shows is what a server shows that
    /// mounts the disk anew.
    #[test]
    fn caches_tell_what_the_disk_tells(
        steps in prop::collection::vec(step(), 1..30),
        (buffers, pages) in (1usize..20, 1usize..40),
    ) {
        let mut client = Client::mounted(image(200), FsReply::Partial, Limits { buffers, pages });
        let file = client.create("f");
        // The zones of files begin behind the root directory's.
        let first = client.image().iter().rposition(|&byte| byte != 0xee).unwrap().next_multiple_of(KIB);
        for (index, step) in steps.iter().enumerate() {
            match *step {
                Step::Write(position, length) => {
                    let _ = client.write(file, position.into(), &noise(index as u8, length.into()));
                }
                Step::Beside(place, length) => {
                    let bytes = noise(0x80 | index as u8, length.into());
                    prop_assert_eq!(client.bwrite((first + place) as u64, &bytes), Ok(length.into()));
                }
                Step::Peek(position) => drop(client.peek(file, position.into(), 9000)),
                Step::Truncate(size) => drop(client.truncate(file, size.into())),
                Step::Flush => drop(client.bare(fs::FLUSH)),
            }
            let bytes = client.bread(0, 200 * KIB as u64).unwrap();
            let mut fresh = Client::mounted(bytes, FsReply::Partial, Limits::default());
            prop_assert_eq!(fresh.lookup(ROOT, "f").unwrap().size, client.lookup(ROOT, "f").unwrap().size);
            for start in (0..70_000).step_by(PAGE) {
                prop_assert!(fresh.read(file, start, PAGE as u64) == client.read(file, start, PAGE as u64), "at {start}");
            }
        }
    }
}
