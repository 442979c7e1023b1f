//! A machine for host tests: users with memory, a file system, and a VM, around a real [`Vfs`].
//!
//! The one thing to hold in mind: every page that a copy touches is a numbered site, and a test chooses the sites at which the
//! page is taken away first. So "at any fault schedule" can be tried exhaustively.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use refault_abi::counters::Counter;
use refault_abi::fs::{self, Node};
use refault_abi::grant::Tag;
use refault_abi::layout::PAGE;
use refault_abi::message::{REPLY, Status};
use refault_abi::options::{FsReply, Options, Retry};
use refault_abi::vfs::{self, Stat, VmCall};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, vm};
use zerocopy::IntoBytes;

use crate::kernel::{Access, CopyError, Fault, Granted, Kernel, Side, UserMemory};
use crate::server::Vfs;

/// The user of the tests.
pub const USER: Endpoint = Endpoint::new(1, 20);
/// Bytes of a user's memory, from address 0.
pub const MEMORY: usize = 40 * 4096;
/// The root directory's inode.
pub const ROOT: u64 = 1;

/// What a grant is over.
enum Over {
    User(UserMemory),
    Own(Vec<u8>),
}

struct Entry {
    grantee: Endpoint,
    over: Over,
    cpf_try: bool,
    mark: Option<Fault>,
}

/// An object of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inode {
    Directory(BTreeMap<Vec<u8>, u64>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// Everything outside VFS.
pub struct State {
    pub outbox: VecDeque<(Endpoint, Message)>,
    pub answers: VecDeque<(Endpoint, Message)>,
    grants: BTreeMap<i64, Entry>,
    last_grant: i64,
    pub memory: Vec<u8>,
    /// Pages of the user that are not there.
    pub absent: BTreeSet<u64>,
    /// Pages of the user that VM can bring in only by a page-in of this handle.
    pub file_pages: BTreeMap<u64, u64>,
    /// Pages that are taken away again as soon as they are touched.
    pub cursed: BTreeSet<u64>,
    /// Sites passed, and those at which the page is taken away.
    pub site: u64,
    pub inject: BTreeSet<u64>,
    /// Whether injected faults hit the grantee's own page instead.
    pub grantee_side: bool,
    /// Copies that would have been suspended on VM.
    pub suspended: u64,
    pub counters: BTreeMap<usize, u64>,
    pub inodes: BTreeMap<u64, Inode>,
    pub references: BTreeMap<u64, i64>,
    pub mode: FsReply,
    /// Requests the file system has seen.
    pub log: Vec<(u16, u64)>,
    /// PROCCTL requests that wait for page-ins: message, and request ids outstanding.
    waiting: Vec<(Message, BTreeSet<u64>)>,
    last_request: u64,
}

/// The kernel of the tests.
#[derive(Clone)]
pub struct FakeKernel(pub Rc<RefCell<State>>);

pub struct FakeGrant<'a> {
    world: Rc<RefCell<State>>,
    id: i64,
    own: Option<&'a mut [u8]>,
    revoked: Cell<bool>,
}

impl Granted for FakeGrant<'_> {
    fn id(&self) -> GrantId {
        GrantId(self.id)
    }

    fn revoke(mut self) -> Option<Fault> {
        self.revoked.set(true);
        let entry = self.world.borrow_mut().grants.remove(&self.id).unwrap();
        if let (Over::Own(bytes), Some(own)) = (&entry.over, &mut self.own) {
            own.copy_from_slice(bytes);
        }
        entry.mark
    }
}

impl Drop for FakeGrant<'_> {
    fn drop(&mut self) {
        if !self.revoked.get() {
            self.world.borrow_mut().grants.remove(&self.id);
        }
    }
}

impl FakeKernel {
    fn enter<'a>(&self, entry: Entry, own: Option<&'a mut [u8]>) -> FakeGrant<'a> {
        let mut state = self.0.borrow_mut();
        state.last_grant += 1;
        let id = state.last_grant;
        state.grants.insert(id, entry);
        FakeGrant { world: Rc::clone(&self.0), id, own, revoked: Cell::new(false) }
    }

    fn raw(&self, address: u64, length: usize, write: bool) -> core::result::Result<usize, CopyError> {
        let mut state = self.0.borrow_mut();
        let end = address + length as u64;
        if end > MEMORY as u64 {
            let fault = Fault { side: Side::Granted, write, address };
            return Err(CopyError::Fault(fault));
        }
        for page in address / PAGE..=(end - 1) / PAGE {
            if state.touch(page) {
                return Err(CopyError::Fault(Fault { side: Side::Granted, write, address: page * PAGE }));
            }
        }
        Ok(address as usize)
    }
}

impl Kernel for FakeKernel {
    type Grant<'a> = FakeGrant<'a>;

    fn post(&self, to: Endpoint, message: &Message) -> Result<()> {
        let mut state = self.0.borrow_mut();
        state.outbox.push_back((to, *message));
        let to_fs = state.outbox.iter().filter(|(to, _)| *to == Endpoint::MFS).count();
        assert!(to_fs <= 1, "one request per mount");
        Ok(())
    }

    fn answer(&self, to: Endpoint, message: &Message) {
        self.0.borrow_mut().answers.push_back((to, *message));
    }

    fn grant_user(
        &self,
        grantee: Endpoint,
        memory: &UserMemory,
        cpf_try: bool,
        tag: Tag,
    ) -> Result<FakeGrant<'static>> {
        assert!(tag.attempt() > 0 && tag.request() > 0);
        Ok(self.enter(Entry { grantee, over: Over::User(*memory), cpf_try, mark: None }, None))
    }

    fn lend<'a>(&self, grantee: Endpoint, bytes: &'a [u8]) -> Result<FakeGrant<'a>> {
        let entry = Entry { grantee, over: Over::Own(bytes.to_vec()), cpf_try: false, mark: None };
        Ok(self.enter(entry, None))
    }

    fn lend_mut<'a>(&self, grantee: Endpoint, bytes: &'a mut [u8]) -> Result<FakeGrant<'a>> {
        let entry = Entry { grantee, over: Over::Own(bytes.to_vec()), cpf_try: false, mark: None };
        Ok(self.enter(entry, Some(bytes)))
    }

    fn copy_in(&self, _: Endpoint, address: u64, bytes: &mut [u8]) -> core::result::Result<(), CopyError> {
        let start = self.raw(address, bytes.len(), false)?;
        bytes.copy_from_slice(&self.0.borrow().memory[start..start + bytes.len()]);
        Ok(())
    }

    fn copy_out(&self, _: Endpoint, address: u64, bytes: &[u8]) -> core::result::Result<(), CopyError> {
        let start = self.raw(address, bytes.len(), true)?;
        self.0.borrow_mut().memory[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn count(&self, counter: Counter) {
        *self.0.borrow_mut().counters.entry(counter as usize).or_default() += 1;
    }
}

impl State {
    /// A copy is about to touch a page; whether it is absent.
    fn touch(&mut self, page: u64) -> bool {
        if self.inject.contains(&self.site) && !self.grantee_side {
            self.absent.insert(page);
        }
        self.site += 1;
        if self.cursed.contains(&page) {
            self.absent.insert(page);
        }
        self.absent.contains(&page)
    }

    /// A safecopy of the file system, page by page: bytes moved, and whether all were.
    fn safecopy(&mut self, id: i64, offset: usize, bytes: &mut [u8], access: Access) -> (usize, Result<()>) {
        let Some(entry) = self.grants.get_mut(&id) else { return (0, Err(Errno::EPERM)) };
        assert_eq!(entry.grantee, Endpoint::MFS);
        let cpf_try = entry.cpf_try;
        let memory = match &mut entry.over {
            Over::Own(own) => {
                let place = &mut own[offset..offset + bytes.len()];
                match access {
                    Access::Write => place.copy_from_slice(bytes),
                    Access::Read => bytes.copy_from_slice(place),
                }
                return (bytes.len(), Ok(()));
            }
            Over::User(memory) => *memory,
        };
        assert_eq!(memory.access, access);
        assert!(offset + bytes.len() <= memory.bytes as usize);
        let mut moved = 0;
        while moved < bytes.len() {
            let address = memory.address as usize + offset + moved;
            let length = (4096 - address % 4096).min(bytes.len() - moved);
            let injected_grantee = self.grantee_side && self.inject.contains(&self.site);
            let fault = self.touch(address as u64 / PAGE) || address + length > MEMORY;
            if fault || injected_grantee {
                let side = if fault { Side::Granted } else { Side::Grantee };
                if cpf_try {
                    let mark = Fault { side, write: access == Access::Write, address: address as u64 };
                    self.grants.get_mut(&id).unwrap().mark = Some(mark);
                    return (moved, Err(Errno::EFAULT));
                }
                self.suspended += 1;
                self.absent.remove(&(address as u64 / PAGE));
            }
            let place = &mut self.memory[address..address + length];
            let piece = &mut bytes[moved..moved + length];
            match access {
                Access::Write => place.copy_from_slice(piece),
                Access::Read => piece.copy_from_slice(place),
            }
            moved += length;
        }
        (moved, Ok(()))
    }

    /// Copies in blocks of the file and answers as the mode says.
    fn blocks(&mut self, io: &fs::Io, data: &mut [u8], access: Access) -> Result<usize> {
        let mut done = 0;
        while done < data.len() {
            let at = io.position as usize + done;
            let length = (4096 - at % 4096).min(data.len() - done);
            let mut block = data[done..done + length].to_vec();
            let (_, result) = self.safecopy(io.grant, done, &mut block, access);
            data[done..done + length].copy_from_slice(&block);
            if let Err(error) = result {
                return match self.mode {
                    FsReply::Whole => Err(error),
                    FsReply::Partial if done == 0 => Err(error),
                    FsReply::Partial => Ok(done),
                    FsReply::Swallow => Ok(data.len()),
                };
            }
            done += length;
        }
        Ok(done)
    }

    fn name(&mut self, grant: i64, length: usize) -> Vec<u8> {
        let mut name = vec![0; length];
        self.safecopy(grant, 0, &mut name, Access::Read).1.unwrap();
        name
    }

    fn node(&mut self, inode: u64) -> Node {
        *self.references.entry(inode).or_default() += 1;
        let (mode, size) = match &self.inodes[&inode] {
            Inode::Directory(_) => (0o040755, 0),
            Inode::File(data) => (0o100644, data.len()),
            Inode::Link(target) => (0o120777, target.len()),
        };
        Node { result: 0, inode, size: size as u64, mode, links: 1, uid: 0, gid: 0 }
    }

    fn entries(&mut self, directory: u64) -> &mut BTreeMap<Vec<u8>, u64> {
        match self.inodes.get_mut(&directory) {
            Some(Inode::Directory(entries)) => entries,
            other => panic!("not a directory: {other:?}"),
        }
    }

    fn data(&mut self, inode: u64) -> &mut Vec<u8> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(data)) => data,
            other => panic!("not a file: {other:?}"),
        }
    }

    fn insert(&mut self, directory: u64, name: Vec<u8>, inode: Inode) -> Result<u64> {
        let number = self.inodes.keys().max().unwrap() + 1;
        let entries = self.entries(directory);
        if entries.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        entries.insert(name, number);
        self.inodes.insert(number, inode);
        Ok(number)
    }

    /// Adds an object under the root.
    pub fn add(&mut self, name: &str, inode: Inode) -> u64 {
        self.insert(ROOT, name.as_bytes().to_vec(), inode).unwrap()
    }

    /// The file system's answer.
    fn file_system(&mut self, message: &Message) -> Message {
        let io: fs::Io = message.get();
        let name: fs::Name = message.get();
        self.log.push((message.kind(), io.position));
        let answer_node = |node: Result<Node>| match node {
            Ok(node) => message.reply(REPLY, &node),
            Err(error) => message.reply(REPLY, &Status { result: error.code().into() }),
        };
        let answer_done = |result: Result<usize>, position: u64, size: usize| {
            let result = Status::of(result.map(|count| count as u64)).result;
            message.reply(REPLY, &fs::Done { result, position, size: size as u64 })
        };
        let answer = |result: Result<u64>| message.reply(REPLY, &Status::of(result));
        match message.kind() {
            fs::READSUPER => answer_node(Ok(self.node(ROOT))),
            fs::LOOKUP => {
                let text = self.name(name.grant, name.length as usize);
                let found = self.entries(name.directory).get(&text).copied().ok_or(Errno::ENOENT);
                answer_node(found.map(|inode| self.node(inode)))
            }
            fs::CREATE => {
                let text = self.name(name.grant, name.length as usize);
                let made = self.insert(name.directory, text, Inode::File(Vec::new()));
                answer_node(made.map(|inode| self.node(inode)))
            }
            fs::MKDIR => {
                let text = self.name(name.grant, name.length as usize);
                answer(self.insert(name.directory, text, Inode::Directory(BTreeMap::new())).map(|_| 0))
            }
            fs::UNLINK => {
                let text = self.name(name.grant, name.length as usize);
                answer(self.entries(name.directory).remove(&text).map(|_| 0).ok_or(Errno::ENOENT))
            }
            fs::SLINK => {
                let text = self.name(name.grant, name.length as usize);
                let mut target = vec![0; name.length2 as usize];
                // Commits after the last copy.
                match self.safecopy(name.grant2, 0, &mut target, Access::Read).1 {
                    Ok(()) => answer(self.insert(name.directory, text, Inode::Link(target)).map(|_| 0)),
                    Err(error) => answer(Err(error)),
                }
            }
            fs::RDLINK => {
                let Inode::Link(target) = self.inodes[&io.inode].clone() else { panic!("no link") };
                let mut target = target[..target.len().min(io.bytes as usize)].to_vec();
                let (moved, result) = self.safecopy(io.grant, 0, &mut target, Access::Write);
                answer_done(result.map(|()| moved), 0, 0)
            }
            fs::STAT => {
                let size = match &self.inodes[&io.inode] {
                    Inode::File(data) => data.len() as u64,
                    _ => 0,
                };
                let mut stat = Stat { inode: io.inode, size, ..Stat::default() };
                let (_, result) = self.safecopy(io.grant, 0, stat.as_mut_bytes(), Access::Write);
                answer(result.map(|()| 0))
            }
            fs::READ => {
                let data = self.data(io.inode).clone();
                let from = data.len().min(io.position as usize);
                let to = data.len().min((io.position + io.bytes) as usize);
                let result = self.blocks(&io, &mut data[from..to].to_vec(), Access::Write);
                answer_done(result, 0, data.len())
            }
            fs::WRITE => {
                let mut incoming = vec![0; io.bytes as usize];
                let result = self.blocks(&io, &mut incoming, Access::Read);
                // The seed's file system sets the size before it looks whether the copy failed.
                let end = io.position as usize + incoming.len();
                let data = self.data(io.inode);
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[io.position as usize..end].copy_from_slice(&incoming);
                let size = data.len();
                answer_done(result, 0, size)
            }
            fs::FTRUNC => {
                self.data(io.inode).resize(io.position as usize, 0);
                answer(Ok(0))
            }
            fs::PUTNODE => {
                let put: fs::NodeRef = message.get();
                let references = self.references.get_mut(&put.inode).unwrap();
                *references -= put.count as i64;
                assert!(*references >= 0, "more references given back than taken");
                answer(Ok(0))
            }
            fs::PEEK | fs::SYNC | fs::FLUSH | fs::UNMOUNT => answer(Ok(0)),
            other => panic!("file system asked {other:#x}"),
        }
    }

    /// VM's reaction to PROCCTL: an answer, or page-ins first.
    fn handle_memory(&mut self, message: &Message) -> Vec<Message> {
        let request: vm::HandleMem = message.get();
        let end = request.address + request.length;
        if request.endpoint != USER.raw() {
            return vec![message.reply(REPLY, &Status { result: 0 })];
        }
        if end > MEMORY as u64 {
            return vec![message.reply(REPLY, &Status { result: Errno::EFAULT.code().into() })];
        }
        let pages = request.address / PAGE..=(end - 1) / PAGE;
        let mut calls = Vec::new();
        let mut ids = BTreeSet::new();
        for page in pages {
            if !self.absent.remove(&page) {
                continue;
            }
            if let Some(handle) = self.file_pages.get(&page) {
                self.last_request += 1;
                ids.insert(self.last_request);
                let call = VmCall {
                    operation: vfs::PAGEIN,
                    request: self.last_request,
                    handle: *handle,
                    offset: page * PAGE,
                    length: PAGE,
                    ..VmCall::default()
                };
                calls.push(Message::new(vfs::VMCALL, &call));
            }
        }
        if ids.is_empty() {
            return vec![message.reply(REPLY, &Status { result: 0 })];
        }
        self.waiting.push((*message, ids));
        calls
    }

    /// An answer of VFS to VM.
    fn paged_in(&mut self, message: &Message) -> Vec<Message> {
        let reply: vm::VfsReply = message.get();
        let mut ready = Vec::new();
        self.waiting.retain_mut(|(asked, ids)| {
            ids.remove(&reply.request);
            if ids.is_empty() {
                ready.push(asked.reply(REPLY, &Status { result: 0 }));
            }
            !ids.is_empty()
        });
        ready
    }
}

/// The server and what is around it.
pub struct World {
    pub vfs: Rc<Vfs<FakeKernel>>,
    pub state: Rc<RefCell<State>>,
}

impl World {
    pub fn new(retry: Retry, mode: FsReply) -> World {
        let state = State {
            outbox: VecDeque::new(),
            answers: VecDeque::new(),
            grants: BTreeMap::new(),
            last_grant: 0,
            memory: vec![0; MEMORY],
            absent: BTreeSet::new(),
            file_pages: BTreeMap::new(),
            cursed: BTreeSet::new(),
            site: 0,
            inject: BTreeSet::new(),
            grantee_side: false,
            suspended: 0,
            counters: BTreeMap::new(),
            inodes: BTreeMap::from([(ROOT, Inode::Directory(BTreeMap::new()))]),
            references: BTreeMap::new(),
            mode,
            log: Vec::new(),
            waiting: Vec::new(),
            last_request: 0,
        };
        let state = Rc::new(RefCell::new(state));
        let options = Options { retry, ..Options::parse("").unwrap() };
        World { vfs: Vfs::new(FakeKernel(Rc::clone(&state)), options), state }
    }

    /// Delivers a message to VFS in somebody's name.
    pub fn deliver(&self, from: Endpoint, mut message: Message) {
        message.source = from.raw();
        self.vfs.take(&message);
    }

    /// Serves one message that VFS has sent; false if there is none.
    pub fn step(&self) -> bool {
        let Some((to, message)) = self.state.borrow_mut().outbox.pop_front() else { return false };
        let back = match to {
            Endpoint::MFS => vec![self.state.borrow_mut().file_system(&message)],
            Endpoint::VM if message.kind() == vm::PROCCTL => self.state.borrow_mut().handle_memory(&message),
            Endpoint::VM if message.kind() == vm::VFS_REPLY => self.state.borrow_mut().paged_in(&message),
            Endpoint::TTY => {
                let transfer: refault_abi::cdev::Transfer = message.get();
                vec![message.reply(REPLY, &Status { result: transfer.bytes as i64 })]
            }
            Endpoint::PM => {
                self.state.borrow_mut().answers.push_back((to, message));
                Vec::new()
            }
            _ => panic!("message to {to:?}"),
        };
        for message in back {
            self.deliver(to, message);
        }
        true
    }

    /// A request, and its answer. It hangs if there is none.
    pub fn call(&self, from: Endpoint, message: Message) -> Result<u64> {
        self.deliver(from, message);
        loop {
            if let Some((to, answer)) = self.state.borrow_mut().answers.pop_front() {
                assert_eq!((to, answer.kind()), (from, REPLY));
                return answer.get::<Status>().check();
            }
            assert!(self.step(), "nobody has anything to do, and there is no answer");
        }
    }

    /// Lets everything come to rest.
    pub fn settle(&self) {
        while self.step() {}
    }

    /// Puts text into the user's memory.
    pub fn put(&self, address: usize, bytes: &[u8]) {
        self.state.borrow_mut().memory[address..address + bytes.len()].copy_from_slice(bytes);
    }

    pub fn open(&self, path: &str, flags: u32) -> Result<u64> {
        self.on_path(vfs::OPEN, path, flags)
    }

    pub fn on_path(&self, request: u16, path: &str, flags: u32) -> Result<u64> {
        self.put(0, path.as_bytes());
        let path = vfs::Path { address: 0, length: path.len() as u64, flags, ..vfs::Path::default() };
        self.call(USER, Message::new(request, &path))
    }

    pub fn io(&self, request: u16, descriptor: u64, address: u64, bytes: u64, offset: i64) -> Result<u64> {
        let io = vfs::Io { descriptor: descriptor as i32, flags: 0, address, bytes, offset };
        self.call(USER, Message::new(request, &io))
    }

    /// The file position.
    pub fn position(&self, descriptor: u64) -> u64 {
        let io = vfs::Io { descriptor: descriptor as i32, flags: vfs::SEEK_CUR, ..vfs::Io::default() };
        self.call(USER, Message::new(vfs::LSEEK, &io)).unwrap()
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.state.borrow().counters.get(&(counter as usize)).copied().unwrap_or(0)
    }

    /// Ends the user's process and checks that nothing is left of it.
    pub fn check_nothing_left(&self) {
        let target = refault_abi::kcall::Target { endpoint: USER.raw(), reserved: 0 };
        assert_eq!(self.call(Endpoint::PM, Message::new(vfs::PM_EXIT, &target)), Ok(0));
        self.settle();
        let state = self.state.borrow();
        assert!(state.grants.is_empty(), "grants left");
        assert_eq!(self.vfs.tasks(), 0, "tasks left");
        let kept = state.references.iter().filter(|(_, count)| **count != 0);
        assert!(kept.map(|(inode, _)| *inode).eq([ROOT]), "references left");
    }
}
