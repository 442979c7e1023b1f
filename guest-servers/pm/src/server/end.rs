//! The end: of a process, of a server, of the machine.
//!
//! The one thing to hold in mind: a process that ends runs no more from the first moment on, but it is there until VFS has
//! closed its files, because copies into its memory may be under way.

use refault_abi::kcall::privilege;
use refault_abi::message::{REPLY, Status};
use refault_abi::pm::{Kill, Killed, Restarted, SIGKILL, SIGNALS, SIGSTOP};
use refault_abi::rs::{self, Died};
use refault_abi::{Endpoint, Errno, Message, Result, vfs, vm};
use refault_pm::family::Wake;
use refault_rt::server::is_boot_server;
use refault_rt::{diag, ipc, kernel};

use super::{Errand, Pm, talk, waited};

impl Pm {
    /// A process is over, by its own will or by a signal.
    pub(super) fn end(&mut self, endpoint: Endpoint, status: i64) {
        if !self.family.ending(endpoint) {
            return;
        }
        // It is there: it has just asked, or PM has it on its list.
        let _ = kernel::proc_stop(endpoint);
        if endpoint == Endpoint::INIT {
            diag!("pm: init ended with status {status}");
            self.shut_down(status);
            return;
        }
        let errand = Errand::Closed { endpoint, status };
        self.ask_later(Endpoint::VFS, vfs::PM_EXIT, &talk::target(endpoint), errand);
    }

    /// VFS has closed its files: its memory goes, and its parent hears about it.
    pub(super) fn closed(&mut self, endpoint: Endpoint, status: i64, result: Result<u64>) {
        for (server, result) in [("vfs", result), ("vm", self.ask_vm(vm::EXIT, &talk::target(endpoint)))] {
            if let Err(error) = result {
                diag!("pm: {server} does not let {} go: {error}", endpoint.raw());
            }
        }
        for Wake { parent, child, status } in self.family.ended(endpoint, status) {
            // A parent that does not wait any more has lost its answer.
            let _ = ipc::sendnb(parent, &Message::new(REPLY, &waited(child, status)));
        }
    }

    /// KILL. EPERM for a server that the sender must not end, and for INIT; ESRCH for a process that is not there or has ended.
    pub(super) fn kill(&mut self, sender: Endpoint, request: &Kill) -> Result<()> {
        let target = Endpoint::from_raw(request.endpoint);
        if request.signal >= SIGNALS {
            return Err(Errno::EINVAL);
        }
        let status = 128 + i64::from(request.signal);
        if target != Endpoint::INIT && is_boot_server(target) {
            return self.kill_server(sender, target, request.signal);
        }
        if !self.family.is_alive(target) {
            return Err(Errno::ESRCH);
        }
        match request.signal {
            0 => Ok(()),
            _ if target == Endpoint::INIT => Err(Errno::EPERM),
            SIGSTOP => Err(Errno::EINVAL),
            _ => {
                self.end(target, status);
                Ok(())
            }
        }
    }

    /// Crashes a server, which is a test's right, or ends one that does not answer any more, which is RS's.
    fn kill_server(&mut self, sender: Endpoint, target: Endpoint, signal: u32) -> Result<()> {
        let there = target.index().and_then(|slot| i32::try_from(slot).ok()).ok_or(Errno::ESRCH)?;
        if kernel::proc_info(there)?.endpoint != target.raw() {
            return Err(Errno::ESRCH);
        }
        if signal == 0 {
            return Ok(());
        }
        if sender != Endpoint::RS && self.family.class(sender) != Some(privilege::TEST) {
            return Err(Errno::EPERM);
        }
        match signal {
            // PM cannot end itself, and the kernel lets nobody stop VM.
            _ if target == Endpoint::PM || target == Endpoint::VM => Err(Errno::EPERM),
            SIGSTOP if rs::is_watched(target) => kernel::proc_stop(target),
            SIGSTOP => Err(Errno::EINVAL),
            _ => {
                self.server_ended(target, 128 + i64::from(signal));
                Ok(())
            }
        }
    }

    /// INTERRUPT.
    pub(super) fn interrupt(&mut self, signal: i64) {
        let signal = signal.clamp(1, i64::from(SIGKILL));
        let interrupted = self.family.interrupted();
        for endpoint in &interrupted {
            self.end(*endpoint, 128 + signal);
        }
        let status = Status::of(Ok(interrupted.len() as u64));
        self.post(Endpoint::TTY, Message::new(REPLY, &status));
    }

    /// VM or the kernel says that a process cannot go on.
    pub(super) fn killed(&mut self, killed: &Killed) {
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
        } else if is_boot_server(endpoint) {
            diag!("pm: server {} died of {signal} at {:#x}", killed.endpoint, killed.address);
            self.server_ended(endpoint, 128 + i64::from(killed.signal));
        }
    }

    /// A boot server is over: RS makes another where it can, and the machine ends where it cannot.
    pub(super) fn server_ended(&mut self, endpoint: Endpoint, status: i64) {
        let rs_slot = Endpoint::RS.slot();
        if !rs::is_watched(endpoint) || kernel::proc_info(rs_slot).is_err() {
            talk::machine_over(endpoint, status);
            return;
        }
        diag!("pm: server {} ended with status {status}", endpoint.raw());
        if let Err(error) = self.ask_vm(vm::EXIT, &talk::target(endpoint)) {
            diag!("pm: vm does not let server {} go: {error}", endpoint.raw());
        }
        let died = Died { endpoint: endpoint.raw(), reserved: 0, status };
        self.post(Endpoint::RS, Message::new(rs::DIED, &died));
    }

    /// RESTARTED: everybody has been told of the new server; it may run.
    pub(super) fn restarted(&mut self, restarted: &Restarted) -> Result<()> {
        let new = Endpoint::from_raw(restarted.new);
        if !rs::is_watched(new) {
            return Err(Errno::EINVAL);
        }
        self.ask_vm(vm::START, &talk::target(new)).map(drop)
    }

    /// SHUTDOWN: the machine ends after the disks are up to date.
    pub(super) fn shut_down(&mut self, status: i64) {
        if core::mem::replace(&mut self.stopping, true) {
            return;
        }
        let errand = Errand::WrittenBack { status };
        self.ask_later(Endpoint::VFS, vfs::PM_SHUTDOWN, &Status::default(), errand);
    }

    /// VFS has written everything back.
    pub(super) fn written_back(&mut self, status: i64, result: Result<u64>) {
        match result {
            // Without a disk there was nothing to write back.
            Ok(_) | Err(Errno::ENXIO) => {}
            Err(error) => diag!("pm: not everything could be written back: {error}"),
        }
        if let Err(error) = kernel::shutdown(status) {
            diag!("pm: the machine does not stop: {error}");
        }
    }
}
