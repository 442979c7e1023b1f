//! What only the seed's VFS has: its weak points, for `mode=faithful`.
//!
//! The one thing to hold in mind: every wait in this file can be one that never ends, and that is its purpose. Page-ins go through
//! an open file and take its lock, its vnode's, and for a disk the one that all disks share; requests keep these locks while they
//! wait for VM (hazards H4 to H6 of the specification). Requests need one of nine workers (H2). A program's arguments are fetched
//! under the lock that page-ins need first (H7). PM is answered by a send that waits (H8). The hardened VFS calls the functions
//! here, too; they then do nothing, at once.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use refault_abi::vfs::{PmExec, VmCall};
use refault_abi::{Endpoint, Errno, Message, Result};

use crate::cell::{Held, Mode, OneShot, TaskLock};
use crate::kernel::Kernel;
use crate::process::{Object, OpenFile};
use crate::server::Vfs;
use crate::vnode::Vnode;

/// Workers for everybody.
const GENERAL: usize = 8;
/// Longest argument block that is fetched, in bytes.
const STRINGS_MAX: u64 = 4096;

/// The state of the seed's VFS.
#[derive(Debug, Default)]
pub struct Faithful {
    workers: Workers,
    block_special: TaskLock,
    manager_of_memory: TaskLock,
}

/// Nine workers, the last of which serves the system only: VM's and PM's requests.
#[derive(Debug, Default)]
struct Workers {
    state: RefCell<WorkerState>,
}

#[derive(Debug, Default)]
struct WorkerState {
    general: Vec<Endpoint>,
    spare: Option<Endpoint>,
    waiting: VecDeque<(Endpoint, bool, Rc<OneShot<bool>>)>,
}

impl WorkerState {
    /// Gives `client` a worker if there is one; whether it is the spare one.
    fn take(&mut self, client: Endpoint, system: bool) -> Option<bool> {
        if self.general.len() < GENERAL {
            self.general.push(client);
            Some(false)
        } else if system && self.spare.is_none() {
            self.spare = Some(client);
            Some(true)
        } else {
            None
        }
    }

    fn give_back(&mut self, client: Endpoint, spare: bool) {
        if spare {
            self.spare = None;
        } else if let Some(index) = self.general.iter().position(|busy| *busy == client) {
            self.general.remove(index);
        }
        let next = self
            .waiting
            .iter()
            .position(|(_, system, _)| self.general.len() < GENERAL || *system && self.spare.is_none());
        if let Some((client, system, turn)) = next.and_then(|index| self.waiting.remove(index))
            && let Some(spare) = self.take(client, system)
        {
            turn.set(spare);
        }
    }
}

/// A worker that is busy; dropping it makes it free.
#[derive(Debug)]
#[must_use = "the worker is free as soon as this is dropped"]
pub struct Worker<'a> {
    workers: &'a Workers,
    client: Endpoint,
    spare: bool,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.workers.state.borrow_mut().give_back(self.client, self.spare);
    }
}

/// A worker that serves others while its request sleeps.
#[derive(Debug)]
pub struct Idle<'a>(Option<&'a Workers>, Endpoint);

impl<K: Kernel> Vfs<K> {
    /// A worker for the running request; `system`: it is VM's or PM's.
    pub(crate) async fn worker(&self, system: bool) -> Option<Worker<'_>> {
        let workers = &self.faithful.as_ref()?.workers;
        let client = self.client();
        let spare = self.busy_worker(workers, client, system).await;
        Some(Worker { workers, client, spare })
    }

    async fn busy_worker(&self, workers: &Workers, client: Endpoint, system: bool) -> bool {
        let (turn, other) = {
            let mut state = workers.state.borrow_mut();
            if let Some(spare) = state.take(client, system) {
                return spare;
            }
            let turn = Rc::new(OneShot::new());
            state.waiting.push_back((client, system, Rc::clone(&turn)));
            (turn, state.general.first().copied().unwrap_or(Endpoint::NONE))
        };
        let _note = self.kernel.waits(client, Endpoint::VFS, other, "free worker");
        turn.wait().await
    }

    /// The running request of a process goes to sleep, if `sleeps`: its worker serves others until [`Vfs::awake`].
    pub(crate) fn idle(&self, sleeps: bool) -> Idle<'_> {
        let client = self.client();
        let workers = self.faithful.as_ref().filter(|_| sleeps).map(|faithful| &faithful.workers);
        if let Some(workers) = workers {
            workers.state.borrow_mut().give_back(client, false);
        }
        Idle(workers, client)
    }

    /// The running request goes on, as soon as there is a worker for it.
    pub(crate) async fn awake(&self, idle: Idle<'_>) {
        if let Idle(Some(workers), client) = idle {
            self.busy_worker(workers, client, false).await;
        }
    }

    /// The lock that everybody holds who reads, writes or pages in a disk as a file.
    pub(crate) async fn block_special(&self, vnode: &Vnode) -> Option<Held<'_>> {
        let faithful = self.faithful.as_ref().filter(|_| vnode.is_block())?;
        Some(self.lock(&faithful.block_special, Mode::Exclusive, "lock of all disks").await)
    }

    /// The lock of VM as a process of VFS's: a page-in is a job of that process, and so is the opening of a program.
    pub(crate) async fn lock_of_memory_manager(&self) -> Option<Held<'_>> {
        let lock = &self.faithful.as_ref()?.manager_of_memory;
        Some(self.lock(lock, Mode::Exclusive, "process lock of vm").await)
    }

    /// What the seed's exec does beside finding the program: it locks the file, and fetches the arguments.
    pub(crate) async fn prepare_program(&self, vnode: &Vnode, request: &PmExec) -> Result<()> {
        if self.faithful.is_none() {
            return Ok(());
        }
        let _order = self.lock(&vnode.lock, Mode::Shared, "file lock").await;
        if request.bytes == 0 {
            return Ok(());
        }
        let bytes = request.bytes.min(STRINGS_MAX);
        let mut strings = vec![0; usize::try_from(bytes).map_err(|_| Errno::E2BIG)?];
        self.fetch(Endpoint::from_raw(request.endpoint), request.strings, &mut strings).await
    }

    /// A page-in as the seed does it: a seek and a read, on the open file that VM shares with the process that mapped it.
    pub(crate) async fn page_in_through(&self, file: &Rc<OpenFile>, call: &VmCall) -> Result<Rc<Vnode>> {
        let _worker_of_vm = self.lock_of_memory_manager().await;
        let _turn = self.lock(&file.lock, Mode::Exclusive, "open-file lock").await;
        file.position.set(call.offset);
        let Object::Vnode(vnode) = &file.object else { return Err(Errno::EBADF) };
        let _order = self.lock(&vnode.lock, Mode::Shared, "file lock").await;
        let _global = self.block_special(vnode).await;
        self.peek(vnode, call).await?;
        // Whoever touches a mapped page moves the position of the file it was mapped by.
        file.position.set(call.offset.saturating_add(call.length));
        Ok(Rc::clone(vnode))
    }

    /// Answers the process manager: asynchronously, or by a send that waits until it receives.
    pub(crate) fn answer_manager(&self, answer: &Message) {
        if self.faithful.is_some() {
            self.kernel.send(Endpoint::PM, answer);
        } else {
            // Only a full table of undelivered messages or a dead manager can refuse it.
            let _ = self.kernel.post(Endpoint::PM, answer);
        }
    }
}
