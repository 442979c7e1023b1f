//! The process manager: SPAWN, EXIT, WAIT, the end of processes and of the machine.
//!
//! Asks VM and VFS by SENDREC, which is safe because neither ever waits for PM. A parent in WAIT is answered
//! when a child ends.
#![no_std]
#![no_main]

extern crate alloc;

use refault_abi::doorbell::event;
use refault_abi::kcall::{Target, privilege};
use refault_abi::message::{Payload, REPLY, Status};
use refault_abi::pm::{self, Killed, Spawn, Waited};
use refault_abi::{Endpoint, Errno, Message, Result, vfs, vm};
use refault_pm::family::{Family, Wait, Wake};
use refault_rt::ipc::{self, Received};
use refault_rt::server::{self, Answer};
use refault_rt::{diag, kernel};

refault_rt::entry!(main);

/// Priority of programs: behind every server.
const PROGRAM_PRIORITY: u32 = 8;
/// Longest SPAWN block, in bytes.
const SPAWN_MAX: usize = 4096;
/// Programs whose name begins so are system processes of the tests: they may make grants.
const TEST_PREFIX: &str = "sys_";
/// Status of the machine when a server died: EX_SOFTWARE of sysexits.h.
const SERVER_DIED: i64 = 70;

struct Pm {
    family: Family,
    first_program: bool,
}

fn main(_args: refault_rt::start::Args) -> i32 {
    let mut pm = Pm { family: Family::new(), first_program: true };
    if let Err(error) = ask(Endpoint::VFS, vfs::PM_NEW, &target(Endpoint::INIT)) {
        diag!("pm: vfs does not take init: {error}");
    }
    server::serve(|request| pm.dispatch(request))
}

/// A request that names a process.
fn target(endpoint: Endpoint) -> Target {
    Target { endpoint: endpoint.raw(), reserved: 0 }
}

/// A request to another server with a plain status as its answer.
fn ask<T: Payload>(server: Endpoint, request: u16, payload: &T) -> Result<u64> {
    let answer = ipc::sendrec(server, &Message::new(request, payload))?;
    if answer.kind() != REPLY {
        // KILLED or EXIT in its name: the wait for the answer takes whatever comes from there.
        return Err(server_died(server));
    }
    answer.get::<Status>().check()
}

/// A server is gone. VFS may be the one, or wait for the one: nothing is written back.
fn server_died(server: Endpoint) -> Errno {
    diag!("pm: server {} ended", server.raw());
    // Does not return unless it is denied, which it is not.
    let _ = kernel::shutdown(SERVER_DIED);
    Errno::EIO
}

impl Pm {
    fn dispatch(&mut self, request: &Received) -> Answer {
        let message = &request.message;
        let sender = message.sender();
        if request.delivery.is_notify() {
            return Answer::Later;
        }
        match message.kind() {
            pm::EXIT if self.family.is_alive(sender) => {
                self.end(sender, message.get::<Status>().result);
                Answer::Later
            }
            pm::SPAWN => Answer::status(self.spawn(sender, &message.get())),
            pm::WAIT => match self.family.wait(sender) {
                Ok(Wait::Ended(child, status)) => Answer::payload(&waited(child, status)),
                Ok(Wait::Later) => Answer::Later,
                Err(error) => Answer::payload(&Waited { result: i64::from(error.code()), status: 0 }),
            },
            pm::GETPID => Answer::status(u64::try_from(sender.raw()).map_err(|_| Errno::ESRCH)),
            pm::SHUTDOWN if sender == Endpoint::INIT => {
                Answer::unit(shutdown(message.get::<Status>().result))
            }
            pm::KILLED if sender == Endpoint::VM || request.delivery.from_kernel() => {
                self.killed(&message.get());
                Answer::Later
            }
            pm::EXIT if server_slot(sender) => Answer::unit(Err(server_died(sender))),
            pm::EXIT | pm::SHUTDOWN | pm::KILLED => Answer::unit(Err(Errno::EPERM)),
            _ => Answer::unit(Err(Errno::EBADREQUEST)),
        }
    }

    /// SPAWN.
    fn spawn(&mut self, parent: Endpoint, request: &Spawn) -> Result<u64> {
        self.family.may_spawn(parent)?;
        let mut block = [0u8; SPAWN_MAX];
        let bytes = usize::try_from(request.bytes).map_err(|_| Errno::E2BIG)?;
        let block = block.get_mut(..bytes).filter(|block| !block.is_empty()).ok_or(Errno::E2BIG)?;
        kernel::copy_in(parent, request.address, block, false).whole()?;
        let name = block.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let class = if name.starts_with(TEST_PREFIX) { privilege::TEST } else { privilege::USER };
        let spawn = vm::Spawn {
            address: block.as_ptr().expose_provenance() as u64,
            bytes: request.bytes,
            privilege: class,
            priority: PROGRAM_PRIORITY,
        };
        let child = ask(Endpoint::VM, vm::SPAWN, &spawn)?;
        let child = Endpoint::from_raw(i32::try_from(child).map_err(|_| Errno::EINVAL)?);
        let started = ask(Endpoint::VFS, vfs::PM_NEW, &target(child)).and_then(|_| {
            if core::mem::take(&mut self.first_program) {
                // Nobody may listen.
                let _ = kernel::event(event::PROGRAM_START, 0);
            }
            ask(Endpoint::VM, vm::START, &target(child))
        });
        if let Err(error) = started {
            remove(child);
            return Err(error);
        }
        self.family.spawned(child, parent, name);
        Ok(u64::try_from(child.raw()).unwrap_or(0))
    }

    /// A process is over: everybody forgets it, and its parent hears about it.
    fn end(&mut self, endpoint: Endpoint, status: i64) {
        if endpoint == Endpoint::INIT {
            diag!("pm: init ended with status {status}");
            if let Err(error) = shutdown(status) {
                diag!("pm: the machine does not stop: {error}");
            }
            return;
        }
        remove(endpoint);
        for Wake { parent, child, status } in self.family.ended(endpoint, status) {
            // A parent that does not wait any more has lost its answer.
            let _ = ipc::sendnb(parent, &Message::new(REPLY, &waited(child, status)));
        }
    }

    /// VM or the kernel says that a process cannot go on.
    fn killed(&mut self, killed: &Killed) {
        let endpoint = Endpoint::from_raw(killed.endpoint);
        let signal = match killed.signal {
            4 => "SIGILL",
            7 => "SIGBUS",
            8 => "SIGFPE",
            11 => "SIGSEGV",
            _ => "a signal",
        };
        if self.family.is_alive(endpoint) {
            let name = self.family.name(endpoint);
            diag!("pm: {name} ({}) killed by {signal} at {:#x}", killed.endpoint, killed.address);
            self.end(endpoint, 128 + i64::from(killed.signal));
        } else if server_slot(endpoint) {
            diag!("pm: server {} died of {signal} at {:#x}", killed.endpoint, killed.address);
            // VFS may be the one that died: nothing is written back.
            let _ = kernel::shutdown(SERVER_DIED);
        }
    }
}

/// Whether it is one of the boot servers.
fn server_slot(endpoint: Endpoint) -> bool {
    endpoint.generation() == 0 && endpoint.index().is_some_and(|slot| slot < Endpoint::FIRST_DYNAMIC_SLOT)
}

/// The answer to WAIT.
fn waited(child: Endpoint, status: i64) -> Waited {
    Waited { result: i64::from(child.raw()), status }
}

/// VFS closes its files, then VM frees its memory and its slot.
fn remove(endpoint: Endpoint) {
    for (server, request) in [(Endpoint::VFS, vfs::PM_EXIT), (Endpoint::VM, vm::EXIT)] {
        if let Err(error) = ask(server, request, &target(endpoint)) {
            diag!("pm: server {} does not let {} go: {error}", server.raw(), endpoint.raw());
        }
    }
}

/// Ends the machine after the disks are up to date.
fn shutdown(status: i64) -> Result<()> {
    match ask(Endpoint::VFS, vfs::PM_SHUTDOWN, &Status::default()) {
        // Without a disk there was nothing to write back.
        Ok(_) | Err(Errno::ENXIO) => {}
        Err(error) => diag!("pm: not everything could be written back: {error}"),
    }
    kernel::shutdown(status)
}
