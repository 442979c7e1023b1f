//! The machine that joins the two servers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use refault_abi::bdev::Geometry;
use refault_abi::counters::Counter;
use refault_abi::grant::Tag;
use refault_abi::layout::PAGE;
use refault_abi::message::{REPLY, Status};
use refault_abi::options::{FsReply, Options, Retry};
use refault_abi::pattern::{FILE_B, fill};
use refault_abi::vfs::{self, O_CREAT, O_RDWR};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, pm, rs, vm};
use refault_mfs::Server;
use refault_mfs::mount::Limits;
use refault_mfs::system::{Disk, PageKey, System};
use refault_minixfs::{MemoryStore, format};
use refault_rt::kernel::Moved;
use refault_vfs::kernel::{Access, CopyError, Fault, Granted, Kernel, Side, UserMemory};
use refault_vfs::server::Vfs;

pub const USER: Endpoint = Endpoint::new(1, 20);
const MEMORY: usize = 64 << 12;
/// An odd address, and the size of the seed's read.
pub const BUFFER: u64 = 4096 + 123;
pub const BYTES: u64 = 65_536;

/// A grant in force: over what, VFS's own bytes if it is over those, and the mark.
pub type Entry = (UserMemory, Option<Vec<u8>>, Option<Fault>);

/// What is between the two servers.
#[derive(Default)]
pub struct Machine {
    pub memory: Vec<u8>,
    pub absent: BTreeSet<u64>,
    /// Touches of pages so far, and those at which the page goes away first.
    pub site: u64,
    pub inject: BTreeSet<u64>,
    pub grants: BTreeMap<i64, Entry>,
    pub last_grant: i64,
    pub outbox: VecDeque<(Endpoint, Message)>,
    pub answers: VecDeque<Message>,
    pub counters: BTreeMap<usize, u64>,
    pub disk: Vec<u8>,
}

#[derive(Clone, Default)]
pub struct Handle(pub Rc<RefCell<Machine>>);

impl Machine {
    /// Makes a range present.
    fn present(&mut self, wanted: &vm::HandleMem) -> i64 {
        let pages = wanted.address / PAGE..=(wanted.address + wanted.length - 1) / PAGE;
        self.absent.retain(|page| !pages.contains(page));
        0
    }

    fn touch(&mut self, page: u64) -> bool {
        if self.inject.contains(&self.site) {
            self.absent.insert(page);
        }
        self.site += 1;
        self.absent.contains(&page)
    }

    /// A safecopy, byte counts as the kernel reports them.
    fn safecopy(&mut self, grant: GrantId, offset: u64, bytes: &mut [u8], into_grant: bool) -> Moved {
        let asked = bytes.len();
        let Some((memory, own, _)) = self.grants.get_mut(&grant.0) else {
            return Moved { bytes: 0, result: Err(Errno::EPERM), fault: 0 };
        };
        assert!(offset + asked as u64 <= memory.bytes, "the file system stays inside the grant");
        assert_eq!(memory.access == Access::Write, into_grant);
        if let Some(own) = own {
            let place = &mut own[offset as usize..offset as usize + asked];
            if into_grant {
                place.copy_from_slice(bytes)
            } else {
                bytes.copy_from_slice(place)
            }
            return Moved { bytes: asked as u64, result: Ok(()), fault: 0 };
        }
        let start = memory.address + offset;
        let mut done = 0;
        while done < asked {
            let address = start as usize + done;
            let length = (4096 - address % 4096).min(asked - done);
            if self.touch(address as u64 / PAGE) {
                let fault = Fault { side: Side::Granted, write: into_grant, address: address as u64 };
                self.grants.get_mut(&grant.0).unwrap().2 = Some(fault);
                return Moved { bytes: done as u64, result: Err(Errno::EFAULT), fault: 0 };
            }
            let place = &mut self.memory[address..address + length];
            let piece = &mut bytes[done..done + length];
            if into_grant {
                place.copy_from_slice(piece)
            } else {
                piece.copy_from_slice(place)
            }
            done += length;
        }
        Moved { bytes: asked as u64, result: Ok(()), fault: 0 }
    }
}

/// A grant of VFS's.
pub struct Lent<'a> {
    handle: Handle,
    id: i64,
    own: Option<&'a mut [u8]>,
    revoked: Cell<bool>,
}

impl Granted for Lent<'_> {
    fn id(&self) -> GrantId {
        GrantId(self.id)
    }

    fn revoke(mut self) -> Option<Fault> {
        self.revoked.set(true);
        let (_, bytes, mark) = self.handle.0.borrow_mut().grants.remove(&self.id).unwrap();
        if let (Some(bytes), Some(own)) = (bytes, &mut self.own) {
            own.copy_from_slice(&bytes);
        }
        mark
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if !self.revoked.get() {
            self.handle.0.borrow_mut().grants.remove(&self.id);
        }
    }
}

impl Handle {
    fn enter<'a>(
        &self,
        memory: UserMemory,
        bytes: Option<Vec<u8>>,
        own: Option<&'a mut [u8]>,
    ) -> Result<Lent<'a>> {
        let mut machine = self.0.borrow_mut();
        machine.last_grant += 1;
        let id = machine.last_grant;
        machine.grants.insert(id, (memory, bytes, None));
        Ok(Lent { handle: self.clone(), id, own, revoked: Cell::new(false) })
    }

    /// VFS's own memory as a grant.
    fn own(bytes: &[u8], access: Access) -> UserMemory {
        UserMemory { owner: Endpoint::VFS, address: 0, bytes: bytes.len() as u64, access }
    }
}

impl Kernel for Handle {
    type Grant<'a> = Lent<'a>;
    type Wait = ();

    fn waits(&self, _: Endpoint, _: Endpoint, _: Endpoint, _: &'static str) {}

    fn send(&self, _: Endpoint, _: &Message) {
        unreachable!("hardened");
    }

    /// Every second range has to come from a file system, so that both ways to ask are gone.
    fn ask_vm(&self, message: &Message) -> Result<Message> {
        assert_eq!(message.kind(), vm::HANDLEMEM_NOW);
        let wanted: vm::HandleMem = message.get();
        let result = match wanted.address / PAGE % 2 {
            0 => self.0.borrow_mut().present(&wanted),
            _ => Errno::EAGAIN.code().into(),
        };
        Ok(message.reply(REPLY, &Status { result }))
    }

    fn post(&self, to: Endpoint, message: &Message) -> Result<()> {
        self.0.borrow_mut().outbox.push_back((to, *message));
        Ok(())
    }

    fn answer(&self, to: Endpoint, message: &Message, _: bool) {
        assert_eq!(to, USER);
        self.0.borrow_mut().answers.push_back(*message);
    }

    fn grant_user(&self, _: Endpoint, memory: &UserMemory, _: bool, _: Tag) -> Result<Lent<'static>> {
        self.enter(*memory, None, None)
    }

    fn lend<'a>(&self, _: Endpoint, bytes: &'a [u8]) -> Result<Lent<'a>> {
        self.enter(Handle::own(bytes, Access::Read), Some(bytes.to_vec()), None)
    }

    fn lend_mut<'a>(&self, _: Endpoint, bytes: &'a mut [u8]) -> Result<Lent<'a>> {
        self.enter(Handle::own(bytes, Access::Write), Some(bytes.to_vec()), Some(bytes))
    }

    fn copy_in(&self, _: Endpoint, address: u64, bytes: &mut [u8]) -> std::result::Result<(), CopyError> {
        let start = address as usize;
        bytes.copy_from_slice(&self.0.borrow().memory[start..start + bytes.len()]);
        Ok(())
    }

    fn copy_out(&self, _: Endpoint, address: u64, bytes: &[u8]) -> std::result::Result<(), CopyError> {
        let start = address as usize;
        self.0.borrow_mut().memory[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn count(&self, counter: Counter) {
        *self.0.borrow_mut().counters.entry(counter as usize).or_default() += 1;
    }
}

impl Disk for Handle {
    fn geometry(&mut self) -> Result<Geometry> {
        let bytes = self.0.borrow().disk.len() as u64;
        Ok(Geometry { result: 0, bytes, block: 512, read_only: 0 })
    }

    fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<()> {
        let start = position as usize;
        buffer.copy_from_slice(&self.0.borrow().disk[start..start + buffer.len()]);
        Ok(())
    }

    fn write(&mut self, position: u64, buffer: &[u8]) -> Result<()> {
        let start = position as usize;
        self.0.borrow_mut().disk[start..start + buffer.len()].copy_from_slice(buffer);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl System for Handle {
    type Page = Vec<u8>;
    type Disk = Handle;

    fn disk(&mut self, _: Endpoint, _: u32) -> Handle {
        self.clone()
    }

    fn page(&mut self) -> Result<Vec<u8>> {
        Ok(vec![0xa5; PAGE as usize])
    }

    fn release(&mut self, _: Vec<u8>, _: bool) {}

    fn announce(&mut self, _: u64, _: PageKey, _: &Vec<u8>, _: bool) -> Result<()> {
        Ok(())
    }

    fn adopt(&mut self, _: u64, _: PageKey) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn forget(&mut self, _: u64, _: PageKey) {}

    fn clear(&mut self, _: u64) {}

    fn copy_to(&mut self, _: Endpoint, grant: GrantId, offset: u64, bytes: &[u8]) -> Moved {
        self.0.borrow_mut().safecopy(grant, offset, &mut bytes.to_vec(), true)
    }

    fn copy_from(&mut self, _: Endpoint, grant: GrantId, offset: u64, bytes: &mut [u8]) -> Moved {
        self.0.borrow_mut().safecopy(grant, offset, bytes, false)
    }

    fn zero(&mut self, _: Endpoint, grant: GrantId, offset: u64, bytes: u64) -> Moved {
        self.0.borrow_mut().safecopy(grant, offset, &mut vec![0; bytes as usize], true)
    }

    fn count(&mut self, _: Counter, _: u64) {}

    fn log(&mut self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }
}

pub struct Joined {
    pub machine: Handle,
    pub vfs: Rc<Vfs<Handle>>,
    pub mfs: RefCell<Server<Handle>>,
    pub server: Cell<Endpoint>,
}

impl Joined {
    pub fn new(retry: Retry, mode: FsReply) -> Joined {
        let machine = Handle::default();
        {
            let mut inner = machine.0.borrow_mut();
            inner.memory = vec![0; MEMORY];
            inner.disk = empty_image();
        }
        let options = Options { retry, ..Options::parse("").unwrap() };
        let vfs = Vfs::new(machine.clone(), options, false);
        let mfs = RefCell::new(Server::new(machine.clone(), mode, Limits::default()));
        let joined = Joined { machine, vfs, mfs, server: Cell::new(Endpoint::MFS) };
        joined.settle();
        joined
    }

    pub fn deliver(&self, from: Endpoint, mut message: Message) {
        message.source = from.raw();
        self.vfs.take(&message, true);
    }

    pub fn step(&self) -> bool {
        let Some((to, mut message)) = self.machine.0.borrow_mut().outbox.pop_front() else { return false };
        message.source = Endpoint::VFS.raw();
        let answer = match to {
            _ if to.slot() == Endpoint::MFS.slot() => {
                assert_eq!(to, self.server.get(), "whoever is dead is not asked");
                self.mfs.borrow_mut().handle(&message)
            }
            Endpoint::VM => {
                let result = self.machine.0.borrow_mut().present(&message.get());
                message.reply(REPLY, &Status { result })
            }
            Endpoint::PM => {
                self.machine.0.borrow_mut().answers.push_back(message);
                return true;
            }
            other => panic!("message to {other:?}"),
        };
        self.deliver(to, answer);
        true
    }

    pub fn settle(&self) {
        while self.step() {}
    }

    pub fn call(&self, from: Endpoint, message: Message) -> Result<u64> {
        self.deliver(from, message);
        self.settle();
        let answer = self.machine.0.borrow_mut().answers.pop_front().expect("an answer");
        answer.get::<Status>().check()
    }

    pub fn put(&self, address: usize, bytes: &[u8]) {
        self.machine.0.borrow_mut().memory[address..address + bytes.len()].copy_from_slice(bytes);
    }

    /// Requests on one path, or two.
    pub fn path(&self, request: u16, path: &str, other: &str, flags: u32) -> Result<u64> {
        self.put(0, path.as_bytes());
        self.put(2048, other.as_bytes());
        let (length, bytes) = (path.len() as u64, other.len() as u64);
        let path = vfs::Path { address: 0, length, buffer: 2048, bytes, flags, mode: 0o644 };
        self.call(USER, Message::new(request, &path))
    }

    pub fn io(&self, request: u16, descriptor: u64, bytes: u64, offset: u64) -> Result<u64> {
        let descriptor = descriptor as i32;
        let io = vfs::Io { descriptor, flags: 0, address: BUFFER, bytes, offset: offset as i64 };
        self.call(USER, Message::new(request, &io))
    }

    pub fn buffer(&self) -> Vec<u8> {
        let start = BUFFER as usize;
        self.machine.0.borrow().memory[start..start + BYTES as usize].to_vec()
    }

    /// A file with bytes `[0, bytes)` of the pattern, by ordinary writes, then nothing cached.
    pub fn make(&self, name: &str, bytes: u64) -> u64 {
        let descriptor = self.path(vfs::OPEN, name, "", O_RDWR | O_CREAT).unwrap();
        let mut at = 0;
        while at < bytes {
            let length = BYTES.min(bytes - at);
            let mut piece = vec![0; length as usize];
            fill(FILE_B, at, &mut piece);
            self.put(BUFFER as usize, &piece);
            assert_eq!(self.io(vfs::WRITE, descriptor, length, 0), Ok(length));
            at += length;
        }
        self.call(USER, Message::bare(vfs::FLUSH_CACHES)).unwrap();
        descriptor
    }

    /// The file system dies; its successor has the disk and nothing else.
    pub fn restart(&self) {
        let (old, new) = (self.server.get(), self.server.get().next_generation());
        *self.mfs.borrow_mut() = Server::new(self.machine.clone(), FsReply::Partial, Limits::default());
        self.server.set(new);
        let news = pm::Restarted { old: old.raw(), new: new.raw() };
        self.deliver(Endpoint::RS, Message::new(rs::RESTARTED, &news));
        self.settle();
    }

    pub fn inject(&self, sites: impl IntoIterator<Item = u64>) {
        let mut machine = self.machine.0.borrow_mut();
        machine.site = 0;
        machine.inject = sites.into_iter().collect();
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.machine.0.borrow().counters.get(&(counter as usize)).copied().unwrap_or(0)
    }
}

/// A formatted disk of 2 MiB.
fn empty_image() -> Vec<u8> {
    const BLOCKS: u32 = 2048;
    let shape = format::shape(BLOCKS, None).unwrap();
    let mut store = MemoryStore::new(vec![0; BLOCKS as usize * 1024], 1024);
    format::write_empty(&mut store, &shape, 0o755, 1_000_000_000).unwrap();
    store.into_bytes()
}
