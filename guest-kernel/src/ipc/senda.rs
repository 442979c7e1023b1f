//! Asynchronous sends: a table in the sender's memory, looked at again at every delivery.
//!
//! The one thing to hold in mind: the kernel keeps no copy of an entry. A receiver only has a bit that says
//! "this sender may have something for you"; the entry is read, delivered and marked DONE when it is taken.
//! What is not here: the memory access itself, which can fail; then the entry counts as not there.

use refault_abi::ipc::{AsyncEntry, Call, SENDA_MAX, senda};
use refault_abi::kcall::rts;
use refault_abi::{Endpoint, Errno, layout};

use super::{Flow, Machine, Outcome};
use crate::process::FROM_ASYNCM;
use crate::table::Table;

const ENTRY_BYTES: u64 = size_of::<AsyncEntry>() as u64;

fn wanted(entry: &AsyncEntry) -> bool {
    entry.flags & (senda::VALID | senda::DONE) == senda::VALID
}

impl Table {
    /// SENDA: registers the table and delivers what can be delivered now. EINVAL for a table that is too long
    /// or misaligned, EFAULT for one outside user memory.
    pub(super) fn send_async(&mut self, machine: &mut impl Machine, me: usize) -> Outcome {
        let [address, length, ..] = self.procs[me].frame.message;
        self.procs[me].async_length = 0;
        if length == 0 {
            return Ok(Flow::Done);
        }
        if length > SENDA_MAX as u64 || address % 8 != 0 {
            return Err(Errno::EINVAL);
        }
        // The length is small, so the product cannot wrap.
        match address.checked_add(length * ENTRY_BYTES) {
            Some(end) if end <= layout::USER_END => {}
            _ => return Err(Errno::EFAULT),
        }
        let process = &mut self.procs[me];
        let moved = process.async_address != address;
        process.async_address = address;
        process.async_length = length;
        let root = process.root;
        if moved {
            machine.message_table(root, address, length * ENTRY_BYTES);
        }
        for index in 0..length {
            let place = address + index * ENTRY_BYTES;
            let entry = machine.read_async(root, place).ok_or(Errno::EFAULT)?;
            if wanted(&entry) {
                self.try_entry(machine, me, place, &entry);
            }
        }
        Ok(Flow::Done)
    }

    /// Delivers one entry of the process in `me`, or leaves a bit with its receiver.
    fn try_entry(&mut self, machine: &mut impl Machine, me: usize, place: u64, entry: &AsyncEntry) {
        match self.destination(me, Endpoint::from_raw(entry.destination)) {
            Err(error) => self.finish(machine, me, place, entry, error.code()),
            Ok(receiver) => {
                let held = entry.flags & senda::NOREPLY != 0 && self.procs[receiver].reply_pending;
                if !held && self.accepts(receiver, me) {
                    let words = self.async_words(me, entry);
                    self.hand_over(machine, receiver, words, Call::SendA as u64);
                    self.finish(machine, me, place, entry, 0);
                } else {
                    self.procs[receiver].async_pending |= 1 << me;
                }
            }
        }
    }

    fn async_words(&self, sender: usize, entry: &AsyncEntry) -> [u64; 8] {
        let [a, b, c, d, e, f, g] = entry.message.payload;
        [crate::frame::head(self.procs[sender].endpoint, entry.message.mtype), a, b, c, d, e, f, g]
    }

    fn finish(
        &mut self,
        machine: &mut impl Machine,
        sender: usize,
        place: u64,
        entry: &AsyncEntry,
        result: i32,
    ) {
        machine.finish_async(self.procs[sender].root, place, entry.flags | senda::DONE, result);
        let notify = senda::NOTIFY | if result < 0 { senda::NOTIFY_ERR } else { 0 };
        if entry.flags & notify != 0 {
            self.notify_from_kernel(sender, FROM_ASYNCM);
        }
    }

    /// Finds an asynchronous entry for `me` from one of `senders`, marks it DONE and returns its message.
    /// `answer` says that `me` waits for the answer of a SENDREC, which NOREPLY entries must not be. Senders
    /// that turn out to have nothing lose their bit.
    pub(super) fn next_async(
        &mut self,
        machine: &mut impl Machine,
        me: usize,
        mut senders: u64,
        answer: bool,
    ) -> Option<[u64; 8]> {
        let endpoint = self.procs[me].endpoint;
        while senders != 0 {
            let sender = senders.trailing_zeros() as usize & 63;
            senders &= senders - 1;
            let mut held = false;
            let (root, address) = (self.procs[sender].root, self.procs[sender].async_address);
            for index in 0..self.procs[sender].async_length {
                let place = address + index * ENTRY_BYTES;
                let Some(entry) = machine.read_async(root, place) else { break };
                if !wanted(&entry) || entry.destination != endpoint.raw() {
                    continue;
                }
                if answer && entry.flags & senda::NOREPLY != 0 {
                    held = true;
                    continue;
                }
                let words = self.async_words(sender, &entry);
                self.finish(machine, sender, place, &entry, 0);
                return Some(words);
            }
            if !held {
                self.procs[me].async_pending &= !(1 << sender);
            }
        }
        None
    }

    /// Delivers an asynchronous entry to the process in `me`, which is blocked in RECEIVING, and wakes it.
    #[inline(never)]
    pub(super) fn take_async(&mut self, machine: &mut impl Machine, me: usize) {
        let process = &self.procs[me];
        debug_assert!(process.flags == rts::RECEIVING);
        let senders = match process.receive_from {
            Endpoint::ANY => process.async_pending,
            from => match self.lookup(from) {
                Some(slot) => process.async_pending & (1 << slot),
                None => 0,
            },
        };
        let answer = process.reply_pending;
        if let Some(words) = self.next_async(machine, me, senders, answer) {
            self.hand_over(machine, me, words, Call::SendA as u64);
        }
    }
}
