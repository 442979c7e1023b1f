//! The end of a system in which nothing goes on any more: who waits for whom is said, and the machine ends.
//!
//! The one thing to hold in mind: this only runs when the command line has `watchdog=`, and its word is final. What is not here:
//! the judgement (`refault_kernel::watchdog`) and the graph (`refault_kernel::graph`).

use core::fmt::{self, Arguments, Write};

use refault_abi::counters::Counter;
use refault_kernel::watchdog::{Look, SUSPENSIONS, Standstill};

use crate::arch;
use crate::kernel::Kernel;

/// Exit status of a wedged system.
const STATUS: u32 = 121;

/// Text in a buffer; what does not fit is left out.
struct Text<'b> {
    buffer: &'b mut [u8],
    used: usize,
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.buffer.get_mut(self.used..).unwrap_or_default();
        let length = text.len().min(room.len());
        if let (Some(place), Some(text)) = (room.get_mut(..length), text.as_bytes().get(..length)) {
            place.copy_from_slice(text);
        }
        self.used += length;
        Ok(())
    }
}

impl Kernel {
    /// The watchdog's look at time stamp `now`; `busy`: a process was computing.
    #[inline(never)]
    pub fn watch(&mut self, now: u64, busy: bool) {
        let of = |counter: Counter| arch::counter(counter as usize);
        let messages = of(Counter::Messages).wrapping_sub(of(Counter::Notifications));
        let progress = messages.wrapping_add(of(Counter::Interrupts));
        self.graph.build(&self.table, &mut self.machine);
        let circle = self.graph.circle().map(|circle| self.graph.fingerprint(&circle));
        // Who owns an interrupt line and has an alarm to come waits for a device: a slow disk is no standstill.
        let busy = busy || self.table.has_alarm(&self.lines);
        let time = self.options.watchdog;
        match self.watchdog.look(now, Look { busy, progress, circle }) {
            None => {}
            Some(Standstill::Silence) => self.wedged(format_args!("nothing went on for {time} ms")),
            Some(Standstill::Circle) => {
                self.wedged(format_args!("nobody in the circle went on for {time} ms"))
            }
        }
    }

    /// Ends the machine if the call of the process in `slot` has been suspended so often that it never will end.
    pub fn bound_suspensions(&mut self, slot: usize) {
        if self.table.procs[slot].patience.suspensions() >= SUSPENSIONS {
            // In the buffer of its own that the text below does not use.
            let name = self.table.procs[slot].name;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = core::str::from_utf8(name).unwrap_or("?");
            self.wedged(format_args!(
                "a copy of {name} was suspended {SUSPENSIONS} times and came no further"
            ));
        }
    }

    /// Says what stands still and who waits for whom, and ends the machine.
    fn wedged(&mut self, what: Arguments<'_>) -> ! {
        self.graph.build(&self.table, &mut self.machine);
        let circle = self.graph.circle();
        let graph = self.graph.text(&self.table, circle.as_ref());
        arch::log(format_args!("\nwedged: {what}\n{graph}"));
        let mut text = Text { buffer: &mut self.buffer, used: 0 };
        // Writing to the buffer cannot fail.
        let _ = write!(text, "wedged: {what}\n{graph}");
        let used = text.used;
        arch::wedged(self.buffer.get(..used).unwrap_or_default());
        arch::exit(STATUS)
    }
}
