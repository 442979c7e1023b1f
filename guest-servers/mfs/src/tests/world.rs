//! The world around the server, in memory: a disk with bad sectors, a VM that keeps announced pages, users whose pages
//! can be absent.

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use refault_abi::bdev::Geometry;
use refault_abi::counters::Counter;
use refault_abi::fs::{self, Done, Io, Mount, Name, Node, NodeRef, Rename};
use refault_abi::message::{Payload, Status};
use refault_abi::options::FsReply;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use refault_minixfs::{MemoryStore, Volume, format};
use refault_rt::kernel::Moved;

use crate::Server;
use crate::mount::Limits;
use crate::system::{Disk, PAGE, PageKey, System};

#[derive(Default)]
pub struct DiskState {
    pub bytes: Vec<u8>,
    pub read_only: bool,
    /// Sectors of 512 bytes that cannot be read, or written.
    pub unreadable: BTreeSet<u64>,
    pub unwritable: BTreeSet<u64>,
    pub reads: usize,
    pub writes: usize,
    pub flushes: usize,
    /// What was written, block by block, if somebody wants to know.
    pub log: Option<Vec<(usize, Vec<u8>)>>,
    /// Pages that were asked for in one go with others.
    pub together: usize,
}

#[derive(Clone, Default)]
pub struct FakeDisk(pub Rc<RefCell<DiskState>>);

impl FakeDisk {
    fn check(
        position: u64,
        bytes: usize,
        bad: &BTreeSet<u64>,
        size: usize,
    ) -> Result<core::ops::Range<usize>> {
        assert!(
            position.is_multiple_of(512) && bytes.is_multiple_of(512) && bytes > 0,
            "a driver takes whole sectors"
        );
        let end = position + bytes as u64;
        if end > size as u64 || bad.range(position / 512..end / 512).next().is_some() {
            return Err(Errno::EIO);
        }
        Ok(position as usize..end as usize)
    }
}

impl Disk for FakeDisk {
    fn geometry(&mut self) -> Result<Geometry> {
        let state = self.0.borrow();
        Ok(Geometry {
            result: 0,
            bytes: state.bytes.len() as u64,
            block: 512,
            read_only: u32::from(state.read_only),
        })
    }

    fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<()> {
        let mut state = self.0.borrow_mut();
        state.reads += 1;
        let range = Self::check(position, buffer.len(), &state.unreadable, state.bytes.len())?;
        buffer.copy_from_slice(&state.bytes[range]);
        Ok(())
    }

    fn read_many(&mut self, parts: &mut [(u64, &mut [u8])]) -> Result<()> {
        let bytes: usize = parts.iter().map(|(_, buffer)| buffer.len()).sum();
        self.0.borrow_mut().together += bytes.div_ceil(PAGE);
        parts.iter_mut().try_for_each(|(position, buffer)| self.read(*position, buffer))
    }

    fn write(&mut self, position: u64, buffer: &[u8]) -> Result<()> {
        let mut state = self.0.borrow_mut();
        assert!(!state.read_only, "a read-only disk is not written");
        state.writes += 1;
        let range = Self::check(position, buffer.len(), &state.unwritable, state.bytes.len())?;
        if let Some(log) = &mut state.log {
            log.extend((range.start..).step_by(1024).zip(buffer.chunks(1024).map(<[u8]>::to_vec)));
        }
        state.bytes[range].copy_from_slice(buffer);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.0.borrow_mut().flushes += 1;
        Ok(())
    }
}

/// A page of the server, recognisable after it has travelled.
pub struct FakePage {
    id: u64,
    bytes: Box<[u8; PAGE]>,
}

impl AsRef<[u8]> for FakePage {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..]
    }
}

impl AsMut<[u8]> for FakePage {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..]
    }
}

/// A grant over a user's memory that begins `odd` bytes into a page.
#[derive(Default)]
pub struct User {
    pub memory: Vec<u8>,
    pub odd: usize,
    /// Pages of the user that are not there.
    pub absent: BTreeSet<usize>,
}

impl User {
    /// How many bytes from `offset` on can be copied before an absent page.
    fn reachable(&self, offset: usize, bytes: usize) -> usize {
        (0..bytes).find(|n| self.absent.contains(&((self.odd + offset + n) / PAGE))).unwrap_or(bytes)
    }
}

#[derive(Default)]
pub struct World {
    pub disk: FakeDisk,
    pub users: BTreeMap<i64, User>,
    /// Pages VM was told of: which of the server's pages it was, and what was in it when the server let go of it.
    pub announced: BTreeMap<PageKey, (u64, Option<FakePage>)>,
    /// Which of them serve one use only.
    pub once: BTreeSet<PageKey>,
    pub counters: BTreeMap<usize, u64>,
    pub log: Vec<String>,
    /// Bytes of users that were to be filled with zeroes, and not copied.
    pub zeroed: u64,
    pub memory_limit: Option<usize>,
    pages_out: usize,
    next_id: u64,
    pub driver: (i32, u32),
}

impl System for World {
    type Page = FakePage;
    type Disk = FakeDisk;

    fn disk(&mut self, driver: Endpoint, disk: u32) -> FakeDisk {
        self.driver = (driver.raw(), disk);
        self.disk.clone()
    }

    fn page(&mut self) -> Result<FakePage> {
        if self.memory_limit.is_some_and(|limit| self.pages_out >= limit) {
            return Err(Errno::ENOMEM);
        }
        self.pages_out += 1;
        self.next_id += 1;
        // Unknown contents: whoever relies on zeros is found out.
        Ok(FakePage { id: self.next_id, bytes: Box::new([0xa5; PAGE]) })
    }

    fn release(&mut self, page: FakePage, announced: bool) {
        self.pages_out -= 1;
        let known = self.announced.values_mut().find(|(id, _)| *id == page.id);
        match known {
            Some((_, place)) => {
                assert!(announced, "a page VM shares was given back as the server's own");
                *place = Some(page);
            }
            // VM may have forgotten it by itself.
            None => assert!(page.id > 0),
        }
    }

    fn announce(&mut self, _device: u64, key: PageKey, page: &FakePage, once: bool) -> Result<()> {
        self.announced.insert(key, (page.id, None));
        self.once.remove(&key);
        if once {
            self.once.insert(key);
        }
        Ok(())
    }

    fn adopt(&mut self, _device: u64, key: PageKey) -> Result<Option<FakePage>> {
        if self.once.contains(&key) {
            return Ok(None);
        }
        let page = self.announced.get_mut(&key).and_then(|(_, page)| page.take());
        self.pages_out += usize::from(page.is_some());
        Ok(page)
    }

    fn forget(&mut self, _device: u64, key: PageKey) {
        self.announced.remove(&key);
    }

    fn clear(&mut self, _device: u64) {}

    fn copy_to(&mut self, _granter: Endpoint, grant: GrantId, offset: u64, bytes: &[u8]) -> Moved {
        let offset = offset as usize;
        let Some(user) = self.users.get_mut(&grant.0) else { return refused(Errno::EPERM) };
        if bytes.is_empty() {
            return refused(Errno::EDOM);
        }
        if offset + bytes.len() > user.memory.len() {
            return refused(Errno::EPERM);
        }
        let count = user.reachable(offset, bytes.len());
        user.memory[offset..offset + count].copy_from_slice(&bytes[..count]);
        moved(count, bytes.len())
    }

    fn copy_from(&mut self, _granter: Endpoint, grant: GrantId, offset: u64, bytes: &mut [u8]) -> Moved {
        let offset = offset as usize;
        let Some(user) = self.users.get(&grant.0) else { return refused(Errno::EPERM) };
        if bytes.is_empty() {
            return refused(Errno::EDOM);
        }
        if offset + bytes.len() > user.memory.len() {
            return refused(Errno::EPERM);
        }
        let count = user.reachable(offset, bytes.len());
        bytes[..count].copy_from_slice(&user.memory[offset..offset + count]);
        moved(count, bytes.len())
    }

    fn zero(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: u64) -> Moved {
        self.zeroed += bytes;
        self.copy_to(granter, grant, offset, &vec![0; bytes as usize])
    }

    fn count(&mut self, counter: Counter, amount: u64) {
        *self.counters.entry(counter as usize).or_insert(0) += amount;
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        self.log.push(line.to_string());
    }
}

fn refused(error: Errno) -> Moved {
    Moved { bytes: 0, result: Err(error), fault: 0 }
}

fn moved(count: usize, asked: usize) -> Moved {
    let result = if count == asked { Ok(()) } else { Err(Errno::EFAULT) };
    Moved { bytes: count as u64, result, fault: 0 }
}

/// The grant that names are passed in, the one for a second name, and the one for data.
pub const NAME: i64 = 1;
pub const NAME2: i64 = 2;
pub const DATA: i64 = 3;
pub const ROOT: u64 = 1;
pub const DEVICE: u64 = 0x700;
/// The driver's number of the disk.
pub const DISK: u32 = 1;

/// An empty image of `blocks` KiB.
pub fn image(blocks: u32) -> Vec<u8> {
    let shape = format::shape(blocks, None).unwrap();
    let mut store = MemoryStore::new(vec![0; blocks as usize * 1024], 1024);
    format::write_empty(&mut store, &shape, 0o755, 1_000_000_000).unwrap();
    let mut bytes = store.into_bytes();
    // What was on the disk before: nobody may ever see it.
    bytes[(shape.first_data_zone() as usize + 1) * 1024..].fill(0xee);
    bytes
}

/// A server with its world, spoken to as VFS speaks.
pub struct Client {
    pub server: Server<World>,
}

impl Client {
    /// A server that has mounted an image.
    pub fn mounted(bytes: Vec<u8>, mode: FsReply, limits: Limits) -> Self {
        let mut client = Client::unmounted(bytes, mode, limits);
        let root = client.mount(false).unwrap();
        assert_eq!(root.inode, ROOT);
        client
    }

    pub fn unmounted(bytes: Vec<u8>, mode: FsReply, limits: Limits) -> Self {
        let world = World::default();
        world.disk.0.borrow_mut().bytes = bytes;
        Client { server: Server::new(world, mode, limits) }
    }

    pub fn world(&mut self) -> &mut World {
        self.server.system()
    }

    pub fn disk(&mut self) -> Rc<RefCell<DiskState>> {
        Rc::clone(&self.world().disk.0)
    }

    pub fn counter(&mut self, counter: Counter) -> u64 {
        self.world().counters.get(&(counter as usize)).copied().unwrap_or(0)
    }

    pub fn send<T: Payload>(&mut self, request: u16, payload: &T) -> Message {
        let mut message = Message::new(request, payload).with_transaction(0xb07);
        message.source = Endpoint::VFS.raw();
        let answer = self.server.handle(&message);
        assert_eq!(answer.transaction(), 0xb07);
        answer
    }

    fn status<T: Payload>(&mut self, request: u16, payload: &T) -> Result<u64> {
        self.send(request, payload).get::<Status>().check()
    }

    fn lend(&mut self, grant: i64, bytes: &[u8]) {
        self.world().users.insert(grant, User { memory: bytes.to_vec(), ..User::default() });
    }

    pub fn mount(&mut self, read_only: bool) -> Result<Node> {
        self.mount_with(read_only, 0)
    }

    /// Mounts as VFS does after the server has died.
    pub fn recover(&mut self) -> Result<Node> {
        self.mount_with(false, fs::RECOVER)
    }

    fn mount_with(&mut self, read_only: bool, flags: u32) -> Result<Node> {
        let request = Mount {
            device: DEVICE,
            driver: Endpoint::BLK.raw(),
            read_only: read_only.into(),
            disk: 1,
            flags,
        };
        node(&self.send(fs::READSUPER, &request))
    }

    pub fn name(&mut self, request: u16, directory: u64, name: &str) -> Message {
        self.lend(NAME, name.as_bytes());
        let length = name.len() as u32;
        self.send(request, &Name { directory, grant: NAME, length, mode: 0o644, ..Name::default() })
    }

    pub fn lookup(&mut self, directory: u64, name: &str) -> Result<Node> {
        node(&self.name(fs::LOOKUP, directory, name))
    }

    pub fn create(&mut self, name: &str) -> u64 {
        node(&self.name(fs::CREATE, ROOT, name)).unwrap().inode
    }

    pub fn unit(&mut self, request: u16, directory: u64, name: &str) -> Result<()> {
        self.name(request, directory, name).get::<Status>().check().map(drop)
    }

    pub fn link(&mut self, request: u16, name: &str, target: &[u8], inode2: u64) -> Result<()> {
        self.lend(NAME, name.as_bytes());
        if request == fs::SLINK && !self.world().users.contains_key(&NAME2) {
            self.lend(NAME2, target);
        }
        let length = name.len() as u32;
        let length2 = target.len() as u64;
        let request2 =
            Name { directory: ROOT, grant: NAME, length, grant2: NAME2, length2, inode2, ..Name::default() };
        let result = self.status(request, &request2).map(drop);
        self.world().users.remove(&NAME2);
        result
    }

    pub fn rename(&mut self, old: (u64, &str), new: (u64, &str)) -> Result<()> {
        self.lend(NAME, old.1.as_bytes());
        self.lend(NAME2, new.1.as_bytes());
        let request = Rename {
            directory: old.0,
            grant: NAME,
            directory2: new.0,
            grant2: NAME2,
            length: old.1.len() as u32,
            length2: new.1.len() as u32,
        };
        let result = self.status(fs::RENAME, &request).map(drop);
        self.world().users.remove(&NAME2);
        result
    }

    pub fn io(&mut self, request: u16, inode: u64, position: u64, bytes: u64) -> Message {
        self.send(request, &Io { inode, grant: DATA, position, bytes })
    }

    /// A request with data, into or out of memory that the test has set up or that is all there.
    pub fn transfer(&mut self, request: u16, inode: u64, position: u64, bytes: u64) -> Result<Done> {
        let answer: Done = self.io(request, inode, position, bytes).get();
        Errno::check(answer.result).map(|_| answer)
    }

    pub fn write(&mut self, inode: u64, position: u64, bytes: &[u8]) -> Result<u64> {
        self.lend(DATA, bytes);
        self.transfer(fs::WRITE, inode, position, bytes.len() as u64).map(|done| done.result as u64)
    }

    pub fn read(&mut self, inode: u64, position: u64, bytes: u64) -> Result<Vec<u8>> {
        self.lend(DATA, &vec![0xcc; bytes as usize]);
        let done = self.transfer(fs::READ, inode, position, bytes)?;
        let mut memory = self.world().users.remove(&DATA).unwrap().memory;
        assert!(
            memory[done.result as usize..].iter().all(|&byte| byte == 0xcc),
            "more moved than was counted"
        );
        memory.truncate(done.result as usize);
        Ok(memory)
    }

    pub fn truncate(&mut self, inode: u64, size: u64) -> Result<()> {
        self.status(fs::FTRUNC, &Io { inode, grant: -1, position: size, bytes: 0 }).map(drop)
    }

    pub fn peek(&mut self, inode: u64, position: u64, bytes: u64) -> Result<u64> {
        self.status(fs::PEEK, &Io { inode, grant: -1, position, bytes })
    }

    /// Bytes of the disk itself.
    pub fn bread(&mut self, position: u64, bytes: u64) -> Result<Vec<u8>> {
        self.lend(DATA, &vec![0xcc; bytes as usize]);
        let done = self.transfer(fs::BREAD, 0, position, bytes)?;
        let mut memory = self.world().users.remove(&DATA).unwrap().memory;
        memory.truncate(done.result as usize);
        Ok(memory)
    }

    pub fn bwrite(&mut self, position: u64, bytes: &[u8]) -> Result<u64> {
        self.lend(DATA, bytes);
        self.transfer(fs::BWRITE, 0, position, bytes.len() as u64).map(|done| done.result as u64)
    }

    pub fn bpeek(&mut self, position: u64, bytes: u64) -> Result<u64> {
        self.status(fs::BPEEK, &Io { inode: 0, grant: -1, position, bytes })
    }

    pub fn get_node(&mut self, inode: u64, count: u64) -> Result<Node> {
        node(&self.send(fs::GETNODE, &NodeRef { inode, count }))
    }

    pub fn bare(&mut self, request: u16) -> Result<u64> {
        self.status(request, &Status::default())
    }

    pub fn put(&mut self, inode: u64, count: u64) -> Result<()> {
        self.status(fs::PUTNODE, &NodeRef { inode, count }).map(drop)
    }

    /// The image after everything has been written back, accepted by the checker.
    pub fn image(&mut self) -> Vec<u8> {
        self.bare(fs::SYNC).unwrap();
        let bytes = self.disk().borrow().bytes.clone();
        fsck(&bytes);
        bytes
    }
}

pub fn node(answer: &Message) -> Result<Node> {
    let node: Node = answer.get();
    Errno::check(node.result).map(|_| node)
}

/// Free zones and inodes of an image, by the library.
pub fn space(bytes: &[u8]) -> (u32, u32) {
    let superblock = refault_minixfs::Superblock::parse(&bytes[1024..], bytes.len() as u64).unwrap();
    let store = MemoryStore::new(bytes.to_vec(), superblock.block_size());
    let mut volume = Volume::mount(store, superblock, refault_minixfs::Access::ReadOnly).unwrap();
    let space = volume.space().unwrap();
    (space.free_zones, space.free_inodes)
}

/// Has the host's checker look at an image; it must find nothing.
pub fn fsck(bytes: &[u8]) {
    let places = ["/usr/sbin/fsck.minix", "/sbin/fsck.minix"];
    let Some(program) = places.iter().find(|place| std::path::Path::new(place).exists()) else {
        std::eprintln!("SKIPPED: fsck.minix is not installed, so nothing but the library judged the image");
        return;
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    let output = std::process::Command::new(program).arg("-f").arg(file.path()).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let complains = said.lines().any(|line| !line.trim().is_empty() && !line.starts_with("Forcing"));
    assert!(output.status.success() && !complains, "fsck.minix says:\n{said}");
}
