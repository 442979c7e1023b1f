//! Requests to file systems, VM and drivers, and the way their answers find the task that waits.
//!
//! The one thing to hold in mind: a request is *posted*, never sent with waiting, and its answer comes back as an
//! ordinary message under the same transaction id. A mount serves one request at a time; the others wait for their
//! turn in the order in which they came, so a page-in is never behind more than what was asked before it. A late answer,
//! or one from somebody who was not asked, finds nobody and is dropped.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::message::Status;
use refault_abi::{Endpoint, Errno, Message, Result, fs, vm};

use crate::cell::{Held, Mode, OneShot, TaskLock};
use crate::kernel::Kernel;
use crate::mount::{Entered, Health, Mount, Turn};
use crate::server::Vfs;
use crate::vnode::Vnode;

/// What a request that was never delivered is answered: it can be made again, to the successor of whoever it was for.
/// It never leaves VFS.
pub const NOT_SENT: Errno = Errno::ERESTART;

/// Where an answer is put.
type Answer = Rc<OneShot<Result<Message>>>;

/// A request under way.
struct Outstanding {
    asked: Endpoint,
    client: Endpoint,
    answer: Answer,
}

/// The requests under way, by transaction id.
#[derive(Default)]
pub struct Transactions {
    under_way: BTreeMap<u16, Outstanding>,
    last: u16,
}

impl Transactions {
    /// Enters a request; `None` when every id is taken.
    fn enter(&mut self, outstanding: Outstanding) -> Option<u16> {
        // Ids go round, so that a late answer does not meet a new request soon.
        let id = (0..u16::MAX)
            .map(|step| self.last.wrapping_add(step).wrapping_add(1))
            .find(|id| *id != 0 && !self.under_way.contains_key(id))?;
        self.last = id;
        self.under_way.insert(id, outstanding);
        Some(id)
    }

    /// Takes out every request that `which` names: whom it asked, and for whom.
    fn take(&mut self, which: impl Fn(Endpoint, Endpoint) -> bool) -> Vec<Outstanding> {
        let chosen = self.under_way.iter().filter(|(_, request)| which(request.asked, request.client));
        let ids: Vec<u16> = chosen.map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| self.under_way.remove(id)).collect()
    }
}

impl<K: Kernel> Vfs<K> {
    /// Waits for a turn at the file system of a vnode. EIO if that has forgotten the vnode.
    pub(crate) async fn turn(&self, vnode: &Rc<Vnode>) -> Result<Turn> {
        let turn = self.turn_at(&vnode.mount).await?;
        if vnode.gone.get() { Err(Errno::EIO) } else { Ok(turn) }
    }

    /// Waits for a turn at a mount.
    pub(crate) async fn turn_at(&self, mount: &Rc<Mount>) -> Result<Turn> {
        let client = self.client();
        let turning = match mount.enter(client)? {
            Entered::Now(turn) => return Ok(turn),
            Entered::Later(turning) => turning,
        };
        let _note = if mount.health() == Health::Up {
            self.kernel.waits(client, Endpoint::VFS, mount.holder(), "turn at a file system")
        } else {
            self.kernel.waits(client, Endpoint::RS, Endpoint::NONE, "restart of a server")
        };
        turning.wait().await?;
        Ok(Turn::after(mount))
    }

    /// Uses a turn for one request. [`NOT_SENT`] if it did not reach anybody, EIO if who got it died; the answer may itself be
    /// an error.
    pub(crate) async fn exchange(&self, turn: Turn, message: Message) -> Result<Message> {
        self.kernel.count(Counter::VfsRequests);
        let answer = self.ask(turn.endpoint(), message).await?;
        match answer.get::<Status>().check() {
            // That code is VFS's own.
            Err(Errno::ERESTART) => Err(Errno::EIO),
            _ => Ok(answer),
        }
    }

    /// Asks the file system of a vnode something that needs no grant.
    pub(crate) async fn call(&self, vnode: &Rc<Vnode>, message: Message) -> Result<Message> {
        self.call_with(vnode, |_| Ok((message, ()))).await
    }

    /// Asks the file system of a vnode. `build` makes the message, and the grants in it, for the one who will get it.
    pub(crate) async fn call_with<G>(
        &self,
        vnode: &Rc<Vnode>,
        build: impl Fn(Endpoint) -> Result<(Message, G)>,
    ) -> Result<Message> {
        loop {
            let turn = self.turn(vnode).await?;
            let (message, _grants) = build(turn.endpoint())?;
            match self.exchange(turn, message).await {
                Err(NOT_SENT) => {}
                other => return other,
            }
        }
    }

    /// Asks a mount, as such, something that needs no grant.
    pub(crate) async fn call_mount(&self, mount: &Rc<Mount>, message: Message) -> Result<Message> {
        loop {
            let turn = self.turn_at(mount).await?;
            match self.exchange(turn, message).await {
                Err(NOT_SENT) => {}
                other => return other,
            }
        }
    }

    /// Asks somebody who takes any number of requests at a time, and waits for the answer.
    pub(crate) async fn ask(&self, whom: Endpoint, message: Message) -> Result<Message> {
        let (answer, client) = (Answer::default(), self.client());
        let outstanding = Outstanding { asked: whom, client, answer: Rc::clone(&answer) };
        let id = self.transactions.borrow_mut().enter(outstanding).ok_or(Errno::EIO)?;
        if self.kernel.post(whom, &message.with_transaction(id)).is_err() {
            self.transactions.borrow_mut().under_way.remove(&id);
            return Err(Errno::EIO);
        }
        let _note = self.kernel.waits(client, whom, Endpoint::NONE, request_name(message.kind()));
        answer.wait().await
    }

    /// Has VM make a range of a process's memory present (and writable).
    pub(crate) async fn handle_memory(
        &self,
        whose: Endpoint,
        address: u64,
        length: u64,
        write: bool,
    ) -> Result<()> {
        self.kernel.count(Counter::VfsHandleMem);
        let request = vm::HandleMem { endpoint: whose.raw(), write: u32::from(write), address, length };
        // The seed asks asynchronously in every case. Mostly VM has the page, and a round trip is all it takes; only when VM
        // needs a file system for it may VFS not wait, because it has to serve VM then.
        if self.faithful.is_none() {
            let answer = self.kernel.ask_vm(&Message::new(vm::HANDLEMEM_NOW, &request))?;
            match answer.get::<Status>().check() {
                Err(Errno::EAGAIN) => {}
                done => return done.map(|_| ()),
            }
        }
        let answer = self.ask(Endpoint::VM, Message::new(vm::PROCCTL, &request)).await?;
        answer.get::<Status>().check().map(|_| ())
    }

    /// Takes a lock, and says for whom it waits if it has to.
    pub(crate) async fn lock<'a>(&self, lock: &'a TaskLock, mode: Mode, what: &'static str) -> Held<'a> {
        let client = self.client();
        if let Some(held) = lock.try_take(mode, client) {
            return held;
        }
        let _note = self.kernel.waits(client, Endpoint::VFS, lock.holder(), what);
        lock.take(mode, client).await
    }

    /// Takes an answer; whether it was one.
    pub(crate) fn answered(&self, message: &Message) -> bool {
        let outstanding = {
            let mut transactions = self.transactions.borrow_mut();
            let id = message.transaction();
            match transactions.under_way.get(&id) {
                Some(outstanding) if outstanding.asked == message.sender() => {}
                _ => return false,
            }
            transactions.under_way.remove(&id)
        };
        let Some(Outstanding { answer, .. }) = outstanding else { return false };
        answer.set(Ok(*message));
        true
    }

    /// Takes note that a posted request did not reach `to`; whether somebody waits for its answer.
    pub(crate) fn undelivered(&self, to: Endpoint, message: &Message) -> bool {
        let id = message.transaction();
        let outstanding = {
            let mut transactions = self.transactions.borrow_mut();
            match transactions.under_way.get(&id) {
                Some(outstanding) if outstanding.asked == to => {}
                _ => return false,
            }
            transactions.under_way.remove(&id)
        };
        let Some(Outstanding { answer, .. }) = outstanding else { return false };
        let again = self.mounts.served_by(to).is_some();
        answer.set(Err(if again { NOT_SENT } else { Errno::EIO }));
        true
    }

    /// Somebody died: whoever waits for an answer of his gets EIO.
    pub(crate) fn lost(&self, endpoint: Endpoint) {
        let lost = self.transactions.borrow_mut().take(|asked, _| asked == endpoint);
        for outstanding in lost {
            outstanding.answer.set(Err(Errno::EIO));
        }
    }

    /// Requests to VM and to the terminal in the name of a process that died wait no longer: whether they would be answered is
    /// not certain any more. Those to file systems always are. Whether one was the terminal's.
    pub(crate) fn abandoned(&self, client: Endpoint) -> bool {
        let asked_for = |asked, whom| whom == client && (asked == Endpoint::VM || asked == Endpoint::TTY);
        let abandoned = self.transactions.borrow_mut().take(asked_for);
        let terminal = abandoned.iter().any(|outstanding| outstanding.asked == Endpoint::TTY);
        for outstanding in abandoned {
            outstanding.answer.set(Err(Errno::ESRCH));
        }
        terminal
    }
}

/// What a request is called in the wait-for graph.
fn request_name(kind: u16) -> &'static str {
    match kind {
        vm::PROCCTL => "HANDLEMEM",
        fs::READ => "READ",
        fs::WRITE => "WRITE",
        fs::BREAD => "BREAD",
        fs::BWRITE => "BWRITE",
        fs::PEEK => "PEEK",
        fs::BPEEK => "BPEEK",
        fs::GETDENTS => "GETDENTS",
        fs::RDLINK => "RDLINK",
        fs::SLINK => "SLINK",
        fs::STAT => "STAT",
        fs::LOOKUP => "LOOKUP",
        fs::SYNC | fs::FLUSH | fs::UNMOUNT => "SYNC",
        refault_abi::cdev::READ => "device READ",
        refault_abi::cdev::WRITE => "device WRITE",
        _ => "request",
    }
}
