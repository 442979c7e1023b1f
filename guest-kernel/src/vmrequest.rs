//! Kernel calls that wait for VM: a copy met an absent page and was not allowed to fail (specification 3.4).
//!
//! The one thing to hold in mind: a suspended call keeps nothing but its request message, which is still in
//! the process's frame; when VM answers, the call starts again from its beginning. Whether that ever comes to an end
//! must not depend on VM, nor on who takes the page away again, so it is bounded ([`Patience`]), except in the seed's
//! system. What is not here: the copy that met the page, and the restart (`system`).

use refault_abi::kcall::rts;
use refault_abi::{Endpoint, Errno, Result};

use crate::process::{FROM_HARDWARE, NIL, Process, SIGNAL_KMEM};
use crate::table::{Table, index_of};

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// No request.
    Idle,
    /// In the queue.
    Queued,
    /// VM has fetched it and not answered yet.
    Fetched,
}

/// What VM has to make present. Only meaningful while its process is blocked on VMREQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmRequest {
    /// First address that is missing.
    pub address: u64,
    /// Bytes from there on that the copy still needs.
    pub bytes: u64,
    /// Whose memory it is.
    pub target: Endpoint,
    /// The page was taken away at the second stage.
    pub second_stage: bool,
    /// Write access is needed.
    pub write: bool,
    /// How far it has come.
    pub stage: Stage,
    /// Next in the queue.
    pub next: u8,
    /// Copies of the same call behind this one.
    pub later: u8,
}

impl VmRequest {
    /// No request.
    pub const NONE: VmRequest = VmRequest {
        address: 0,
        bytes: 0,
        target: Endpoint::NONE,
        second_stage: false,
        write: false,
        stage: Stage::Idle,
        next: NIL,
        later: 0,
    };
}

/// Suspensions of one kernel call without any progress between them, after which it ends with EFAULT. A page that VM
/// has just made present is missing again only if somebody takes it away again.
pub const SUSPENSIONS: u16 = 8;

/// What is left of the patience with one kernel call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The least that the call still needed when it was suspended: copies behind the present one, and its bytes.
    least: (u8, u64),
    /// Suspensions since it was less than before.
    suspensions: u16,
}

impl Patience {
    /// For a call that has not been suspended yet.
    pub const FRESH: Patience = Patience { least: (u8::MAX, u64::MAX), suspensions: 0 };

    /// Suspensions since the call last came further.
    pub const fn suspensions(&self) -> u16 {
        self.suspensions
    }

    /// Takes note of a suspension; whether it may be.
    fn spend(&mut self, request: &VmRequest, bound: Option<u16>) -> bool {
        let needed = (request.later, request.bytes);
        if needed < self.least {
            *self = Patience { least: needed, suspensions: 0 };
        }
        self.suspensions = self.suspensions.saturating_add(1);
        bound.is_none_or(|bound| self.suspensions <= bound)
    }
}

impl Table {
    /// Blocks the process in `slot` on `request` and tells VM. The caller has made sure that VM can serve it:
    /// the process is not VM itself.
    ///
    /// # Errors
    /// EFAULT when the call has been suspended [`Table::suspensions`] times and has come no further.
    pub fn suspend(&mut self, slot: usize, request: VmRequest) -> Result<()> {
        let bound = self.suspensions;
        let process = &mut self.procs[slot];
        if !process.patience.spend(&request, bound) {
            return Err(Errno::EFAULT);
        }
        process.vm = VmRequest { stage: Stage::Queued, next: NIL, ..request };
        process.flags |= rts::VMREQUEST;
        match index_of(self.vm_tail) {
            Some(tail) => self.procs[tail].vm.next = slot as u8,
            None => self.vm_head = slot as u8,
        }
        self.vm_tail = slot as u8;
        if let Some(vm) = self.lookup(Endpoint::VM) {
            self.procs[vm].signals |= SIGNAL_KMEM;
            self.notify_from_kernel(vm, FROM_HARDWARE);
        }
        Ok(())
    }

    /// MEMREQ_GET: the next request and the process that waits for it. ENOENT when there is none.
    pub fn vm_request(&mut self) -> Result<(usize, VmRequest)> {
        let slot = index_of(self.vm_head).ok_or(Errno::ENOENT)?;
        let process = &mut self.procs[slot];
        process.vm.stage = Stage::Fetched;
        let request = process.vm;
        self.vm_head = request.next;
        if self.vm_head == NIL {
            self.vm_tail = NIL;
        }
        Ok((slot, request))
    }

    /// MEMREQ_REPLY: takes the process out of VMREQUEST. ESRCH or EINVAL when there is no such request
    /// (any more). The caller restarts its kernel call or ends it, and says when it is over ([`Table::call_over`]).
    pub fn vm_answer(&mut self, requestor: Endpoint) -> Result<usize> {
        let slot = self.lookup(requestor).ok_or(Errno::ESRCH)?;
        let process = &mut self.procs[slot];
        if process.vm.stage != Stage::Fetched {
            return Err(Errno::EINVAL);
        }
        process.vm = VmRequest::NONE;
        process.flags &= !rts::VMREQUEST;
        Ok(slot)
    }

    /// A process that waits for memory of `target`, which is dead: its request is taken back, whether VM has fetched it or not.
    /// The caller starts its kernel call again, which finds out for itself.
    pub fn vm_orphan(&mut self, target: Endpoint) -> Option<usize> {
        let waits = |process: &Process| process.flags & rts::VMREQUEST != 0 && process.vm.target == target;
        let slot = self.procs.iter().position(waits)?;
        self.vm_forget(slot);
        self.procs[slot].flags &= !rts::VMREQUEST;
        Some(slot)
    }

    /// The kernel call of the process in `slot`, which had been suspended, is over, unless it is suspended again: the
    /// next one starts with all patience.
    pub fn call_over(&mut self, slot: usize) {
        if self.procs[slot].flags & rts::VMREQUEST == 0 {
            self.procs[slot].patience = Patience::FRESH;
        }
    }

    /// Forgets the request of a process that ends.
    pub(crate) fn vm_forget(&mut self, slot: usize) {
        if self.procs[slot].vm.stage == Stage::Queued {
            let (mut at, mut before) = (self.vm_head, NIL);
            while let Some(index) = index_of(at) {
                let next = self.procs[index].vm.next;
                if index == slot {
                    match index_of(before) {
                        Some(before) => self.procs[before].vm.next = next,
                        None => self.vm_head = next,
                    }
                    if self.vm_tail == at {
                        self.vm_tail = before;
                    }
                    break;
                }
                (before, at) = (at, next);
            }
        }
        self.procs[slot].vm = VmRequest::NONE;
    }
}

#[cfg(test)]
mod tests;
