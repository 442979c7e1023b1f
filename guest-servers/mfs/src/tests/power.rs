//! The server dies at every single block it writes, in the middle of anything; its successor mends the disk.
//!
//! One run of a server is recorded, write by write. Every prefix of these writes is a disk that a death could have left. Each is
//! mended, judged by a judge of its own and now and then by the host's checker, and compared with the last state that was
//! synced: a file that was not touched since reads as it did then, and one that only changed its name is there.

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use refault_abi::Errno;
use refault_abi::fs::{self, Name};
use refault_abi::message::Status;
use refault_abi::options::FsReply;
use refault_minixfs::{Access, FileKind, MemoryStore, Report, Superblock, Volume};

use super::check::check;
use super::world::{Client, NAME, ROOT, User, fsck, image, node};
use crate::mount::Limits;

const BLOCK: usize = 1024;
const NAMES: u64 = 24;
/// Stands for a directory that moved, with all below it.
const ANY_DIRECTORY: u64 = 0;

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// What stands at even places of a file. Not what was on the disk before there was a file system.
fn mark(inode: u64) -> u8 {
    (inode % 200) as u8 + 1
}

/// Every file of an image by its path: inode and contents.
type Tree = BTreeMap<String, (u32, Vec<u8>)>;

fn open(bytes: Vec<u8>) -> Volume<MemoryStore> {
    let superblock = Superblock::parse(&bytes[BLOCK..], bytes.len() as u64).unwrap();
    Volume::mount(MemoryStore::new(bytes, BLOCK as u32), superblock, Access::ReadOnly).unwrap()
}

fn tree(bytes: &[u8]) -> Tree {
    let mut volume = open(bytes.to_vec());
    let mut found = Tree::new();
    let mut waiting = vec![(1, String::new())];
    while let Some((directory, path)) = waiting.pop() {
        let mut position = 0;
        while let Some(entry) = volume.next_entry(directory, position).unwrap() {
            position = entry.next;
            let name = core::str::from_utf8(entry.name()).unwrap();
            if matches!(name, "." | "..") {
                continue;
            }
            let path = format!("{path}/{name}");
            let inode = volume.inode(entry.inode).unwrap();
            if inode.kind == FileKind::Directory {
                waiting.push((entry.inode, path));
                continue;
            }
            let mut contents = Vec::new();
            for block in 0..inode.size.div_ceil(BLOCK as u32) {
                match volume.map(entry.inode, block).unwrap() {
                    Some(zone) => {
                        contents.extend_from_slice(&bytes[zone as usize * BLOCK..(zone as usize + 1) * BLOCK])
                    }
                    None => contents.resize(contents.len() + BLOCK, 0),
                }
            }
            contents.truncate(inode.size as usize);
            found.insert(path, (entry.inode, contents));
        }
    }
    found
}

/// What an operation does to an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Touch {
    /// Its contents, or its last name is removed.
    Contents,
    /// Its names.
    Name,
}

/// A server whose writes are recorded.
struct Recorded {
    client: Client,
    random: Random,
    directories: Vec<u64>,
    /// By when which inode was touched: writes before the operation began.
    touches: Vec<(usize, u32, Touch)>,
    /// Writes until a sync was complete, and what was on the disk then.
    syncs: Vec<(usize, Tree)>,
    serial: u64,
}

impl Recorded {
    fn new(seed: u64, blocks: u32, limits: Limits) -> Recorded {
        let client = Client::mounted(image(blocks), FsReply::Partial, limits);
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (directories, touches, syncs) = (vec![ROOT], Vec::new(), Vec::new());
        Recorded { client, random, directories, touches, syncs, serial: 0 }
    }

    fn writes(&mut self) -> usize {
        self.client.disk().borrow().log.as_ref().map_or(0, Vec::len)
    }

    fn sync(&mut self) {
        self.client.bare(fs::SYNC).unwrap();
        let writes = self.writes();
        let tree = tree(&self.client.disk().borrow().bytes);
        self.syncs.push((writes, tree));
    }

    fn place(&mut self) -> (u64, String) {
        let index = self.random.below(self.directories.len() as u64) as usize;
        (self.directories[index], format!("a-name-of-some-length-{}", self.random.below(NAMES)))
    }

    /// An inode by its name: number, whether it is a directory, links, size.
    fn find(&mut self, (directory, name): &(u64, String)) -> Option<(u64, bool, u32, u64)> {
        let found = self.client.lookup(*directory, name).ok()?;
        self.client.put(found.inode, 1).unwrap();
        Some((found.inode, found.mode >> 12 == 4, found.links, found.size))
    }

    fn touch(&mut self, inode: u64, touch: Touch) {
        let writes = self.writes();
        self.touches.push((writes, inode as u32, touch));
    }

    /// Before a name goes away.
    fn touch_name(&mut self, found: (u64, bool, u32, u64)) {
        self.touch(found.0, if found.2 > 1 { Touch::Name } else { Touch::Contents });
    }

    /// Bytes for a file: at even places what says whose they are.
    fn bytes(&mut self, inode: u64, position: u64) -> Vec<u8> {
        self.serial += 1;
        let (serial, length) = (self.serial, 1 + self.random.below(7000));
        let byte =
            |at: u64| if at.is_multiple_of(2) { mark(inode) } else { (serial >> (at / 2 % 2 * 8)) as u8 };
        (position..position + length).map(byte).collect()
    }

    fn step(&mut self) {
        let place = self.place();
        let (directory, name) = place.clone();
        let found = self.find(&place);
        match (self.random.below(23), found) {
            (0..4, None) => {
                if let Ok(made) = node(&self.client.name(fs::CREATE, directory, &name)) {
                    self.touch(made.inode, Touch::Contents);
                    let data = self.bytes(made.inode, 0);
                    // It may be full.
                    let _ = self.client.write(made.inode, 0, &data);
                    // Some stay open.
                    if self.random.below(4) > 0 {
                        self.client.put(made.inode, 1).unwrap();
                    }
                }
            }
            (4..6, None)
                if self.directories.len() < 5 && self.client.unit(fs::MKDIR, directory, &name).is_ok() =>
            {
                let made = self.find(&place).unwrap().0;
                self.directories.push(made);
            }
            (6..10, Some((inode, false, _, size))) => {
                self.touch(inode, Touch::Contents);
                let position = if self.random.below(2) == 0 { size } else { self.random.below(12_000) };
                let data = self.bytes(inode, position);
                let _ = self.client.write(inode, position, &data);
            }
            (10..12, Some((inode, false, ..))) => {
                self.touch(inode, Touch::Contents);
                let size = self.random.below(9000);
                let _ = self.client.truncate(inode, size);
            }
            (12..14, Some(file @ (_, false, ..))) => {
                self.touch_name(file);
                self.client.unit(fs::UNLINK, directory, &name).unwrap();
            }
            (14, Some((inode, true, ..))) if self.client.unit(fs::RMDIR, directory, &name).is_ok() => {
                self.directories.retain(|&other| other != inode);
            }
            (15..19, Some(moved)) => {
                let to = self.place();
                if to.0 == moved.0 {
                    return;
                }
                let victim = self.find(&to);
                self.touch(if moved.1 { ANY_DIRECTORY } else { moved.0 }, Touch::Name);
                if let Some(victim) = victim.filter(|victim| victim.0 != moved.0) {
                    self.touch_name(victim);
                }
                if self.client.rename((directory, &name), (to.0, &to.1)).is_ok()
                    && let Some((inode, true, ..)) = victim
                    && inode != moved.0
                {
                    self.directories.retain(|&other| other != inode);
                }
            }
            (19..21, Some((inode2, false, ..))) => {
                let (directory, name) = self.place();
                self.touch(inode2, Touch::Name);
                let length = name.len() as u32;
                let user = User { memory: name.into_bytes(), ..User::default() };
                self.client.world().users.insert(NAME, user);
                let request = Name { directory, grant: NAME, length, inode2, ..Name::default() };
                let _ = self.client.send(fs::LINK, &request).get::<Status>();
            }
            (21, _) => self.sync(),
            _ => {}
        }
    }
}

fn recover(bytes: Vec<u8>) -> (Vec<u8>, Report) {
    let superblock = Superblock::parse(&bytes[BLOCK..], bytes.len() as u64).unwrap();
    let (volume, report) = Volume::recover(MemoryStore::new(bytes, BLOCK as u32), superblock).unwrap();
    (volume.into_store().into_bytes(), report)
}

/// What the judge, the last sync and a second mending have to say to a mended disk. `cut` writes reached it.
fn verdict(bytes: &[u8], cut: usize, synced: &Tree, touched: &BTreeMap<u32, Touch>, what: &str) {
    let wrong = check(bytes);
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
    let now = tree(bytes);
    for (path, (inode, contents)) in &now {
        let foreign = contents.iter().step_by(2).find(|&&byte| byte != 0 && byte != mark(u64::from(*inode)));
        assert_eq!(
            foreign, None,
            "{what}: after {cut} writes {path} (inode {inode}) has somebody else's bytes"
        );
    }
    for (path, (inode, contents)) in synced {
        let moved = |path: &str| now.get(path).is_none_or(|(_, there)| there != contents);
        match touched.get(inode) {
            Some(Touch::Contents) => continue,
            None if !moved(path) => continue,
            _ => {}
        }
        let there = now.values().any(|(_, other)| other == contents);
        assert!(
            there,
            "{what}: after {cut} writes {path} (inode {inode}) is lost; touched {:?}",
            touched.get(inode)
        );
        let may_move = touched.contains_key(inode) || touched.contains_key(&(ANY_DIRECTORY as u32));
        assert!(may_move, "{what}: after {cut} writes {path} (inode {inode}) is elsewhere");
    }
    let (again, report) = recover(bytes.to_vec());
    assert!(report.is_clean() && again == bytes, "{what}: mended twice: {report}");
}

/// Runs one sequence and judges all it could have left behind; how many disks that were, and how many had to be mended.
fn every_cut(seed: u64, blocks: u32, limits: Limits, steps: usize) -> (usize, usize) {
    let mut run = Recorded::new(seed, blocks, limits);
    let mut disk = run.client.disk().borrow().bytes.clone();
    run.client.disk().borrow_mut().log = Some(Vec::new());
    run.sync();
    (0..steps).for_each(|_| run.step());
    run.sync();
    let log = run.client.disk().borrow_mut().log.take().unwrap();
    let mut mended = 0;
    for cut in 0..=log.len() {
        if let Some((position, bytes)) = cut.checked_sub(1).map(|last| &log[last]) {
            disk[*position..position + bytes.len()].copy_from_slice(bytes);
        }
        let (since, synced) = run.syncs.iter().rev().find(|(writes, _)| *writes <= cut).unwrap();
        let mut touched = BTreeMap::new();
        for &(_, inode, touch) in run.touches.iter().filter(|(began, ..)| *began < cut && began >= since) {
            let old = touched.entry(inode).or_insert(touch);
            *old = (*old).min(touch);
        }
        let what = format!("seed {seed}");
        let (fixed, report) = recover(disk.clone());
        verdict(&fixed, cut, synced, &touched, &what);
        mended += usize::from(!report.is_clean());
        if cut % 29 == 0 {
            fsck(&fixed);
        }
        if cut % 53 == 0 {
            // The whole server, and it dies again while it mends.
            let mut client = Client::unmounted(disk.clone(), FsReply::Partial, limits);
            client.disk().borrow_mut().log = Some(Vec::new());
            client.recover().unwrap();
            assert!(client.disk().borrow().bytes == fixed, "{what}: the server mends as the library does");
            assert_eq!(client.world().log.len(), 1, "{:?}", client.world().log);
            let log = client.disk().borrow_mut().log.take().unwrap();
            let mut disk = disk.clone();
            for (position, bytes) in &log {
                disk[*position..position + bytes.len()].copy_from_slice(bytes);
                verdict(&recover(disk.clone()).0, cut, synced, &touched, &what);
            }
        }
    }
    (log.len() + 1, mended)
}

#[test]
fn wherever_it_dies_the_disk_can_be_mended() {
    let mut all = (0, 0);
    for seed in 1..=12 {
        let limits = match seed % 3 {
            0 => Limits { buffers: 1, pages: 2 },
            1 => Limits { buffers: 40, pages: 6 },
            _ => Limits::default(),
        };
        let blocks = [90, 130, 200][seed as usize % 3];
        let (disks, mended) = every_cut(seed, blocks, limits, 220);
        all = (all.0 + disks, all.1 + mended);
    }
    std::eprintln!("{} disks, {} of them mended", all.0, all.1);
    assert!(all.0 > 3000 && all.1 > 500, "{all:?}: too little happened");
}

#[test]
fn an_open_file_without_a_name_is_not_known_to_the_next_server() {
    let mut client = Client::mounted(image(200), FsReply::Partial, Limits::default());
    let file = client.create("f");
    let kept = client.create("kept");
    client.write(file, 0, b"data").unwrap();
    client.unit(fs::UNLINK, ROOT, "f").unwrap();
    client.bare(fs::SYNC).unwrap();
    let bytes = client.disk().borrow().bytes.clone();
    let mut next = Client::unmounted(bytes, FsReply::Partial, Limits::default());
    next.recover().unwrap();
    // VFS asks for what is open before anybody gets a turn, so the number is nobody else's yet.
    assert_eq!(next.get_node(file, 1).map(drop), Err(Errno::ENOENT));
    assert_eq!(next.get_node(kept, 1).unwrap().inode, kept);
    assert_eq!(next.create("g"), file);
    next.image();
}

#[test]
fn a_first_mount_mends_nothing_and_one_that_cannot_mend_does_not_write() {
    let mut bytes = image(200);
    // A zone that nobody uses.
    let map = 3 * BLOCK + 4;
    bytes[map] |= 1;
    let mut client = Client::mounted(bytes.clone(), FsReply::Partial, Limits::default());
    client.bare(fs::UNMOUNT).unwrap();
    assert!(client.disk().borrow().bytes == bytes);
    let mut client = Client::unmounted(bytes.clone(), FsReply::Partial, Limits::default());
    client.disk().borrow_mut().unreadable.insert(2 * 5);
    client.recover().unwrap();
    assert!(client.world().log.iter().any(|line| line.contains("read-only, not mended")));
    let made = node(&client.name(fs::CREATE, ROOT, "f")).map(drop);
    assert_eq!(made, Err(Errno::EROFS));
    client.bare(fs::UNMOUNT).unwrap();
    assert!(client.disk().borrow().bytes == bytes);
    let mut client = Client::unmounted(bytes.clone(), FsReply::Partial, Limits::default());
    client.recover().unwrap();
    client.image();
    bytes[map] &= !1;
    assert!(client.disk().borrow().bytes == bytes);
}

#[test]
fn a_full_disk_gives_back_what_was_just_freed() {
    for limits in [Limits::default(), Limits { buffers: 1, pages: 2 }] {
        let mut client = Client::mounted(image(90), FsReply::Partial, limits);
        let full = client.create("full");
        let taken = client.write(full, 0, &vec![1; 200 * BLOCK]).unwrap();
        client.put(full, 1).unwrap();
        assert_eq!(client.write(full, taken, &[1; BLOCK]), Err(Errno::ENOSPC));
        for _ in 0..3 {
            client.unit(fs::UNLINK, ROOT, "full").unwrap();
            let again = client.create("full");
            assert_eq!(client.write(again, 0, &vec![2; 200 * BLOCK]), Ok(taken));
            client.put(again, 1).unwrap();
        }
        client.image();
    }
}
