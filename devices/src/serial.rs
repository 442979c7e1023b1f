//! The serial console: a 16550 at COM1.
//!
//! The registers are `vm_superio`'s. This file adds what a machine needs around them: the lock that lets any
//! vCPU thread reach them, the interrupt as an event descriptor, and input that waits when the guest is slow.
//!
//! The one thing to hold in mind is the back-pressure: the receive FIFO holds 64 bytes. [`Serial::enqueue`]
//! takes what fits and says how much that was; when the guest has emptied the FIFO the device signals
//! [`Serial::room`], and the device loop ([`input::SerialInput`]) goes on. No input byte is dropped.
//!
//! Output is never a guest's problem: a byte that the host cannot write is counted and lost.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

pub use vm_superio::SerialState;
use vm_superio::Trigger;
use vm_superio::serial::SerialEvents;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::{Access, Device, Refusal, Window};
use crate::sync::lock;

pub mod input;
#[cfg(test)]
mod tests;

/// Ports of the first serial line.
pub const COM1: Window = Window { base: 0x3f8, len: 8 };
/// Interrupt line of the first serial line.
pub const COM1_IRQ: u32 = 4;

/// Input bytes that the line holds.
const FIFO: usize = 64;

/// A state that was not saved from a serial line of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state holds more input than a serial line can; restore it where it was saved")]
pub struct ForeignState;

/// Bytes and interrupts of a serial line so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerialCounts {
    /// Bytes written by the guest and by us to the output.
    pub out: u64,
    /// Bytes written by the guest which the output refused.
    pub lost: u64,
    /// Input bytes read by the guest.
    pub input: u64,
    /// Interrupts raised.
    pub interrupts: u64,
}

/// State that the registers call back into.
#[derive(Debug)]
struct Shared {
    irq: EventFd,
    room: EventFd,
    /// Registers are being put back: what they would signal was signalled when they were saved.
    restoring: AtomicBool,
    out: AtomicU64,
    lost: AtomicU64,
    input: AtomicU64,
    interrupts: AtomicU64,
}

#[derive(Clone, Debug)]
struct Line(Arc<Shared>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        if self.0.restoring.load(Relaxed) {
            return Ok(());
        }
        self.0.interrupts.fetch_add(1, Relaxed);
        self.0.irq.write(1)
    }
}

impl SerialEvents for Line {
    fn buffer_read(&self) {
        self.0.input.fetch_add(1, Relaxed);
    }

    fn out_byte(&self) {
        self.0.out.fetch_add(1, Relaxed);
    }

    fn tx_lost_byte(&self) {
        self.0.lost.fetch_add(1, Relaxed);
    }

    fn in_buffer_empty(&self) {
        // Failure means that the counter is at its maximum, so that the loop is being woken anyway.
        let _ = self.0.room.write(1);
    }
}

type Registers = vm_superio::Serial<Line, Line, Box<dyn Write + Send>>;

/// A serial line. Put it on the port bus at [`COM1`].
pub struct Serial {
    registers: Mutex<Registers>,
    shared: Arc<Shared>,
}

impl Serial {
    /// A line whose interrupts go to `irq` (to be registered as an irqfd for [`COM1_IRQ`]) and whose output goes
    /// to `out`, byte by byte, each followed by a flush.
    pub fn new(irq: EventFd, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            irq,
            room: EventFd::new(EFD_NONBLOCK)?,
            restoring: AtomicBool::new(false),
            out: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            input: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
        });
        let line = Line(shared.clone());
        Ok(Self { registers: Mutex::new(Registers::with_events(line.clone(), line, out)), shared })
    }

    /// Gives input to the guest. Returns how many bytes of `bytes` were taken: fewer than all when the FIFO is
    /// full, none in loop-back mode. Wait for [`Serial::room`] before offering the rest.
    pub fn enqueue(&self, bytes: &[u8]) -> usize {
        let mut registers = lock(&self.registers);
        let before = registers.fifo_capacity();
        if before == 0 {
            return 0;
        }
        match registers.enqueue_raw_bytes(bytes) {
            Ok(taken) => taken,
            // The bytes are in the FIFO, only the interrupt could not be signalled.
            Err(_) => before.saturating_sub(registers.fifo_capacity()),
        }
    }

    /// How many input bytes would be taken now.
    pub fn input_room(&self) -> usize {
        lock(&self.registers).fifo_capacity()
    }

    /// Signalled when the guest has read the last input byte that was waiting.
    pub fn room(&self) -> &EventFd {
        &self.shared.room
    }

    /// The registers as they are, input that the guest has not read included.
    pub fn save(&self) -> SerialState {
        lock(&self.registers).state()
    }

    /// Puts the registers back, with no interrupt and no wake-up left over from what came after. The processors have to stand
    /// still. Output that has left is not taken back, nor is input that was read from where it comes from.
    pub fn restore(&self, saved: &SerialState) -> Result<(), ForeignState> {
        // The one thing that the registers refuse, found before they give away the output.
        if saved.in_buffer.len() > FIFO {
            return Err(ForeignState);
        }
        let mut registers = lock(&self.registers);
        let line = Line(self.shared.clone());
        let out = std::mem::replace(registers.writer_mut(), Box::new(io::sink()));
        self.shared.restoring.store(true, Relaxed);
        let restored = Registers::from_state(saved, line.clone(), line, out);
        self.shared.restoring.store(false, Relaxed);
        *registers = restored.map_err(|_| ForeignState)?;
        // Empty counters are what is wanted.
        let _ = self.shared.irq.read();
        let _ = self.shared.room.read();
        Ok(())
    }

    /// What the line has carried so far.
    pub fn counts(&self) -> SerialCounts {
        SerialCounts {
            out: self.shared.out.load(Relaxed),
            lost: self.shared.lost.load(Relaxed),
            input: self.shared.input.load(Relaxed),
            interrupts: self.shared.interrupts.load(Relaxed),
        }
    }
}

impl<A> Device<A> for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) -> Access<A> {
        match (u8::try_from(offset), data) {
            (Ok(offset), [byte]) => {
                *byte = lock(&self.registers).read(offset);
                Access::Done
            }
            _ => Access::Refused(Refusal::Width),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Access<A> {
        match (u8::try_from(offset), data) {
            (Ok(offset), [byte]) => {
                // Both possible errors are the host's and already counted or harmless: a byte that could not be
                // written, and an interrupt descriptor whose counter is full because nobody takes interrupts.
                let _ = lock(&self.registers).write(offset, *byte);
                Access::Done
            }
            _ => Access::Refused(Refusal::Width),
        }
    }
}
