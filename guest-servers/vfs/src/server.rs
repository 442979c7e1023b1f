//! The server's state, and where each message goes.
//!
//! The one thing to hold in mind: [`Vfs::take`] never waits. It finds the task a message is an answer for, or starts
//! a task for a request, and runs tasks until all of them wait for messages that have not come yet.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use refault_abi::message::{REPLY, Status};
use refault_abi::options::Options;
use refault_abi::vfs::{self, O_RDWR};
use refault_abi::{Endpoint, Errno, Message, Result, fs};

use crate::cell::OneShot;
use crate::executor::Executor;
use crate::kernel::Kernel;
use crate::process::{Object, OpenFile, Process, Processes};
use crate::requests::vm::Pins;
use crate::transport::{Mount, Transactions};
use crate::vnode::{Shelf, Vnode};

/// Device number of the root file system, towards the file system and VM.
pub const ROOT_DEVICE: u64 = 1;

/// The root directory, or why there is none.
enum Root {
    /// The file system is reading its superblock; these wait for it.
    Mounting(Vec<Rc<OneShot<()>>>),
    Mounted(Result<Rc<Vnode>>),
}

/// The virtual file system.
pub struct Vfs<K> {
    /// What is below.
    pub kernel: K,
    /// The guest's modes.
    pub options: Options,
    /// Requests under way.
    pub(crate) transactions: RefCell<Transactions>,
    /// Vnodes.
    pub(crate) shelf: Shelf,
    /// Processes.
    pub(crate) processes: RefCell<Processes>,
    /// Vnodes that VM has mapped.
    pub(crate) pins: RefCell<Pins>,
    root: RefCell<Root>,
    executor: Executor,
    requests: Cell<u32>,
}

impl<K: Kernel> Vfs<K> {
    /// A server that begins by mounting the root file system.
    pub fn new(kernel: K, options: Options) -> Rc<Vfs<K>> {
        let server = Rc::new(Vfs {
            kernel,
            options,
            transactions: RefCell::default(),
            shelf: Shelf::default(),
            processes: RefCell::new(Processes::new(OpenFile::new(Object::Terminal, O_RDWR))),
            pins: RefCell::default(),
            root: RefCell::new(Root::Mounting(Vec::new())),
            executor: Executor::new(),
            requests: Cell::new(0),
        });
        let mounter = Rc::clone(&server);
        server.executor.spawn(async move { mounter.mount_root().await });
        server.run();
        server
    }

    /// Number of an operation, for its tags.
    pub(crate) fn next_request(&self) -> u32 {
        let number = self.requests.get().wrapping_add(1);
        self.requests.set(number);
        number
    }

    /// Takes a message that is no notification. `waits`: it came by SENDREC.
    pub fn take(self: &Rc<Self>, message: &Message, waits: bool) {
        let sender = message.sender();
        if message.kind() == REPLY && message.transaction() != 0 {
            // An answer that nobody waits for is dropped, not answered.
            self.answered(message);
        } else if sender == Endpoint::VM && message.kind() == vfs::VMCALL {
            let (server, message) = (Rc::clone(self), *message);
            self.executor.spawn(async move { server.vm_call(&message).await });
        } else if sender == Endpoint::PM {
            let (server, message) = (Rc::clone(self), *message);
            self.executor.spawn(async move { server.pm_call(&message).await });
        } else {
            self.begin(message, waits);
        }
        self.run();
    }

    /// Whoever was asked and is dead will not answer.
    pub fn died(self: &Rc<Self>, endpoint: Endpoint) {
        self.lost(endpoint);
        self.run();
    }

    /// Tasks under way.
    pub fn tasks(&self) -> usize {
        self.executor.tasks()
    }

    fn run(&self) {
        loop {
            self.executor.run();
            let orphans = self.shelf.orphans();
            if orphans.is_empty() {
                return;
            }
            for orphan in orphans {
                // The answer says nothing: the references are gone from here in any case.
                let _ = self.enqueue(&orphan.mount, Message::new(fs::PUTNODE, &orphan.references));
            }
        }
    }

    /// Starts a process's request.
    fn begin(self: &Rc<Self>, message: &Message, waits: bool) {
        if let Err(error) = self.admit(message.sender()) {
            self.reply(message, Err(error), waits);
            return;
        }
        let (server, message) = (Rc::clone(self), *message);
        self.executor.spawn(async move {
            let result = server.serve(&message).await;
            server.with_process(message.sender(), |process| process.busy = false).unwrap_or(());
            server.reply(&message, result, waits);
        });
    }

    /// Makes the sender a process with one request under way.
    fn admit(&self, sender: Endpoint) -> Result<()> {
        let predecessor = self.processes.borrow_mut().admit(sender)?;
        drop(predecessor);
        self.with_process(sender, |process| {
            // A process that asks without waiting for its answers would cost memory without a bound.
            let was_busy = core::mem::replace(&mut process.busy, true);
            if was_busy { Err(Errno::EAGAIN) } else { Ok(()) }
        })?
    }

    fn reply(&self, request: &Message, result: Result<u64>, waits: bool) {
        self.kernel.answer(request.sender(), &request.reply(REPLY, &Status::of(result)), waits);
    }

    /// Does something with a process's entry.
    pub(crate) fn with_process<T>(
        &self,
        endpoint: Endpoint,
        action: impl FnOnce(&mut Process) -> T,
    ) -> Result<T> {
        self.processes.borrow_mut().get(endpoint).map(action)
    }

    /// The open file behind a process's descriptor.
    pub(crate) fn open_file(&self, endpoint: Endpoint, descriptor: i32) -> Result<Rc<OpenFile>> {
        self.with_process(endpoint, |process| process.open_file(descriptor))?
    }

    async fn mount_root(&self) {
        let mount = Rc::new(Mount::new(Endpoint::MFS, ROOT_DEVICE));
        let request = fs::Mount { device: ROOT_DEVICE, driver: Endpoint::BLK.raw(), ..fs::Mount::default() };
        let answer = self.call(&mount, Message::new(fs::READSUPER, &request)).await;
        let root = answer.and_then(|message| {
            let node: fs::Node = message.get();
            match Errno::check(node.result) {
                Ok(_) => Ok(self.shelf.found(&mount, &node)),
                // To whoever names a path, an argument of the mount's says nothing.
                Err(Errno::EINVAL) => Err(Errno::ENODEV),
                Err(error) => Err(error),
            }
        });
        if let Root::Mounting(waiting) = self.root.replace(Root::Mounted(root)) {
            waiting.iter().for_each(|shot| shot.set(()));
        }
    }

    /// The root directory, once the file system has been mounted, or why it could not be.
    pub(crate) async fn root(&self) -> Result<Rc<Vnode>> {
        let turn = match &mut *self.root.borrow_mut() {
            Root::Mounted(root) => return root.clone(),
            Root::Mounting(waiting) => {
                let shot = Rc::new(OneShot::new());
                waiting.push(Rc::clone(&shot));
                shot
            }
        };
        turn.wait().await;
        match &*self.root.borrow() {
            Root::Mounted(root) => root.clone(),
            Root::Mounting(_) => Err(Errno::EIO),
        }
    }

    /// One request of a process, from beginning to end.
    async fn serve(&self, message: &Message) -> Result<u64> {
        let user = message.sender();
        match message.kind() {
            vfs::OPEN => self.open(user, message.get()).await,
            vfs::CLOSE => self.close(user, message.get()),
            vfs::DUP => self.dup(user, message.get()),
            vfs::READ => self.read(user, message.get(), false).await,
            vfs::PREAD => self.read(user, message.get(), true).await,
            vfs::WRITE => self.write(user, message.get(), false).await,
            vfs::PWRITE => self.write(user, message.get(), true).await,
            vfs::LSEEK => self.lseek(user, message.get()).await,
            vfs::GETDENTS => self.getdents(user, message.get()).await,
            vfs::FTRUNCATE => self.ftruncate(user, message.get()).await,
            vfs::FSYNC => self.fsync(user, message.get()).await,
            vfs::STAT => self.stat(user, message.get()).await,
            vfs::FSTAT => self.fstat(user, message.get()).await,
            vfs::READLINK => self.readlink(user, message.get()).await,
            vfs::SYMLINK => self.symlink(user, message.get()).await,
            vfs::MKDIR => self.mkdir(user, message.get()).await,
            vfs::UNLINK => self.unlink(user, message.get()).await,
            vfs::RMDIR => self.rmdir(user, message.get()).await,
            vfs::RENAME => self.rename(user, message.get()).await,
            vfs::LINK => self.link(user, message.get()).await,
            vfs::CHDIR => self.chdir(user, message.get()).await,
            vfs::SYNC => self.everything(fs::SYNC).await,
            vfs::FLUSH_CACHES => self.everything(fs::FLUSH).await,
            _ => Err(Errno::EBADREQUEST),
        }
    }
}
