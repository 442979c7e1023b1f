//! Deadlock detection: would blocking close a circle of processes that wait for one another?
//!
//! The one thing to hold in mind: only rendezvous waits are links. A process suspended on VM or waiting for
//! an asynchronous answer ends the chain, so the deadlock that CPF_TRY exists to prevent is invisible here
//! (specification 1.4); whoever wants to see that one reads the wait-for graph from PROC_INFO.

use refault_abi::Endpoint;
use refault_abi::endpoint::NR_PROCS;
use refault_abi::kcall::rts;

use crate::table::Table;

impl Table {
    /// Whom the process in `slot` is blocked on, or NONE. Sending goes before receiving: the send half of a
    /// SENDREC comes first.
    pub fn blocked_on(&self, slot: usize) -> Endpoint {
        let process = &self.procs[slot];
        if process.flags & rts::SENDING != 0 {
            process.send_to
        } else if process.flags & rts::RECEIVING != 0 {
            process.receive_from
        } else {
            Endpoint::NONE
        }
    }

    /// Whether `me` would wait for ever if it blocked on the process in `towards`. Two processes may block on
    /// one another if one sends and the other receives, because then they meet.
    #[inline(always)]
    pub(crate) fn would_deadlock(&self, me: usize, towards: usize, sending: bool) -> bool {
        towards == me
            || self.procs[towards].flags & (rts::SENDING | rts::RECEIVING) != 0
                && self.chain_returns(me, towards, sending)
    }

    #[inline(never)]
    fn chain_returns(&self, me: usize, towards: usize, sending: bool) -> bool {
        let mut at = towards;
        // A chain visits a slot at most once before it ends or repeats.
        for length in 2..=NR_PROCS + 1 {
            let Some(next) = self.lookup(self.blocked_on(at)) else { return false };
            if next == me {
                let peer_sends = self.procs[at].flags & rts::SENDING != 0;
                return !(length == 2 && peer_sends != sending);
            }
            at = next;
        }
        false
    }
}
