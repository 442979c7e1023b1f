//! Who runs next: sixteen strict priorities, round robin within one.
//!
//! The one thing to hold in mind: the running process is in no queue, and a process that has just been woken
//! waits in [`Ready::handoff`] first, so that the common case (one process blocks and wakes one other) touches
//! no queue at all. What is not here: time; the quantum's end is an argument.

use crate::process::{LEVELS, NIL};
use crate::table::{Table, index_of};

/// A bit of [`crate::process::Process::rivals`], and always set in [`Ready::levels`]: marks wait for this process, so it never
/// leaves the kernel by a short way, which are all closed to a process with a rival.
pub const MARKS_WAIT: u32 = 1 << 31;

/// The ready queues, linked through [`crate::process::Process::ready_next`].
#[derive(Clone, Debug)]
pub struct Ready {
    /// One bit per level that has a queue, and [`MARKS_WAIT`].
    pub levels: u32,
    head: [u8; LEVELS],
    tail: [u8; LEVELS],
    /// A process that was woken and not put into a queue yet.
    handoff: u8,
}

impl Ready {
    /// Nobody.
    pub const EMPTY: Ready =
        Ready { levels: MARKS_WAIT, head: [NIL; LEVELS], tail: [NIL; LEVELS], handoff: NIL };
}

impl Table {
    /// Makes a process that has just become runnable known to the scheduler.
    pub(crate) fn wake(&mut self, slot: usize) {
        match index_of(self.ready.handoff) {
            None => self.ready.handoff = slot as u8,
            Some(first) => {
                self.ready.handoff = NIL;
                self.enqueue_last(first);
                self.enqueue_last(slot);
            }
        }
    }

    /// Takes a runnable process out of the scheduler's hands. The running one is not in them.
    pub(crate) fn unready(&mut self, slot: usize) {
        if index_of(self.ready.handoff) == Some(slot) {
            self.ready.handoff = NIL;
            return;
        }
        let level = usize::from(self.procs[slot].level & 15);
        let (mut at, mut before) = (self.ready.head[level], NIL);
        while let Some(index) = index_of(at) {
            let next = self.procs[index].ready_next;
            if index == slot {
                match index_of(before) {
                    Some(before) => self.procs[before].ready_next = next,
                    None => self.ready.head[level] = next,
                }
                if self.ready.tail[level] == at {
                    self.ready.tail[level] = before;
                }
                if self.ready.head[level] == NIL {
                    self.ready.levels &= !(1 << level);
                }
                return;
            }
            (before, at) = (at, next);
        }
    }

    fn enqueue_last(&mut self, slot: usize) {
        let level = usize::from(self.procs[slot].level & 15);
        self.procs[slot].ready_next = NIL;
        match index_of(self.ready.tail[level]) {
            Some(tail) => self.procs[tail].ready_next = slot as u8,
            None => self.ready.head[level] = slot as u8,
        }
        self.ready.tail[level] = slot as u8;
        self.ready.levels |= 1 << level;
    }

    fn enqueue_first(&mut self, slot: usize) {
        let level = usize::from(self.procs[slot].level & 15);
        self.procs[slot].ready_next = self.ready.head[level];
        if self.ready.head[level] == NIL {
            self.ready.tail[level] = slot as u8;
        }
        self.ready.head[level] = slot as u8;
        self.ready.levels |= 1 << level;
    }

    fn take_first(&mut self) -> Option<usize> {
        let level = self.ready.levels.trailing_zeros() as usize;
        if level >= LEVELS {
            return None;
        }
        let slot = index_of(self.ready.head[level])?;
        let next = self.procs[slot].ready_next;
        self.ready.head[level] = next;
        if next == NIL {
            self.ready.tail[level] = NIL;
            self.ready.levels &= !(1 << level);
        }
        Some(slot)
    }

    /// Whether the process in `slot`, which is in the kernel, simply goes on: it can run, nobody was woken, and
    /// nobody of its level or a higher one waits.
    #[inline(always)]
    pub fn goes_on(&self, slot: usize) -> bool {
        let process = &self.procs[slot];
        process.flags == 0 && self.ready.handoff == NIL && self.ready.levels & process.rivals == 0
    }

    /// Chooses who runs after the process in `current` (if any) has left the kernel. `turn_over` says that its
    /// turn is over: it goes behind the others of its level. `None`: nobody can run.
    #[inline(always)]
    pub fn schedule(&mut self, current: Option<usize>, turn_over: bool) -> Option<usize> {
        let woken = index_of(self.ready.handoff);
        match (current.filter(|slot| self.procs[*slot].flags == 0), woken) {
            (Some(current), None)
                if !turn_over && self.ready.levels & (self.procs[current].rivals >> 1) == 0 =>
            {
                return Some(current);
            }
            (None, Some(woken)) if self.ready.levels & self.procs[woken].rivals == 0 => {
                self.ready.handoff = NIL;
                return Some(woken);
            }
            _ => {}
        }
        self.schedule_from_queues(current, turn_over)
    }

    #[inline(never)]
    fn schedule_from_queues(&mut self, current: Option<usize>, turn_over: bool) -> Option<usize> {
        if let Some(woken) = index_of(self.ready.handoff) {
            self.ready.handoff = NIL;
            self.enqueue_last(woken);
        }
        match current {
            Some(current) if self.procs[current].flags == 0 => {
                if turn_over {
                    self.enqueue_last(current);
                } else {
                    self.enqueue_first(current);
                }
            }
            _ => {}
        }
        self.take_first()
    }

    /// Whether marks wait for the process in `slot`.
    #[inline(always)]
    pub fn marks_wait(&self, slot: usize) -> bool {
        self.procs[slot].rivals & MARKS_WAIT != 0
    }

    /// Whether somebody of the same or a higher level waits for the process in `slot` to end its turn, or marks wait for it.
    #[inline(always)]
    pub fn has_rival(&self, slot: usize) -> bool {
        self.ready.levels & self.procs[slot].rivals != 0
    }
}

#[cfg(test)]
mod tests;
