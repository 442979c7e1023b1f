//! A machine for host tests: users with memory, a file system with a disk, pipes, a driver and a VM, around a real [`Vfs`].
//!
//! The one thing to hold in mind: every page that a copy touches is a numbered site, and a test chooses the sites at which the
//! page is taken away first. So "at any fault schedule" can be tried exhaustively. And everybody may be stuck: what nobody can
//! receive stays where it is, so that a circle of waits shows as tasks that do not end ([`World::stuck`]).

mod file_system;
mod machine;
mod memory_manager;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use refault_abi::counters::Counter;
use refault_abi::message::{REPLY, Status};
use refault_abi::options::{FsReply, Options, Retry};
use refault_abi::{Endpoint, Errno, Message, Result, cdev, pm, rs, vfs, vm};
use refault_pipefs::Server;

pub use self::file_system::Inode;
use self::machine::{Entry, FakeKernel, PipeSystem};
use self::memory_manager::Memory;
use crate::kernel::Access;
use crate::server::Vfs;

/// The user of the tests.
pub const USER: Endpoint = Endpoint::new(1, 20);
/// Another one, with the same memory.
pub const OTHER: Endpoint = Endpoint::new(1, 21);
/// Bytes of the users' memory, from address 0.
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
    /// Pages of the user that VM can bring in only by a page-in of this handle, at this offset.
    pub file_pages: BTreeMap<u64, (u64, u64)>,
    /// Pages that are taken away again as soon as they are touched.
    pub cursed: BTreeSet<u64>,
    /// Sites passed, and those at which the page is taken away.
    pub site: u64,
    pub inject: BTreeSet<u64>,
    /// Whether injected faults hit the grantee's own page instead.
    pub grantee_side: bool,
    /// Copies that were suspended on VM.
    pub suspended: u64,
    pub counters: BTreeMap<usize, u64>,
    pub inodes: BTreeMap<u64, Inode>,
    pub references: BTreeMap<u64, i64>,
    /// What is on the disk, seen as a file.
    pub disk: Vec<u8>,
    pub mode: FsReply,
    /// Requests the file system has seen.
    pub log: Vec<(u16, u64)>,
    /// Waits noted and not over, and the last reasons.
    pub waiting: BTreeMap<u64, (Endpoint, Endpoint, Endpoint, &'static str)>,
    last_wait: u64,
    vm: Memory,
    /// The file system as it is now; a dead one takes no messages.
    pub server: Endpoint,
    pub server_dead: bool,
    /// The reincarnation server has given it up.
    pub given_up: bool,
    /// Its request that is suspended on VM.
    fs_suspended: Option<Message>,
    suspended_calls: Option<Vec<Message>>,
    /// PM is suspended in a copy of its own; VFS waits to send to it.
    pub pm_suspended: bool,
    vfs_sends: Option<Message>,
}

/// The server and what is around it.
pub struct World {
    pub vfs: Rc<Vfs<FakeKernel>>,
    pub state: Rc<RefCell<State>>,
    pipes: RefCell<Server<PipeSystem>>,
}

impl World {
    pub fn new(retry: Retry, mode: FsReply) -> World {
        World::with(Options { retry, fs: mode, ..Options::parse("").unwrap() })
    }

    pub fn with(options: Options) -> World {
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
            disk: vec![0; 20 * 4096 + 512],
            mode: options.fs,
            log: Vec::new(),
            waiting: BTreeMap::new(),
            last_wait: 0,
            vm: Memory::new(options.mode),
            server: Endpoint::MFS,
            server_dead: false,
            given_up: false,
            fs_suspended: None,
            suspended_calls: None,
            pm_suspended: false,
            vfs_sends: None,
        };
        let state = Rc::new(RefCell::new(state));
        let pipes = RefCell::new(Server::new(PipeSystem(Rc::clone(&state)), options.bug));
        World { vfs: Vfs::new(FakeKernel(Rc::clone(&state)), options, false), state, pipes }
    }

    /// Delivers a message to VFS in somebody's name.
    pub fn deliver(&self, from: Endpoint, mut message: Message) {
        message.source = from.raw();
        self.vfs.take(&message, true);
    }

    /// Serves one message that VFS has sent; false if nobody can take one.
    pub fn step(&self) -> bool {
        let next = {
            let mut state = self.state.borrow_mut();
            if state.vfs_sends.is_some() {
                // VFS waits in its send: it takes nothing, whoever is ready to answer.
                return false;
            }
            let stuck = state.fs_suspended.is_some();
            let server = state.server;
            let index = state.outbox.iter().position(|(to, _)| !(stuck && *to == server));
            index.and_then(|index| state.outbox.remove(index))
        };
        let Some((to, message)) = next else { return false };
        if to.slot() == Endpoint::MFS.slot() {
            self.to_file_system(to, &message);
            return true;
        }
        let back = match to {
            Endpoint::VM if message.kind() == vm::PROCCTL => self.state.borrow_mut().handle_memory(&message),
            Endpoint::VM if message.kind() == vm::VFS_REPLY => self.paged_in(&message),
            Endpoint::TTY if message.kind() == cdev::CANCEL => Vec::new(),
            Endpoint::TTY if message.kind() == cdev::READ => Vec::new(),
            Endpoint::TTY => {
                let transfer: cdev::Transfer = message.get();
                vec![message.reply(REPLY, &Status { result: transfer.bytes as i64 })]
            }
            Endpoint::PIPEFS => {
                let mut request = message;
                request.source = Endpoint::VFS.raw();
                vec![self.pipes.borrow_mut().handle(&request)]
            }
            Endpoint::BLK => {
                let request: cdev::Transfer = message.get();
                let mut zeroes = vec![0; request.bytes as usize];
                let (moved, result) = self.state.borrow_mut().safecopy(
                    Endpoint::BLK,
                    request.grant,
                    0,
                    &mut zeroes,
                    Access::Write,
                );
                let moved = moved as u64;
                let answer = if moved > 0 { Ok(moved) } else { result.map(|()| moved) };
                vec![message.reply(REPLY, &Status::of(answer))]
            }
            Endpoint::RS => {
                assert_eq!(message.kind(), rs::LOOKUP);
                let (successor, given_up) = {
                    let state = self.state.borrow();
                    (state.server, state.given_up)
                };
                assert_eq!(message.get::<rs::Lookup>().slot, successor.slot());
                let answer = if given_up { Err(Errno::EIO) } else { Ok(successor.raw() as u64) };
                vec![message.reply(REPLY, &Status::of(answer))]
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

    fn to_file_system(&self, to: Endpoint, message: &Message) {
        let (current, dead) = {
            let state = self.state.borrow();
            (state.server, state.server_dead)
        };
        if to != current {
            // SENDA says so.
            self.vfs.not_delivered(to, message);
            return;
        }
        if dead {
            return;
        }
        let answer = self.state.borrow_mut().file_system(message);
        let page_ins = self.state.borrow_mut().suspended_on();
        match page_ins {
            None => self.deliver(to, answer),
            Some(calls) => {
                self.state.borrow_mut().fs_suspended = Some(*message);
                for call in calls {
                    self.deliver(Endpoint::VM, call);
                }
            }
        }
    }

    /// VFS has answered VM: answers that VM now has, or more questions. A suspended file system goes on.
    fn paged_in(&self, message: &Message) -> Vec<Message> {
        let (back, resumed) = {
            let mut state = self.state.borrow_mut();
            let back = state.paged_in(message);
            let resumed = if state.suspended_pages_left() { None } else { state.fs_suspended.take() };
            (back, resumed)
        };
        if let Some(message) = resumed {
            let server = self.state.borrow().server;
            self.to_file_system(server, &message);
        }
        back
    }

    /// The file system dies; its successor is there at once, and knows nobody's references.
    pub fn crash(&self) -> pm::Restarted {
        let mut state = self.state.borrow_mut();
        let old = state.server;
        state.server = old.next_generation();
        state.server_dead = false;
        state.references.clear();
        state.fs_suspended = None;
        pm::Restarted { old: old.raw(), new: state.server.raw() }
    }

    /// A request, and its answer. It fails if there is none.
    pub fn call(&self, from: Endpoint, message: Message) -> Result<u64> {
        self.deliver(from, message);
        loop {
            if let Some(answer) = self.answer_to(from) {
                return answer;
            }
            assert!(self.step(), "nobody has anything to do, and there is no answer");
        }
    }

    /// The answer that somebody has got, if he has.
    pub fn answer_to(&self, whom: Endpoint) -> Option<Result<u64>> {
        let mut state = self.state.borrow_mut();
        let index = state.answers.iter().position(|(to, _)| *to == whom)?;
        let (_, answer) = state.answers.remove(index)?;
        assert_eq!(answer.kind(), REPLY);
        Some(answer.get::<Status>().check())
    }

    /// Lets everything come to rest.
    pub fn settle(&self) {
        while self.step() {}
    }

    /// Lets everything come to rest; why the tasks that are left do not go on.
    pub fn stuck(&self) -> Vec<&'static str> {
        self.settle();
        assert!(self.state.borrow().vfs_sends.is_some() || self.vfs.tasks() > 0, "everything has ended");
        self.state.borrow().waiting.values().map(|(.., why)| *why).collect()
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
        self.call(USER, io(request, descriptor, address, bytes, offset))
    }

    /// The file position.
    pub fn position(&self, descriptor: u64) -> u64 {
        let io = vfs::Io { descriptor: descriptor as i32, flags: vfs::SEEK_CUR, ..vfs::Io::default() };
        self.call(USER, Message::new(vfs::LSEEK, &io)).unwrap()
    }

    /// VM looks up a descriptor of the user's: what VFS answers.
    pub fn fd_lookup(&self, descriptor: u64) -> vm::VfsReply {
        let lookup = vfs::VmCall {
            operation: vfs::FDLOOKUP,
            endpoint: USER.raw(),
            descriptor: descriptor as i32,
            request: 77,
            ..vfs::VmCall::default()
        };
        self.deliver(Endpoint::VM, Message::new(vfs::VMCALL, &lookup));
        loop {
            {
                let mut state = self.state.borrow_mut();
                let is_reply =
                    |(to, m): &(Endpoint, Message)| *to == Endpoint::VM && m.kind() == vm::VFS_REPLY;
                if let Some(index) = state.outbox.iter().position(is_reply) {
                    let reply: vm::VfsReply = state.outbox.remove(index).unwrap().1.get();
                    assert_eq!(reply.request, 77);
                    return reply;
                }
            }
            assert!(self.step());
        }
    }

    /// The user's pages from `first` on are a mapping of what a descriptor leads to, and not there.
    pub fn map(&self, descriptor: u64, first: u64, pages: u64) -> u64 {
        let reply = self.fd_lookup(descriptor);
        assert_eq!(reply.result, 0);
        let mut state = self.state.borrow_mut();
        for page in 0..pages {
            state.absent.insert(first + page);
            state.file_pages.insert(first + page, (reply.handle, page * 4096));
        }
        reply.handle
    }

    pub fn release(&self, handle: u64) {
        let release = vfs::VmCall { operation: vfs::RELEASE, handle, ..vfs::VmCall::default() };
        self.deliver(Endpoint::VM, Message::new(vfs::VMCALL, &release));
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.state.borrow().counters.get(&(counter as usize)).copied().unwrap_or(0)
    }

    /// Grants in force.
    pub fn grants(&self) -> usize {
        self.state.borrow().grants.len()
    }

    pub fn exit(&self, who: Endpoint) {
        let target = refault_abi::kcall::Target { endpoint: who.raw(), reserved: 0 };
        let message = Message::new(vfs::PM_EXIT, &target).with_transaction(5);
        assert_eq!(self.call(Endpoint::PM, message), Ok(0));
    }

    /// Ends the users' processes and checks that nothing is left of them.
    pub fn check_nothing_left(&self) {
        self.exit(USER);
        self.exit(OTHER);
        self.settle();
        let state = self.state.borrow();
        assert!(state.grants.is_empty(), "grants left");
        assert_eq!(self.vfs.tasks(), 0, "tasks left");
        assert!(state.waiting.is_empty(), "waits left");
        let kept = state.references.iter().filter(|(_, count)| **count != 0);
        assert!(kept.map(|(inode, _)| *inode).eq([ROOT]), "references left");
        assert_eq!(self.pipes.borrow().pipes(), 0, "pipes left");
        drop(state);
        assert_eq!(self.counter(Counter::VfsCalls), self.counter(Counter::VfsAnswers));
    }
}

/// A request on a descriptor.
pub fn io(request: u16, descriptor: u64, address: u64, bytes: u64, offset: i64) -> Message {
    Message::new(request, &vfs::Io { descriptor: descriptor as i32, flags: 0, address, bytes, offset })
}
