//! SPAWN and FORK.

use refault_abi::doorbell::event;
use refault_abi::message::{REPLY, Status};
use refault_abi::{Endpoint, Errno, Message, Result, vfs, vm};
use refault_pm::words::Program;
use refault_rt::{ipc, kernel};

use super::{Caller, Errand, PROGRAM_PRIORITY, Pm, copy, number, talk};

impl Pm {
    /// SPAWN, once the strings are here.
    pub(super) fn spawn(&mut self, caller: Caller, block: &[u8]) -> Result<()> {
        // Again: others may have had children since.
        self.family.may_spawn(caller.endpoint)?;
        let program = Program::of(block)?;
        let class = program.class();
        let spawn = vm::Spawn {
            address: copy::address_of(block),
            bytes: block.len() as u64,
            privilege: class,
            priority: PROGRAM_PRIORITY,
        };
        let child = endpoint(self.ask_vm(vm::SPAWN, &spawn)?)?;
        self.family.spawned(child, caller.endpoint, program.process_name(), class);
        self.ask_later(Endpoint::VFS, vfs::PM_NEW, &talk::target(child), Errand::Born { caller, child });
        Ok(())
    }

    /// VFS knows the child: it may run.
    pub(super) fn born(&mut self, caller: Caller, child: Endpoint, result: Result<u64>) {
        let started = result.and_then(|_| {
            if !self.family.is_alive(child) {
                return number(child);
            }
            if core::mem::take(&mut self.first_program) {
                // Nobody may listen.
                let _ = kernel::event(event::PROGRAM_START, 0);
            }
            self.ask_vm(vm::START, &talk::target(child)).and_then(|_| number(child))
        });
        self.settle(caller, child, started);
    }

    /// FORK.
    pub(super) fn fork(&mut self, caller: Caller) -> Result<()> {
        self.family.may_spawn(caller.endpoint)?;
        let class = self.family.class(caller.endpoint).ok_or(Errno::ESRCH)?;
        let parent = caller.endpoint.raw();
        let child = endpoint(self.ask_vm(vm::FORK, &vm::Fork { parent, reserved: 0 })?)?;
        let name = alloc::string::String::from(self.family.name(caller.endpoint));
        self.family.spawned(child, caller.endpoint, &name, class);
        let request = vfs::PmFork { parent, child: child.raw() };
        self.ask_later(Endpoint::VFS, vfs::PM_FORK, &request, Errand::Forked { caller, child });
        Ok(())
    }

    /// VFS knows the child: both go on.
    pub(super) fn forked(&mut self, caller: Caller, child: Endpoint, result: Result<u64>) {
        if result.is_ok() && self.family.is_alive(child) {
            // It waits for exactly this since it was made.
            let answer = Message::new(REPLY, &Status { result: 0 }).with_transaction(caller.transaction);
            let _ = ipc::sendnb(child, &answer);
        }
        self.settle(caller, child, result.and_then(|_| number(child)));
    }

    /// Tells the parent; a child that cannot live is taken back.
    fn settle(&mut self, caller: Caller, child: Endpoint, result: Result<u64>) {
        if result.is_err() && self.family.ending(child) {
            copy::discard(self, child);
            self.family.forget(child);
        }
        self.answer(caller, &Status::of(result));
    }
}

/// An endpoint out of VM's answer.
fn endpoint(raw: u64) -> Result<Endpoint> {
    i32::try_from(raw).map(Endpoint::from_raw).map_err(|_| Errno::EINVAL)
}
