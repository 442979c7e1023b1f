//! The server's state, and where each message goes.
//!
//! The one thing to hold in mind: [`Vfs::take`] never waits. It finds the task a message is an answer for, or starts
//! a task for a request, and runs tasks until all of them wait for messages that have not come yet.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;

use refault_abi::counters::Counter;
use refault_abi::message::{REPLY, Status};
use refault_abi::options::{Mode, Options};
use refault_abi::vfs::{self, O_RDWR};
use refault_abi::{Endpoint, Errno, Message, Result, fs, rs};

use crate::cell::OneShot;
use crate::device::Device;
use crate::executor::Executor;
use crate::faithful::Faithful;
use crate::kernel::Kernel;
use crate::mount::{Mount, Mounts, Role};
use crate::process::{Object, OpenFile, Process, Processes};
use crate::requests::vm::Pins;
use crate::transport::Transactions;
use crate::vnode::{Chore, Shelf, Vnode};

/// The root directory of a disk, or why there is none.
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
    /// What VM has mapped.
    pub(crate) pins: RefCell<Pins>,
    /// File systems and drivers.
    pub(crate) mounts: Mounts,
    /// What only the seed's VFS has.
    pub(crate) faithful: Option<Faithful>,
    roots: Vec<RefCell<Root>>,
    executor: Executor,
    requests: Cell<u32>,
}

impl<K: Kernel> Vfs<K> {
    /// A server that begins by mounting the disks: the root file system, and another at `/mnt` if there is a second one.
    pub fn new(kernel: K, options: Options, second_disk: bool) -> Rc<Vfs<K>> {
        let mounts = Mounts::new(second_disk);
        let terminal = OpenFile::new(Object::Device(Device::Terminal), O_RDWR);
        let server = Rc::new(Vfs {
            kernel,
            options,
            transactions: RefCell::default(),
            shelf: Shelf::default(),
            processes: RefCell::new(Processes::new(terminal)),
            pins: RefCell::default(),
            faithful: (options.mode == Mode::Faithful).then(Faithful::default),
            roots: mounts.disks.iter().map(|_| RefCell::new(Root::Mounting(Vec::new()))).collect(),
            mounts,
            executor: Executor::new(),
            requests: Cell::new(0),
        });
        for mount in &server.mounts.disks {
            let (mounter, mount) = (Rc::clone(&server), Rc::clone(mount));
            server.spawn(Endpoint::VFS, async move { mounter.mount_disk(&mount).await });
        }
        server.run();
        server
    }

    /// Number of an operation, for its tags.
    pub(crate) fn next_request(&self) -> u32 {
        let number = self.requests.get().wrapping_add(1);
        self.requests.set(number);
        number
    }

    /// For whom the running task works.
    pub(crate) fn client(&self) -> Endpoint {
        self.executor.client()
    }

    /// Begins a task for `client`.
    pub(crate) fn spawn(&self, client: Endpoint, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(client, task);
    }

    /// Takes a message that is no notification. `waits`: it came by SENDREC.
    pub fn take(self: &Rc<Self>, message: &Message, waits: bool) {
        let sender = message.sender();
        let (server, request) = (Rc::clone(self), *message);
        if message.kind() == REPLY && message.transaction() != 0 {
            // An answer that nobody waits for is dropped, not answered.
            self.answered(message);
        } else if sender == Endpoint::VM && message.kind() == vfs::VMCALL {
            self.spawn(sender, async move { server.vm_call(&request).await });
        } else if sender == Endpoint::PM {
            self.spawn(sender, async move { server.pm_call(&request).await });
        } else if sender == Endpoint::RS && message.kind() == rs::RESTARTED {
            self.restarted(&message.get());
        } else {
            self.begin(message, waits);
        }
        self.run();
    }

    /// Tasks under way.
    pub fn tasks(&self) -> usize {
        self.executor.tasks()
    }

    pub(crate) fn run(self: &Rc<Self>) {
        loop {
            self.executor.run();
            let chores = self.shelf.chores();
            if chores.is_empty() {
                return;
            }
            for chore in chores {
                let server = Rc::clone(self);
                self.spawn(Endpoint::VFS, async move { server.tell(chore).await });
            }
        }
    }

    /// Tells a file system that somebody let go. What it answers does not matter: it is gone from here in any case.
    async fn tell(&self, chore: Chore) {
        match chore {
            Chore::PutNode(orphan) => loop {
                let Ok(turn) = self.turn_at(&orphan.mount).await else { return };
                if orphan.mount.generation() != orphan.generation {
                    return;
                }
                let request = Message::new(fs::PUTNODE, &orphan.references);
                if self.exchange(turn, request).await.err() != Some(crate::transport::NOT_SENT) {
                    return;
                }
            },
            Chore::ClosePipe { pipe, writing } => {
                let end = fs::Io {
                    inode: pipe.vnode.inode,
                    grant: -1,
                    position: u64::from(writing),
                    ..fs::Io::default()
                };
                let _ = self.call(&pipe.vnode, Message::new(fs::CLOSEPIPE, &end)).await;
                pipe.moved();
            }
        }
    }

    /// Starts a process's request.
    fn begin(self: &Rc<Self>, message: &Message, waits: bool) {
        self.kernel.count(Counter::VfsCalls);
        if let Err(error) = self.admit(message.sender()) {
            self.reply(message, Err(error), waits);
            return;
        }
        let (server, message) = (Rc::clone(self), *message);
        self.spawn(message.sender(), async move {
            let worker = server.worker(false).await;
            let result = server.serve(&message).await;
            drop(worker);
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
        self.kernel.count(Counter::VfsAnswers);
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

    /// What became of the mounting of a disk. A root directory that is there stays.
    pub(crate) fn mounted(&self, mount: &Mount, root: Result<Rc<Vnode>>) {
        let Role::Disk(disk) = mount.role else { return };
        let Some(place) = self.roots.get(disk as usize) else { return };
        if matches!(&*place.borrow(), Root::Mounted(Ok(_))) {
            return;
        }
        if let Root::Mounting(waiting) = place.replace(Root::Mounted(root)) {
            waiting.iter().for_each(|shot| shot.set(()));
        }
    }

    /// The root directory, once the file system has been mounted, or why it could not be.
    pub(crate) async fn root(&self) -> Result<Rc<Vnode>> {
        self.disk_root(0).await
    }

    /// Device and inode of the root directory, if it is mounted.
    pub(crate) fn root_inode(&self) -> Option<(u64, u64)> {
        match &*self.roots.first()?.borrow() {
            Root::Mounted(Ok(root)) => Some((root.mount.device, root.inode)),
            Root::Mounted(Err(_)) | Root::Mounting(_) => None,
        }
    }

    /// The root directory of a disk's file system.
    pub(crate) async fn disk_root(&self, disk: usize) -> Result<Rc<Vnode>> {
        let place = self.roots.get(disk).ok_or(Errno::ENXIO)?;
        let turn = match &mut *place.borrow_mut() {
            Root::Mounted(root) => return root.clone(),
            Root::Mounting(waiting) => {
                let shot = Rc::new(OneShot::new());
                waiting.push(Rc::clone(&shot));
                shot
            }
        };
        let _note = self.kernel.waits(self.client(), Endpoint::VFS, Endpoint::VFS, "mounting of a disk");
        turn.wait().await;
        match &*place.borrow() {
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
            vfs::PIPE => self.pipe(user).await,
            vfs::SYNC => self.everything(fs::SYNC).await,
            vfs::FLUSH_CACHES => self.everything(fs::FLUSH).await,
            _ => Err(Errno::EBADREQUEST),
        }
    }
}
