//! Message passing: the state machine behind the primitives (specification 1.3, 1.4).
//!
//! The one thing to hold in mind: a message is copied exactly once, from the sender's saved registers to the
//! receiver's, at the moment both are there; a blocked sender keeps it in its own registers. Order of delivery
//! to a receiver: notifications, asynchronous entries, then blocked senders in the order they came. What is
//! not here: kernel calls, which are not messages, and everything that touches real registers.

mod deadlock;
mod senda;

use refault_abi::ipc::{AsyncEntry, Call, Delivery, NOTIFY_TYPE};
use refault_abi::kcall::rts;
use refault_abi::{Endpoint, Errno};

use crate::frame::head;
use crate::process::{FROM_ASYNCM, FROM_CLOCK, FROM_HARDWARE, NIL};
use crate::table::{Table, index_of};

/// What message passing needs from the machine.
pub trait Machine {
    /// Time stamp for notifications.
    fn now(&mut self) -> u64;
    /// Reads an entry of an asynchronous table in the address space `root`; `None` when it is not there, or could
    /// not be marked finished.
    fn read_async(&mut self, root: u64, address: u64) -> Option<AsyncEntry>;
    /// Stores flags and result of a finished entry.
    fn finish_async(&mut self, root: u64, address: u64, flags: u32, result: i32);
    /// A process has registered a table of messages at another place than before.
    fn message_table(&mut self, root: u64, address: u64, bytes: u64);
    /// A message was delivered.
    fn count_message(&mut self);
    /// It was a notification.
    fn count_notification(&mut self);
}

/// How a primitive left its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Finished; the caller goes on.
    Done,
    /// Blocked; whoever ends that stores the result.
    Blocked,
}

type Outcome = core::result::Result<Flow, Errno>;

/// From whom a receiver takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Anybody.
    Any,
    /// The process in this slot.
    Slot(usize),
    /// A source inside the kernel, as its bit in `notify_kernel`.
    Kernel(u32),
}

impl Table {
    /// Runs the primitive `call` for the process in `me`; arguments and results are in its frame.
    #[inline(always)]
    pub fn primitive(&mut self, machine: &mut impl Machine, me: usize, call: Call) {
        let peers = self.procs[me].frame.rdi;
        let to = Endpoint::from_raw(peers as u32 as i32);
        let from = Endpoint::from_raw((peers >> 32) as u32 as i32);
        let outcome = if self.procs[me].trap_mask & call.mask() == 0 {
            Err(Errno::ETRAPDENIED)
        } else {
            match call {
                Call::SendRec => self.send_receive(machine, me, to),
                Call::ReplyReceive => self.reply_receive(machine, me, to, from),
                Call::Send => self.send(machine, me, to, Call::Send),
                Call::SendNb => self.send_now(machine, me, to, Call::SendNb).map(|()| Flow::Done),
                Call::Receive => self.receive(machine, me, from, true),
                Call::ReceiveNb => self.receive(machine, me, from, false),
                Call::Notify => self.notify(machine, me, to),
                Call::SendA => self.send_async(machine, me),
                Call::Yield => Ok(Flow::Done),
                // Dispatched before it comes here.
                Call::Kernel => Err(Errno::EBADCALL),
            }
        };
        match outcome {
            Ok(Flow::Done) => self.procs[me].frame.rax = 0,
            Ok(Flow::Blocked) => {}
            Err(error) => self.procs[me].frame.set_result(i64::from(error.code())),
        }
    }

    /// The destination of a send, if `me` may send to it.
    #[inline(always)]
    fn destination(&self, me: usize, to: Endpoint) -> core::result::Result<usize, Errno> {
        let Some(slot) = self.lookup(to) else {
            return Err(if to == Endpoint::ANY { Errno::EINVAL } else { Errno::EDEADSRCDST });
        };
        if self.procs[me].send_mask & (1 << slot) == 0 {
            return Err(Errno::ECALLDENIED);
        }
        Ok(slot)
    }

    /// Whether the process in `receiver` waits for a message, and the process in `sender` may end that.
    #[inline(always)]
    fn accepts(&self, receiver: usize, sender: usize) -> bool {
        let process = &self.procs[receiver];
        process.flags == rts::RECEIVING
            && (process.receive_from == Endpoint::ANY || process.receive_from == self.procs[sender].endpoint)
    }

    /// Hands `words` to a process that receives, and lets it run.
    #[inline(always)]
    fn hand_over(&mut self, machine: &mut impl Machine, receiver: usize, words: [u64; 8], status: u64) {
        let process = &mut self.procs[receiver];
        process.frame.message = words;
        process.frame.rax = 0;
        process.frame.rdi = status;
        process.flags = 0;
        process.reply_pending = false;
        machine.count_message();
        self.wake(receiver);
    }

    /// The message in the registers of the process in `sender`, with its source filled in.
    #[inline(always)]
    fn outgoing(&self, sender: usize) -> [u64; 8] {
        let process = &self.procs[sender];
        let mut words = process.frame.message;
        words[0] = head(process.endpoint, (words[0] >> 32) as u32);
        words
    }

    /// SENDNB, and the send half of REPLYRECEIVE: delivers now or fails.
    #[inline(always)]
    fn send_now(
        &mut self,
        machine: &mut impl Machine,
        me: usize,
        to: Endpoint,
        as_call: Call,
    ) -> core::result::Result<(), Errno> {
        let receiver = self.destination(me, to)?;
        if !self.accepts(receiver, me) {
            return Err(Errno::ENOTREADY);
        }
        let words = self.outgoing(me);
        self.hand_over(machine, receiver, words, as_call as u64);
        Ok(())
    }

    /// SEND, and the send half of SENDREC.
    #[inline(always)]
    fn send(&mut self, machine: &mut impl Machine, me: usize, to: Endpoint, as_call: Call) -> Outcome {
        let receiver = self.destination(me, to)?;
        if self.accepts(receiver, me) {
            let words = self.outgoing(me);
            self.hand_over(machine, receiver, words, as_call as u64);
            return Ok(Flow::Done);
        }
        if self.would_deadlock(me, receiver, true) {
            return Err(Errno::ELOCKED);
        }
        self.block_sending(me, receiver, as_call as u8);
        Ok(Flow::Blocked)
    }

    fn block_sending(&mut self, me: usize, receiver: usize, as_call: u8) {
        let endpoint = self.procs[receiver].endpoint;
        let process = &mut self.procs[me];
        process.flags |= rts::SENDING;
        process.send_to = endpoint;
        process.sending_call = as_call;
        process.queue_next = NIL;
        match index_of(self.procs[receiver].queue_tail) {
            Some(tail) => self.procs[tail].queue_next = me as u8,
            None => self.procs[receiver].queue_head = me as u8,
        }
        self.procs[receiver].queue_tail = me as u8;
    }

    /// SENDREC.
    #[inline(always)]
    fn send_receive(&mut self, machine: &mut impl Machine, me: usize, to: Endpoint) -> Outcome {
        let sent = self.send(machine, me, to, Call::SendRec)?;
        let process = &mut self.procs[me];
        // The peer has just been woken, so it is in nobody's queue; only an asynchronous entry of it can
        // already be there.
        if sent == Flow::Done
            && process.async_pending != 0
            && let Some(peer) = self.lookup(to)
            && let awaited = self.procs[me].async_pending & (1 << peer)
            && awaited != 0
            && let Some(words) = self.next_async(machine, me, awaited, true)
        {
            self.take_in(machine, me, words, Call::SendA as u64);
            return Ok(Flow::Done);
        }
        let process = &mut self.procs[me];
        process.reply_pending = true;
        process.receive_from = to;
        process.flags |= rts::RECEIVING;
        Ok(Flow::Blocked)
    }

    /// REPLYRECEIVE.
    #[inline(always)]
    fn reply_receive(
        &mut self,
        machine: &mut impl Machine,
        me: usize,
        to: Endpoint,
        from: Endpoint,
    ) -> Outcome {
        if to != Endpoint::NONE {
            self.send_now(machine, me, to, Call::Send)?;
        }
        self.receive(machine, me, from, true)
    }

    /// RECEIVE and RECEIVENB.
    #[inline(always)]
    fn receive(&mut self, machine: &mut impl Machine, me: usize, from: Endpoint, block: bool) -> Outcome {
        let want = if from == Endpoint::ANY { Want::Any } else { self.source(from)? };
        let process = &self.procs[me];
        let idle = process.notify == 0
            && process.notify_kernel == 0
            && process.async_pending == 0
            && process.queue_head == NIL;
        if !idle && self.receive_waiting(machine, me, want) {
            return Ok(Flow::Done);
        }
        if !block {
            return Err(Errno::ENOTREADY);
        }
        if let Want::Slot(slot) = want
            && self.would_deadlock(me, slot, false)
        {
            return Err(Errno::ELOCKED);
        }
        let process = &mut self.procs[me];
        process.flags |= rts::RECEIVING;
        process.receive_from = from;
        Ok(Flow::Blocked)
    }

    fn source(&self, from: Endpoint) -> core::result::Result<Want, Errno> {
        match from {
            Endpoint::HARDWARE => Ok(Want::Kernel(FROM_HARDWARE)),
            Endpoint::CLOCK => Ok(Want::Kernel(FROM_CLOCK)),
            Endpoint::ASYNCM => Ok(Want::Kernel(FROM_ASYNCM)),
            _ => self.lookup(from).map(Want::Slot).ok_or(Errno::EDEADSRCDST),
        }
    }

    /// Takes whatever is waiting for the process in `me` into its own registers. It is running, so nobody
    /// has to be woken for it.
    #[inline(never)]
    fn receive_waiting(&mut self, machine: &mut impl Machine, me: usize, want: Want) -> bool {
        if self.take_notification(machine, me, want) {
            return true;
        }
        let awaited = self.procs[me].async_pending & want.bits();
        if awaited != 0
            && let Some(words) = self.next_async(machine, me, awaited, false)
        {
            self.take_in(machine, me, words, Call::SendA as u64);
            return true;
        }
        let Some(sender) = self.first_sender(me, want) else { return false };
        self.unqueue(me, sender);
        let process = &mut self.procs[sender];
        let mut status = u64::from(process.sending_call);
        let words;
        if process.kernel_message_pending {
            process.kernel_message_pending = false;
            status |= Delivery::FROM_KERNEL;
            words = process.kernel_message;
        } else {
            words = self.outgoing(sender);
            if self.procs[sender].flags & rts::RECEIVING == 0 {
                self.procs[sender].frame.rax = 0;
            }
        }
        self.take_in(machine, me, words, status);
        self.sent(machine, sender);
        true
    }

    fn take_in(&mut self, machine: &mut impl Machine, me: usize, words: [u64; 8], status: u64) {
        let frame = &mut self.procs[me].frame;
        frame.message = words;
        frame.rdi = status;
        machine.count_message();
    }

    /// The process in `sender` is no longer SENDING: it runs, or waits for its answer.
    fn sent(&mut self, machine: &mut impl Machine, sender: usize) {
        let process = &mut self.procs[sender];
        process.flags &= !rts::SENDING;
        if process.flags == 0 {
            self.wake(sender);
        } else if process.flags == rts::RECEIVING && process.async_pending != 0 {
            self.take_async(machine, sender);
        }
    }

    fn first_sender(&self, me: usize, want: Want) -> Option<usize> {
        let mut at = index_of(self.procs[me].queue_head);
        match want {
            Want::Any => at,
            Want::Kernel(_) => None,
            Want::Slot(slot) => {
                while let Some(index) = at {
                    if index == slot {
                        return at;
                    }
                    at = index_of(self.procs[index].queue_next);
                }
                None
            }
        }
    }

    /// Takes `sender` out of the queue of `receiver`.
    pub(crate) fn unqueue(&mut self, receiver: usize, sender: usize) {
        let (mut at, mut before) = (self.procs[receiver].queue_head, NIL);
        while let Some(index) = index_of(at) {
            let next = self.procs[index].queue_next;
            if index == sender {
                match index_of(before) {
                    Some(before) => self.procs[before].queue_next = next,
                    None => self.procs[receiver].queue_head = next,
                }
                if self.procs[receiver].queue_tail == at {
                    self.procs[receiver].queue_tail = before;
                }
                self.procs[index].queue_next = NIL;
                return;
            }
            (before, at) = (at, next);
        }
    }

    /// NOTIFY.
    fn notify(&mut self, machine: &mut impl Machine, me: usize, to: Endpoint) -> Outcome {
        let receiver = self.destination(me, to)?;
        if self.accepts(receiver, me) && !self.procs[receiver].reply_pending {
            let words = notification(self.procs[me].endpoint, machine.now(), 0);
            machine.count_notification();
            self.hand_over(machine, receiver, words, Call::Notify as u64);
        } else {
            self.procs[receiver].notify |= 1 << me;
        }
        Ok(Flow::Done)
    }

    /// A notification from a source inside the kernel. The time stamp is 0 when it is delivered at once:
    /// whoever waits for it reads the clock itself.
    pub fn notify_from_kernel(&mut self, receiver: usize, source: u32) {
        let process = &mut self.procs[receiver];
        let from = kernel_endpoint(source);
        if process.flags == rts::RECEIVING
            && !process.reply_pending
            && (process.receive_from == Endpoint::ANY || process.receive_from == from)
        {
            let signals = if source == FROM_HARDWARE { core::mem::take(&mut process.signals) } else { 0 };
            process.frame.message = notification(from, 0, signals);
            process.frame.rax = 0;
            process.frame.rdi = Call::Notify as u64 | Delivery::FROM_KERNEL;
            process.flags = 0;
            self.wake(receiver);
        } else {
            process.notify_kernel |= source;
        }
    }

    /// Delivers one pending notification to the process in `me`, the kernel's first.
    fn take_notification(&mut self, machine: &mut impl Machine, me: usize, want: Want) -> bool {
        let process = &mut self.procs[me];
        let (from_kernel, from_processes) = match want {
            Want::Any => (process.notify_kernel, process.notify),
            Want::Kernel(bit) => (process.notify_kernel & bit, 0),
            Want::Slot(slot) => (0, process.notify & (1 << slot)),
        };
        if from_kernel != 0 {
            let source = from_kernel & from_kernel.wrapping_neg();
            process.notify_kernel &= !source;
            let signals = if source == FROM_HARDWARE { core::mem::take(&mut process.signals) } else { 0 };
            let words = notification(kernel_endpoint(source), machine.now(), signals);
            machine.count_notification();
            self.take_in(machine, me, words, Call::Notify as u64 | Delivery::FROM_KERNEL);
            return true;
        }
        if from_processes != 0 {
            let sender = from_processes.trailing_zeros() as usize & 63;
            process.notify &= !(1 << sender);
            let words = notification(self.procs[sender].endpoint, machine.now(), 0);
            machine.count_notification();
            self.take_in(machine, me, words, Call::Notify as u64);
            return true;
        }
        false
    }

    /// Sends a message that the kernel makes in the name of the process in `me`: it reaches `to` as if the
    /// process had sent it, with the FROM_KERNEL mark, and the process's registers stay untouched. The caller
    /// has set the flag that keeps the process from running meanwhile. EDEADSRCDST when there is no `to`.
    pub fn send_for(
        &mut self,
        machine: &mut impl Machine,
        me: usize,
        to: Endpoint,
        mtype: u16,
        payload: [u64; 7],
    ) -> core::result::Result<(), Errno> {
        let receiver = self.lookup(to).ok_or(Errno::EDEADSRCDST)?;
        let [a, b, c, d, e, f, g] = payload;
        let words = [head(self.procs[me].endpoint, u32::from(mtype)), a, b, c, d, e, f, g];
        if self.accepts(receiver, me) {
            self.hand_over(machine, receiver, words, Call::Send as u64 | Delivery::FROM_KERNEL);
        } else {
            let process = &mut self.procs[me];
            process.kernel_message = words;
            process.kernel_message_pending = true;
            self.block_sending(me, receiver, Call::Send as u8);
        }
        Ok(())
    }
}

impl Want {
    /// The slots it covers.
    const fn bits(self) -> u64 {
        match self {
            Want::Any => u64::MAX,
            Want::Slot(slot) => 1 << slot,
            Want::Kernel(_) => 0,
        }
    }
}

const fn kernel_endpoint(source: u32) -> Endpoint {
    match source {
        FROM_HARDWARE => Endpoint::HARDWARE,
        FROM_CLOCK => Endpoint::CLOCK,
        _ => Endpoint::ASYNCM,
    }
}

const fn notification(from: Endpoint, now: u64, signals: u64) -> [u64; 8] {
    [head(from, NOTIFY_TYPE as u32), now, signals, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests;
