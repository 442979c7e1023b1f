//! From the assembly entry to the kernel's Rust, and the way back to a process.
//!
//! The one thing to hold in mind: each function here runs with the big kernel lock held and interrupts off, on
//! this processor's kernel stack, and returns the frame to leave to, or null to idle.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use refault_abi::counters::Counter;
use refault_abi::endpoint::NR_PROCS;
use refault_abi::ipc::Call;
use refault_abi::{Endpoint, Errno};
use refault_kernel::frame::Frame;
use refault_kernel::graph::Graph;
use refault_kernel::marks::Marks;
use refault_kernel::options::KernelOptions;
use refault_kernel::poison::Poisons;
use refault_kernel::table::Table;
use refault_kernel::transfer::Lost;
use refault_kernel::watchdog::Watchdog;

use super::apic::{FIRST_LINE, Interrupts, TIMER, Timer};
use super::cpu::{Cpu, PROCESSORS};
use super::doorbell::PoisonRecord;
use super::machine::Machine;
use super::registers::{fault_address, time_stamp};
use super::{doorbell, panic};
use crate::kernel::{Kernel, LINES};
use crate::system;

/// The big kernel lock: 1 while a processor is in the kernel. Taken and dropped in `entry.s`.
#[unsafe(no_mangle)]
pub static KERNEL_LOCK: AtomicU32 = AtomicU32::new(0);

pub(super) struct KernelCell(UnsafeCell<Kernel>);
// SAFETY: only whoever holds the big kernel lock takes a reference.
unsafe impl Sync for KernelCell {}

pub(super) static KERNEL: KernelCell = KernelCell(UnsafeCell::new(Kernel {
    table: Table::EMPTY,
    machine: Machine {
        low_end: 0,
        high_end: 0,
        interrupts: Interrupts::NONE,
        timer: Timer::NONE,
        drop_lock: false,
    },
    options: KernelOptions::DEFAULT,
    copies: 0,
    later: 0,
    lines: [Endpoint::NONE; LINES],
    marks: Marks::EMPTY,
    poisons: Poisons::EMPTY,
    graph: Graph::EMPTY,
    watchdog: Watchdog::OFF,
    buffer: [0; 4096],
}));

/// The kernel's state.
///
/// # Safety
/// The big kernel lock is held, or no other processor and no process runs yet; and there is no other
/// reference from an earlier call.
pub unsafe fn kernel() -> &'static mut Kernel {
    // SAFETY: the caller's promise.
    unsafe { &mut *KERNEL.0.get() }
}

/// Vector of a machine check.
const MACHINE_CHECK: u64 = 18;

/// Takes the lock during the start; leaving to the first process drops it.
pub fn lock_for_start() {
    KERNEL_LOCK.store(1, Ordering::Relaxed);
}

/// Lets other processors into the kernel while `action` runs.
pub fn without_lock<T>(action: impl FnOnce() -> T) -> T {
    KERNEL_LOCK.store(0, Ordering::Release);
    let result = action();
    while KERNEL_LOCK.swap(1, Ordering::Acquire) != 0 {
        super::registers::pause();
    }
    result
}

/// The system-call trap. What the entry code's fast path did not take comes here.
#[unsafe(no_mangle)]
extern "C" fn kernel_trap(cpu: &'static Cpu) -> *mut Frame {
    // SAFETY: the entry code holds the lock.
    let kernel = unsafe { kernel() };
    let me = usize::from(cpu.current()) & (NR_PROCS - 1);
    doorbell::count(Counter::KernelTraps, 1);
    if kernel.table.procs[me].frame.rax != Call::Kernel as u64 {
        return message_trap(kernel, cpu, me);
    }
    system::call(kernel, me);
    if kernel.table.goes_on(me) {
        &raw mut kernel.table.procs[me].frame
    } else {
        leave_later(kernel, cpu, me)
    }
}

#[inline(never)]
fn message_trap(kernel: &mut Kernel, cpu: &Cpu, me: usize) -> *mut Frame {
    let mut turn_over = false;
    match Call::from_raw(kernel.table.procs[me].frame.rax) {
        Some(call) => {
            turn_over = call == Call::Yield;
            kernel.table.primitive(&mut kernel.machine, me, call);
        }
        None => kernel.table.procs[me].frame.set_result(i64::from(Errno::EBADCALL.code())),
    }
    leave(kernel, cpu, Some(me), turn_over)
}

#[inline(never)]
fn leave_later(kernel: &mut Kernel, cpu: &Cpu, me: usize) -> *mut Frame {
    leave(kernel, cpu, Some(me), false)
}

/// Chooses who runs next and prepares the processor for it.
#[inline(always)]
fn leave(kernel: &mut Kernel, cpu: &Cpu, from: Option<usize>, turn_over: bool) -> *mut Frame {
    let Some(next) = kernel.table.schedule(from, turn_over) else {
        cpu.set_idle();
        return ptr::null_mut();
    };
    let process = &mut kernel.table.procs[next];
    let root = process.root;
    let frame = &raw mut process.frame;
    if from != Some(next) {
        cpu.set_current(next, frame);
        cpu.load_root(root);
        doorbell::count(Counter::Switches, 1);
    }
    if kernel.table.has_rival(next)
        && (!kernel.table.marks_wait(next) || kernel.deliver_marks(next, from == Some(next)))
    {
        kernel.machine.timer.arm_turn(&kernel.machine.interrupts);
    }
    frame
}

/// Runs the first process: to be returned to `leave_kernel` with the lock held.
pub fn first(kernel: &mut Kernel, cpu: &Cpu) -> *mut Frame {
    leave(kernel, cpu, None, false)
}

/// An exception in ring 3.
#[unsafe(no_mangle)]
extern "C" fn kernel_exception(cpu: &'static Cpu) -> *mut Frame {
    // SAFETY: the entry code holds the lock.
    let kernel = unsafe { kernel() };
    let me = usize::from(cpu.current()) & (NR_PROCS - 1);
    let process = &kernel.table.procs[me];
    let (vector, is_vm) = (process.frame.vector, process.endpoint == Endpoint::VM);
    if vector == MACHINE_CHECK {
        match doorbell::take_poisoned(cpu.number(), process.frame.rip) {
            Some(PoisonRecord { gpa, gva }) => {
                kernel.count(Counter::PoisonedUser);
                kernel.poisoned(me, gpa, gva);
            }
            None => panic::exception(&process_frame(kernel, me), format_args!("machine check in ring 3")),
        }
    } else if vector == 14 {
        let address = fault_address();
        match doorbell::take_reflected(cpu, address) {
            // Nobody can serve VM's own faults but the monitor.
            Some(page) if is_vm => {
                kernel.count(Counter::ReflectedUser);
                ask_back(cpu, page, &process_frame(kernel, me));
            }
            None if is_vm => panic::exception(
                &process_frame(kernel, me),
                format_args!("VM touched {address:#x}, which is not mapped"),
            ),
            reflected => kernel.page_fault(me, address, reflected.is_some()),
        }
    } else if is_vm {
        panic::exception(&process_frame(kernel, me), format_args!("exception {vector} in VM"));
    } else {
        const FPE: u32 = 8;
        const ILL: u32 = 4;
        const TRAP: u32 = 5;
        const BUS: u32 = 7;
        const SEGV: u32 = 11;
        let signal = match vector {
            0 | 16 | 19 => FPE,
            1 => TRAP,
            6 | 7 => ILL,
            17 => BUS,
            _ => SEGV,
        };
        let rip = kernel.table.procs[me].frame.rip;
        kernel.stop(me, signal, rip);
    }
    leave(kernel, cpu, Some(me), false)
}

fn process_frame(kernel: &Kernel, me: usize) -> Frame {
    kernel.table.procs[me].frame
}

/// Asks the monitor for a page that the kernel or VM needs now.
fn ask_back(cpu: &Cpu, page: u64, frame: &Frame) {
    /// Far more than any schedule of single faults; a rule that keeps such a page away for ever ends here.
    const PATIENCE: u64 = 100_000;
    if cpu.count_stubborn(page) > PATIENCE {
        panic::exception(frame, format_args!("page {page:#x} does not come back"));
    }
    doorbell::page_back(page);
}

/// An interrupt. `user`: ring 3 was interrupted, else the idle loop with this `vector`.
#[unsafe(no_mangle)]
extern "C" fn kernel_interrupt(cpu: &'static Cpu, user: u64, vector: u64) -> *mut Frame {
    // SAFETY: the entry code holds the lock.
    let kernel = unsafe { kernel() };
    let from = (user != 0).then_some(usize::from(cpu.current()) & (NR_PROCS - 1));
    let vector = from.map_or(vector, |slot| kernel.table.procs[slot].frame.vector);
    kernel.machine.interrupts.end();
    let mut turn_over = false;
    if vector == TIMER {
        kernel.count(Counter::Ticks);
        turn_over = kernel.machine.timer.fired();
        let now = time_stamp();
        if kernel.watchdog.due(now) {
            kernel.watch(now, from.is_some());
        }
        kernel.table.expire_alarms(now);
        let next = kernel.table.next_alarm.min(kernel.watchdog.next);
        if next != u64::MAX {
            kernel.machine.timer.arm(&kernel.machine.interrupts, next);
        }
    } else if let Some(line) = vector.checked_sub(FIRST_LINE) {
        kernel.interrupt(line as usize);
    }
    leave(kernel, cpu, from, turn_over)
}

unsafe extern "C" {
    fn copy_begin();
    fn copy_end();
    fn copy_out();
    fn fill_begin();
    fn fill_end();
    fn fill_out();
}

/// Where an expected fault at `rip` continues.
fn landing(rip: u64) -> Option<u64> {
    let at = |label: unsafe extern "C" fn()| label as *const () as u64;
    let table = [(at(copy_begin), at(copy_end), at(copy_out)), (at(fill_begin), at(fill_end), at(fill_out))];
    table.into_iter().find(|(begin, end, _)| (*begin..*end).contains(&rip)).map(|(.., out)| out)
}

/// An exception in ring 0. The kernel's state is in use by whatever was interrupted and is not touched.
#[unsafe(no_mangle)]
extern "C" fn kernel_fault(frame: &mut Frame) {
    if frame.vector == 14 {
        let address = fault_address();
        let cpu = Cpu::this();
        let reflected = doorbell::take_reflected(cpu, address);
        if let Some(out) = landing(frame.rip) {
            cpu.set_copy_fault(address, if reflected.is_some() { Lost::Away } else { Lost::Absent });
            frame.rip = out;
            return;
        }
        if let Some(page) = reflected {
            // Page tables, grant entries, marks, queues: the kernel cannot do without them, so it asks at once.
            doorbell::count(Counter::ReflectedKernel, 1);
            ask_back(cpu, page, frame);
            return;
        }
        panic::exception(frame, format_args!("page fault at {address:#x} in the kernel"));
    }
    panic::exception(frame, format_args!("exception {} in the kernel", frame.vector));
}

/// A machine check in ring 0. A copy that touched a poisoned page ends there; whatever else the kernel cannot read is the end of
/// the machine. GS is not used before the interrupted code is known to have had the kernel's.
#[unsafe(no_mangle)]
extern "C" fn kernel_machine_check(frame: &mut Frame) {
    if let Some(out) = landing(frame.rip) {
        let cpu = Cpu::this();
        if let Some(PoisonRecord { gva, .. }) = doorbell::take_poisoned(cpu.number(), frame.rip) {
            cpu.set_copy_fault(gva, Lost::Poisoned);
            frame.rip = out;
            return;
        }
    }
    match (0..PROCESSORS).find_map(|processor| doorbell::take_poisoned(processor, frame.rip)) {
        Some(PoisonRecord { gpa, gva }) => {
            doorbell::count(Counter::PoisonedKernel, 1);
            panic::exception(
                frame,
                format_args!("the kernel touched a poisoned page, {gpa:#x} at {gva:#x}, outside a copy"),
            );
        }
        None => panic::exception(frame, format_args!("machine check in the kernel")),
    }
}

/// NMI, double fault.
#[unsafe(no_mangle)]
extern "C" fn kernel_fatal(frame: &Frame) -> ! {
    let what = match frame.vector {
        2 => "non-maskable interrupt",
        8 => "double fault",
        _ => "fatal exception",
    };
    panic::exception(frame, format_args!("{what}"));
}
