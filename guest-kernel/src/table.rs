//! The process table: slots, endpoints, birth and death.
//!
//! The one thing to hold in mind: everything here is guarded by the big kernel lock and nothing here can
//! fail halfway, so a process is never seen in between two states. What is not here: registers being loaded
//! and page tables being switched (`arch`).

use refault_abi::endpoint::NR_PROCS;
use refault_abi::kcall::{ProcCreate, WaitTable, privilege, rts};
use refault_abi::{Endpoint, Errno, Result};

use crate::frame::Frame;
use crate::process::{GrantTable, LEVELS, NIL, Process, Rights};
use crate::ready::{MARKS_WAIT, Ready};
use crate::vmrequest::{Patience, SUSPENSIONS};

/// Process table and everything that links its slots.
#[derive(Clone, Debug)]
pub struct Table {
    /// The slots.
    pub procs: [Process; NR_PROCS],
    /// Who can run.
    pub ready: Ready,
    /// First suspended kernel call.
    pub vm_head: u8,
    /// Last suspended kernel call.
    pub vm_tail: u8,
    /// Suspensions of one kernel call that are suffered without progress; `None` for any number.
    pub suspensions: Option<u16>,
    /// The earliest alarm of all; `u64::MAX` for none.
    pub next_alarm: u64,
}

/// A link as an index, if it is one.
pub(crate) const fn index_of(link: u8) -> Option<usize> {
    if (link as usize) < NR_PROCS { Some(link as usize) } else { None }
}

impl Table {
    /// All slots free.
    pub const EMPTY: Table = {
        let mut procs = [const { Process::FREE }; NR_PROCS];
        let mut slot = 0;
        while slot < NR_PROCS {
            procs[slot].next_endpoint = Endpoint::new(0, slot as i32);
            slot += 1;
        }
        Table {
            procs,
            ready: Ready::EMPTY,
            vm_head: NIL,
            vm_tail: NIL,
            suspensions: Some(SUSPENSIONS),
            next_alarm: u64::MAX,
        }
    };

    /// The slot of a live process: the whole endpoint has to match, generation included.
    pub fn lookup(&self, endpoint: Endpoint) -> Option<usize> {
        let slot = (endpoint.raw() & 0x7fff) as usize;
        match self.procs.get(slot) {
            // A free slot's endpoint is NONE, which names no slot, so it never matches.
            Some(process) if process.endpoint == endpoint => Some(slot),
            _ => None,
        }
    }

    /// Like [`Table::lookup`], and SELF is the process in `me`.
    pub fn lookup_or_self(&self, endpoint: Endpoint, me: usize) -> Option<usize> {
        if endpoint == Endpoint::SELF { Some(me) } else { self.lookup(endpoint) }
    }

    /// PROC_CREATE: takes a slot. The process cannot run yet. EINVAL for numbers out of range, EEXIST when the
    /// wanted slot is taken, EAGAIN when no dynamic slot is free.
    pub fn create(&mut self, request: &ProcCreate) -> Result<usize> {
        let slot = match usize::try_from(request.slot) {
            Ok(slot) => slot,
            Err(_) if request.slot == -1 => (Endpoint::FIRST_DYNAMIC_SLOT..NR_PROCS)
                .find(|slot| self.procs[*slot].flags & rts::FREE != 0)
                .ok_or(Errno::EAGAIN)?,
            Err(_) => return Err(Errno::EINVAL),
        };
        let level = u8::try_from(request.priority).map_err(|_| Errno::EINVAL)?;
        if usize::from(level) >= LEVELS || request.privilege > privilege::TEST {
            return Err(Errno::EINVAL);
        }
        let process = self.procs.get_mut(slot).ok_or(Errno::EINVAL)?;
        if process.flags & rts::FREE == 0 {
            return Err(Errno::EEXIST);
        }
        let endpoint = process.next_endpoint;
        let rights = Rights::of(request.privilege, slot);
        *process = Process {
            flags: rts::INHIBITED,
            endpoint,
            level,
            rivals: Process::rivals_of(level),
            trap_mask: rights.traps,
            send_mask: rights.send,
            call_mask: rights.calls,
            class: request.privilege,
            next_endpoint: endpoint.next_generation(),
            name: request.name,
            ..Process::FREE
        };
        Ok(slot)
    }

    /// PROC_FORK: a copy of the process in `parent` in the first free dynamic slot, with the address space `root`. Both wait for
    /// the same answer of PM. EINVAL when the parent does not wait for one, EAGAIN when no slot is free.
    pub fn fork(&mut self, parent: usize, root: u64) -> Result<usize> {
        let original = &self.procs[parent];
        let waits = original.flags == rts::RECEIVING && original.receive_from == Endpoint::PM;
        if !waits || !original.reply_pending {
            return Err(Errno::EINVAL);
        }
        let request = ProcCreate {
            slot: -1,
            endpoint: 0,
            privilege: original.class,
            priority: u32::from(original.level),
            name: original.name,
        };
        let frame = original.frame;
        let child = self.create(&request)?;
        let process = &mut self.procs[child];
        process.frame = frame;
        process.root = root;
        process.receive_from = Endpoint::PM;
        process.reply_pending = true;
        process.flags = rts::RECEIVING;
        Ok(child)
    }

    /// PROC_START: gives the process in `slot` registers and an address space and lets it run. A process
    /// that is blocked (exec) leaves whatever it was blocked on; one that has been stopped stays so, because its end has
    /// begun and others no longer reckon with it. Whether it runs.
    pub fn start(&mut self, slot: usize, frame: Frame, root: u64) -> bool {
        if self.procs[slot].flags & rts::STOPPED != 0 {
            return false;
        }
        self.leave_queues(slot);
        let process = &mut self.procs[slot];
        process.frame = frame;
        process.root = root;
        process.flags = 0;
        process.reply_pending = false;
        process.kernel_message_pending = false;
        // What the old program had in its memory is not there any more.
        process.grants = GrantTable::NONE;
        process.waits = WaitTable::default();
        (process.async_address, process.async_length) = (0, 0);
        process.rivals &= !MARKS_WAIT;
        process.patience = Patience::FRESH;
        if process.alarm != u64::MAX {
            self.set_alarm(slot, u64::MAX);
        }
        self.wake(slot);
        true
    }

    /// PROC_SET: the process in `slot` gets the rights of a class, and a name.
    pub fn set_class(&mut self, slot: usize, privilege: u32, name: [u8; 16]) {
        let rights = Rights::of(privilege, slot);
        let process = &mut self.procs[slot];
        process.trap_mask = rights.traps;
        process.send_mask = rights.send;
        process.call_mask = rights.calls;
        process.class = privilege;
        process.name = name;
    }

    /// PROC_STOP: the process in `slot` never runs again, and nobody receives what it was about to send.
    pub fn stop(&mut self, slot: usize) {
        self.leave_queues(slot);
        let process = &mut self.procs[slot];
        process.flags = process.flags & !(rts::SENDING | rts::VMREQUEST) | rts::STOPPED;
        process.kernel_message_pending = false;
        process.async_length = 0;
    }

    /// PROC_EXIT: removes the process in `slot`. Everybody who waits for it gets EDEADSRCDST, and nothing
    /// keeps its slot number as if it were still the same process.
    pub fn exit(&mut self, slot: usize) {
        self.leave_queues(slot);
        let endpoint = self.procs[slot].endpoint;
        let process = &mut self.procs[slot];
        let next_endpoint = process.next_endpoint;
        *process = Process { next_endpoint, ..Process::FREE };

        let bit = !(1u64 << slot);
        for other in 0..NR_PROCS {
            let process = &mut self.procs[other];
            if process.flags & rts::FREE != 0 {
                continue;
            }
            process.notify &= bit;
            process.async_pending &= bit;
            let sending = process.flags & rts::SENDING != 0 && process.send_to == endpoint;
            let receiving = process.flags & rts::RECEIVING != 0 && process.receive_from == endpoint;
            if !sending && !receiving {
                continue;
            }
            let by_kernel = process.kernel_message_pending;
            process.flags &= !(rts::SENDING | rts::RECEIVING);
            process.reply_pending = false;
            process.kernel_message_pending = false;
            process.queue_next = NIL;
            if !by_kernel {
                process.frame.set_result(i64::from(Errno::EDEADSRCDST.code()));
            }
            if process.flags == 0 {
                self.wake(other);
            }
        }
        self.recompute_alarm();
    }

    /// Takes `flags` away from a process that is blocked; it runs if nothing else blocks it.
    pub fn unblock(&mut self, slot: usize, flags: u32) {
        let process = &mut self.procs[slot];
        process.flags &= !flags;
        if process.flags == 0 {
            self.wake(slot);
        }
    }

    /// Takes a process out of every queue it may be in.
    fn leave_queues(&mut self, slot: usize) {
        if self.procs[slot].flags == 0 {
            self.unready(slot);
        }
        if self.procs[slot].flags & rts::SENDING != 0
            && let Some(receiver) = self.lookup(self.procs[slot].send_to)
        {
            self.unqueue(receiver, slot);
        }
        self.vm_forget(slot);
    }

    /// Sets or cancels (`u64::MAX`) the alarm of the process in `slot`.
    pub fn set_alarm(&mut self, slot: usize, deadline: u64) {
        self.procs[slot].alarm = deadline;
        self.recompute_alarm();
    }

    /// Whether the process at one of these endpoints has an alarm to come.
    pub fn has_alarm(&self, endpoints: &[Endpoint]) -> bool {
        let mut slots = endpoints.iter().filter_map(|endpoint| self.lookup(*endpoint));
        slots.any(|slot| self.procs[slot].alarm != u64::MAX)
    }

    /// Sends the CLOCK notifications that are due at time stamp `now`.
    pub fn expire_alarms(&mut self, now: u64) {
        if self.next_alarm > now {
            return;
        }
        for slot in 0..NR_PROCS {
            if self.procs[slot].alarm <= now {
                self.procs[slot].alarm = u64::MAX;
                self.notify_from_kernel(slot, crate::process::FROM_CLOCK);
            }
        }
        self.recompute_alarm();
    }

    fn recompute_alarm(&mut self) {
        self.next_alarm = self.procs.iter().map(|process| process.alarm).min().unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests;
