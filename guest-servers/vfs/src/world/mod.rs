//! A machine for host tests: a user with memory, a file system, and a VM, around a real [`Vfs`].
//!
//! The one thing to hold in mind: every page that a copy touches is a numbered site, and a test chooses the sites at which the
//! page is taken away first. So "at any fault schedule" can be tried exhaustively.

mod file_system;
mod machine;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use refault_abi::counters::Counter;
use refault_abi::layout::PAGE;
use refault_abi::message::{REPLY, Status};
use refault_abi::options::{FsReply, Options, Retry};
use refault_abi::vfs::{self, VmCall};
use refault_abi::{Endpoint, Errno, Message, Result, vm};

pub use self::file_system::Inode;
use self::machine::{Entry, FakeKernel};
use crate::server::Vfs;

/// The user of the tests.
pub const USER: Endpoint = Endpoint::new(1, 20);
/// Bytes of a user's memory, from address 0.
pub const MEMORY: usize = 40 * 4096;
/// The root directory's inode.
pub const ROOT: u64 = 1;

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

impl State {
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
        self.vfs.take(&message, true);
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
