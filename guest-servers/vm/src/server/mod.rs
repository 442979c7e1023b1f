//! The server around the logic: one message at a time, never waiting for anybody.

mod boot;
mod exec;
mod mapping;
mod pages;
mod poison;
mod servers;
mod spawn;
mod waits;
mod window;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::endpoint::NR_PROCS;
use refault_abi::ipc::{Call, senda};
use refault_abi::kcall::{Target, privilege};
use refault_abi::message::{REPLY, Status};
use refault_abi::options::{Mode, Options};
use refault_abi::{Endpoint, Errno, Message, Result, info::Info, vfs, vm};
use refault_rt::ipc::{self, Received};
use refault_rt::{asyncsend, info, server};
use refault_vm::jobs::{Asked, Asker};
use refault_vm::memory::Memory;
use refault_vm::pending::Pending;
use refault_vm::process::Process;
use waits::Waits;
use window::{Doorbell, Window};

/// A process and what it takes to start it.
struct Slot {
    process: Process,
    start: Option<spawn::Start>,
}

/// The server's state.
struct Server {
    memory: Memory<'static, Window>,
    slots: Vec<Option<Slot>>,
    pending: Pending,
    /// What VM's requests wait for.
    waits: Waits,
    /// The last one that died in each slot.
    predecessors: [Option<Endpoint>; NR_PROCS],
    options: Options,
    /// What [`Counter::VmFramesFree`] says.
    free: u64,
    /// Messages for which the table of asynchronous sends had no room.
    backlog: VecDeque<(Endpoint, Message, u32)>,
    doorbell: Doorbell,
    image: &'static [u8],
    info: &'static Info,
}

/// Sets up, starts the servers of the image, and serves.
pub fn run() -> core::result::Result<core::convert::Infallible, &'static str> {
    let mut server = boot::start()?;
    let mut request = server::next();
    loop {
        let answer = server.dispatch(&request);
        server.flush_backlog();
        server.show_free();
        request = match answer {
            // The requester is waiting for exactly this: nobody is waited for.
            Some(answer) if request.delivery.call() == Call::SendRec as u64 => {
                let answer = answer.with_transaction(request.message.transaction());
                match ipc::reply_receive(request.message.sender(), &answer, Endpoint::ANY) {
                    Ok(received) => received,
                    Err(_) => server::next(),
                }
            }
            Some(answer) => {
                let answer = answer.with_transaction(request.message.transaction());
                let to = request.message.sender();
                if server.servers_only(to).is_ok() {
                    server.post(to, answer, senda::NOREPLY);
                } else {
                    // Nothing is kept for a process that may never receive it.
                    let _ = ipc::sendnb(to, &answer);
                }
                server::next()
            }
            None => server::next(),
        };
    }
}

impl Server {
    /// Sends without waiting, now or later.
    fn post(&mut self, to: Endpoint, message: Message, flags: u32) {
        self.backlog.push_back((to, message, flags));
        self.flush_backlog();
    }

    /// Hands as much of the backlog over as fits.
    fn flush_backlog(&mut self) {
        while let Some((to, message, flags)) = self.backlog.pop_front() {
            if asyncsend::send(to, &message, flags) == Err(Errno::EAGAIN) {
                self.backlog.push_front((to, message, flags));
                // Room is made by dropping what can never be delivered: its receiver is gone.
                if asyncsend::take_failed().is_none() {
                    break;
                }
            }
        }
    }

    /// Answers a SENDREC whose request was put aside. Whoever is not waiting any more does not get it.
    fn answer_late(&mut self, to: Endpoint, result: Result<u64>) {
        let _ = ipc::sendnb(to, &Message::new(REPLY, &Status::of(result)));
    }

    /// Answers a request that was put aside, in the way its asker waits for it.
    fn answer_asker(&mut self, asker: Asker, result: Result<u64>) {
        let answer = status(result).with_transaction(asker.transaction);
        if asker.waits {
            // Whoever is not waiting any more does not get it.
            let _ = ipc::sendnb(asker.endpoint, &answer);
        } else {
            self.post(asker.endpoint, answer, senda::NOREPLY);
        }
    }

    /// Asks VFS, now or when it has answered what it was asked before.
    fn ask_vfs(&mut self, asked: Asked, call: vfs::VmCall, waiter: Endpoint) {
        let current = self.pending.current();
        let (request, now) = self.pending.add(asked, call);
        match now {
            Some(call) => {
                self.waits.page_in(request, waiter);
                self.call_vfs(&call);
            }
            None => self.waits.held(request, waiter, current),
        }
    }

    /// Makes a request of VFS.
    fn call_vfs(&mut self, call: &vfs::VmCall) {
        // It must not pass for the answer that VFS waits for after HANDLEMEM_NOW.
        self.post(Endpoint::VFS, Message::new(vfs::VMCALL, call), senda::NOREPLY);
    }

    /// Whether this is the seed's system.
    fn faithful(&self) -> bool {
        self.options.mode == Mode::Faithful
    }

    /// Keeps the gauge of free frames true.
    fn show_free(&mut self) {
        let free = self.memory.frames.free();
        if free != self.free {
            // One writer: adding the difference sets it.
            info::count(Counter::VmFramesFree, free.wrapping_sub(self.free));
            self.free = free;
        }
    }

    /// The process with this endpoint.
    fn slot(&self, endpoint: Endpoint) -> Result<&Slot> {
        let slot = endpoint.index().and_then(|index| self.slots.get(index)).and_then(Option::as_ref);
        slot.filter(|slot| slot.process.endpoint == endpoint).ok_or(Errno::ESRCH)
    }

    /// Takes a process out of the table for as long as its memory is worked on.
    fn take(&mut self, endpoint: Endpoint) -> Result<Slot> {
        self.slot(endpoint)?;
        endpoint
            .index()
            .and_then(|index| self.slots.get_mut(index))
            .and_then(Option::take)
            .ok_or(Errno::ESRCH)
    }

    /// Puts it into the table, back or for the first time.
    fn put(&mut self, slot: Slot) {
        let index = slot.process.endpoint.index();
        if let Some(place) = index.and_then(|index| self.slots.get_mut(index)) {
            *place = Some(slot);
        }
    }

    /// Checks that the sender is one of the servers.
    fn servers_only(&self, sender: Endpoint) -> Result<()> {
        match self.slot(sender)?.process.privilege {
            privilege::SERVER | privilege::DRIVER => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    /// Serves one message; `None` when there is no answer (yet).
    fn dispatch(&mut self, request: &Received) -> Option<Message> {
        let message = &request.message;
        let sender = message.sender();
        if request.delivery.is_notify() {
            if sender == Endpoint::HARDWARE {
                let [_, signals, ..] = message.payload;
                if signals & vm::SIGNAL_POISON != 0 {
                    self.poisoned_pages();
                }
                self.kernel_requests();
            }
            return None;
        }
        let kind = message.kind();
        if kind == vm::PAGEFAULT {
            if request.delivery.from_kernel() {
                self.page_fault(sender, &message.get());
                return None;
            }
            return Some(status(Err(Errno::EPERM)));
        }
        let one_of =
            |allowed: &[Endpoint]| if allowed.contains(&sender) { Ok(()) } else { Err(Errno::EPERM) };
        let only = |allowed: Endpoint| one_of(&[allowed]);
        let asker = Asker {
            endpoint: sender,
            transaction: message.transaction(),
            waits: request.delivery.call() == Call::SendRec as u64,
        };
        let result = match kind {
            vm::MMAP => match self.mmap(sender, &message.get()) {
                Err(Errno::EDONTREPLY) => return None,
                result => result,
            },
            vm::MUNMAP => self.munmap(sender, &message.get()),
            vm::MAP_PHYS => self.map_phys(sender, &message.get()),
            vm::USAGE => return Some(Message::new(REPLY, &self.usage())),
            vm::SPAWN => only(Endpoint::PM).and_then(|()| self.spawn(&message.get())),
            vm::START => one_of(&[Endpoint::PM, Endpoint::RS]).and_then(|()| self.start(&message.get())),
            vm::FORK => only(Endpoint::PM).and_then(|()| self.fork(&message.get())),
            vm::SPAWN_SERVER => only(Endpoint::RS).and_then(|()| self.spawn_server(&message.get())),
            vm::RETIRE => self.retire(sender, &message.get()),
            vm::EXEC => match only(Endpoint::PM) {
                Ok(()) => {
                    self.exec(asker, &message.get());
                    return None;
                }
                Err(error) => Err(error),
            },
            vm::EXIT => only(Endpoint::PM).and_then(|()| self.exit(&message.get())),
            vm::SETCACHEPAGE => self.set_cache_page(sender, &message.get()),
            vm::MAPCACHEPAGE => self.map_cache_page(sender, &message.get()),
            vm::FORGETCACHEPAGE => self.forget_cache_page(sender, &message.get()),
            vm::CLEARCACHE => self.clear_cache(sender, &message.get()),
            vm::PROCCTL => match one_of(&[Endpoint::VFS, Endpoint::PM]) {
                Ok(()) => {
                    self.handle_mem(asker, &message.get());
                    return None;
                }
                Err(error) => Err(error),
            },
            vm::HANDLEMEM_NOW => only(Endpoint::VFS).and_then(|()| self.handle_mem_now(&message.get())),
            vm::VFS_REPLY => match only(Endpoint::VFS) {
                Ok(()) => {
                    self.vfs_reply(&message.get());
                    return None;
                }
                Err(error) => Err(error),
            },
            _ => Err(Errno::EBADREQUEST),
        };
        Some(status(result))
    }

    /// Memory figures.
    fn usage(&self) -> vm::Usage {
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let processes = || self.slots.iter().flatten().map(|slot| &slot.process);
        // Without memory for the audit nothing is known to be right.
        let audit = self.memory.audit(processes());
        vm::Usage {
            total: self.memory.frames.total(),
            free: self.memory.frames.free(),
            cached: self.memory.cache.len() as u64,
            unclaimed: audit.map_or(u32::MAX, |audit| count(audit.unclaimed)),
            miscounted: audit.map_or(u32::MAX, |audit| count(audit.miscounted)),
            processes: count(processes().count() as u64),
            files: count(self.memory.files.len() as u64),
            requests: count(self.pending.len() as u64),
            quarantined: count(self.memory.quarantine.len() as u64),
            poisoned: count(self.memory.poisoned.len() as u64),
            reserved: 0,
        }
    }

    /// START.
    fn start(&mut self, target: &Target) -> Result<u64> {
        let mut slot = self.take(Endpoint::from_raw(target.endpoint))?;
        let result = match slot.start.take() {
            Some(start) => start.go(&slot.process),
            None => Err(Errno::EINVAL),
        };
        self.put(slot);
        result.map(|()| 0)
    }
}

/// A plain reply.
fn status(result: Result<u64>) -> Message {
    Message::new(REPLY, &Status::of(result))
}

/// An empty process table.
fn no_slots() -> Vec<Option<Slot>> {
    (0..NR_PROCS).map(|_| None).collect()
}
