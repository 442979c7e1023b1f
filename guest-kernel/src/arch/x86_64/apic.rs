//! Interrupt controllers and the timer.
//!
//! The one thing to hold in mind: the timer is one-shot and runs only while something needs it (an alarm, or a
//! rival for the processor), so an idle or undisturbed system takes no ticks. What is not here: what an interrupt
//! means (`kernel`).

use core::ptr;

use super::pages::map_device;
use super::registers::{cpuid, msr, out8, pause, read_msr, time_stamp, write_msr};
use crate::kernel::LINES;

/// Vector of line 0.
pub const FIRST_LINE: u64 = 48;
/// Vector of the timer.
pub const TIMER: u64 = 224;
const SPURIOUS: u32 = 255;
/// Length of a turn when there is a rival.
const TICKS_PER_SECOND: u64 = 100;
/// Frequency of the timer where nothing else is known: KVM's and QEMU's.
const DEFAULT_HZ: u64 = 1_000_000_000;

/// Local APIC registers (offsets of the memory-mapped form).
mod local {
    pub const ID: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const END: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const TIMER: u32 = 0x320;
    pub const LINT0: u32 = 0x350;
    pub const INITIAL: u32 = 0x380;
    pub const CURRENT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
}
const MASKED: u32 = 1 << 16;

/// The local APIC, by register or by memory, and the I/O APIC.
pub struct Interrupts {
    /// Kernel address of the local APIC's registers, 0 in x2APIC mode.
    local: u64,
    /// Kernel address of the I/O APIC.
    io: u64,
    /// Lines it has.
    lines: usize,
}

impl Interrupts {
    /// Before anything is set up.
    pub const NONE: Interrupts = Interrupts { local: 0, io: 0, lines: 0 };

    /// Sets up the local APIC of this processor and finds the I/O APIC. `None` when they cannot be mapped.
    pub fn start(no_execute: u64) -> Option<Interrupts> {
        // The legacy controllers are silenced in case they exist.
        out8(0x21, 0xff);
        out8(0xa1, 0xff);
        let base = read_msr(msr::APIC_BASE);
        let x2apic = cpuid(1, 0).ecx & (1 << 21) != 0;
        let mode = if x2apic { 0xc00 } else { 0x800 };
        // SAFETY: turns the local APIC on where it already is.
        unsafe { write_msr(msr::APIC_BASE, base | mode) };
        let local = if x2apic { 0 } else { map_device(base & 0xf_ffff_f000, no_execute)? };
        const IO_APIC: u64 = 0xfec0_0000;
        let mut interrupts = Interrupts { local, io: map_device(IO_APIC, no_execute)?, lines: 0 };
        interrupts.write(local::SPURIOUS, 0x100 | SPURIOUS);
        interrupts.write(local::LINT0, MASKED);
        interrupts.write(local::TASK_PRIORITY, 0);
        interrupts.write(local::DIVIDE, 0b1011);
        interrupts.write(local::TIMER, MASKED | TIMER as u32);
        let version = interrupts.io_read(1);
        // Nothing there reads as all ones.
        interrupts.lines = if version == u32::MAX { 0 } else { ((version >> 16 & 0xff) + 1) as usize };
        interrupts.lines = interrupts.lines.min(LINES);
        Some(interrupts)
    }

    fn write(&self, register: u32, value: u32) {
        if self.local == 0 {
            // SAFETY: x2APIC registers, written as their meaning requires by the functions of this file.
            unsafe { write_msr(msr::X2APIC + (register >> 4), u64::from(value)) }
        } else {
            let place = ptr::with_exposed_provenance_mut::<u32>((self.local + u64::from(register)) as usize);
            // SAFETY: mapped by `start`, aligned.
            unsafe { place.write_volatile(value) }
        }
    }

    fn read(&self, register: u32) -> u32 {
        if self.local == 0 {
            read_msr(msr::X2APIC + (register >> 4)) as u32
        } else {
            let place = ptr::with_exposed_provenance::<u32>((self.local + u64::from(register)) as usize);
            // SAFETY: mapped by `start`, aligned.
            unsafe { place.read_volatile() }
        }
    }

    fn io_select(&self, register: u32) -> *mut u32 {
        let select = ptr::with_exposed_provenance_mut::<u32>(self.io as usize);
        // SAFETY: mapped by `start`, aligned.
        unsafe { select.write_volatile(register) };
        ptr::with_exposed_provenance_mut((self.io + 0x10) as usize)
    }

    fn io_read(&self, register: u32) -> u32 {
        // SAFETY: mapped by `start`, aligned.
        unsafe { self.io_select(register).read_volatile() }
    }

    fn io_write(&self, register: u32, value: u32) {
        // SAFETY: mapped by `start`, aligned.
        unsafe { self.io_select(register).write_volatile(value) }
    }

    /// Says that an interrupt has been taken.
    pub fn end(&self) {
        self.write(local::END, 0);
    }

    /// Lines that can be routed.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Routes an edge-triggered line to this processor, masked or not.
    pub fn route(&self, line: usize, masked: bool) {
        if line >= self.lines {
            return;
        }
        let id = self.read(local::ID);
        let id = if self.local == 0 { id } else { id >> 24 };
        let entry = 0x10 + 2 * line as u32;
        self.io_write(entry + 1, id << 24);
        self.io_write(entry, (FIRST_LINE as u32 + line as u32) | if masked { MASKED } else { 0 });
    }

    /// Starts the one-shot timer.
    fn arm(&self, count: u32) {
        self.write(local::TIMER, TIMER as u32);
        self.write(local::INITIAL, count);
    }
}

/// Time stamps, and the timer in terms of them.
pub struct Timer {
    /// Time stamps per millisecond.
    pub khz: u64,
    /// Timer counts per millisecond.
    timer_khz: u64,
    /// When the timer goes off, `u64::MAX` when it is not running.
    deadline: u64,
    /// It is running to end a turn.
    turn: bool,
}

impl Timer {
    /// Before anything is known.
    pub const NONE: Timer = Timer { khz: 1, timer_khz: 1, deadline: u64::MAX, turn: false };

    /// Finds out how fast time stamp and timer run. `hz` is the timer's frequency, where the user says so.
    pub fn start(interrupts: &Interrupts, hz: Option<u64>) -> Timer {
        let mut khz = 0;
        let mut timer_khz = DEFAULT_HZ / 1000;
        // The hypervisor's own word, if it has one.
        if cpuid(1, 0).ecx >> 31 != 0 && (0x4000_0010..0x4001_0000).contains(&cpuid(0x4000_0000, 0).eax) {
            let leaf = cpuid(0x4000_0010, 0);
            khz = u64::from(leaf.eax);
            if leaf.ebx != 0 {
                timer_khz = u64::from(leaf.ebx);
            }
        }
        if let Some(hz) = hz {
            timer_khz = hz / 1000;
        }
        if khz == 0 && cpuid(0, 0).eax >= 0x15 {
            let leaf = cpuid(0x15, 0);
            if leaf.eax != 0 {
                khz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax) / 1000;
            }
        }
        if khz == 0 {
            khz = measure(interrupts, timer_khz);
        }
        Timer { khz: khz.max(1), timer_khz: timer_khz.max(1), deadline: u64::MAX, turn: false }
    }

    /// Makes sure that the timer goes off at `deadline` or before.
    pub fn arm(&mut self, interrupts: &Interrupts, deadline: u64) {
        if self.deadline <= deadline {
            return;
        }
        self.deadline = deadline;
        let stamps = deadline.saturating_sub(time_stamp());
        // Below the limit the product cannot wrap; a longer wait is armed again when it ends early.
        const LIMIT: u64 = 1 << 40;
        let count = stamps.min(LIMIT) * self.timer_khz.min(1 << 22) / self.khz;
        interrupts.arm(count.clamp(1, u64::from(u32::MAX)) as u32);
    }

    /// Makes sure that the current turn ends.
    #[inline(always)]
    pub fn arm_turn(&mut self, interrupts: &Interrupts) {
        if !self.turn {
            self.turn = true;
            self.arm(interrupts, time_stamp() + self.khz * 1000 / TICKS_PER_SECOND);
        }
    }

    /// The timer went off. Whether a turn is over.
    pub fn fired(&mut self) -> bool {
        self.deadline = u64::MAX;
        core::mem::take(&mut self.turn)
    }
}

/// Time stamps per millisecond, measured against the timer for a millisecond.
fn measure(interrupts: &Interrupts, timer_khz: u64) -> u64 {
    let counts = timer_khz.min(u64::from(u32::MAX / 2)) as u32;
    interrupts.write(local::TIMER, MASKED | TIMER as u32);
    interrupts.write(local::INITIAL, u32::MAX);
    let begin = time_stamp();
    let mut left = u32::MAX;
    // A timer that does not run must not stop the boot.
    for _ in 0..10_000_000u32 {
        left = interrupts.read(local::CURRENT);
        if u32::MAX - left >= counts {
            break;
        }
        pause();
    }
    let stamps = time_stamp() - begin;
    interrupts.write(local::INITIAL, 0);
    let elapsed = u64::from(u32::MAX - left).max(1);
    stamps.saturating_mul(u64::from(counts)) / elapsed
}
