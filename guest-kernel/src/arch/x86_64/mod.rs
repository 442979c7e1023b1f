//! x86-64, entered by PVH.

use core::mem::offset_of;

use refault_kernel::process::Process;
use refault_kernel::ready::Ready;
use refault_kernel::table::Table;

use crate::kernel::Kernel;

mod apic;
mod cpu;
mod doorbell;
mod machine;
mod pages;
mod panic;
mod probe;
mod registers;
mod serial;
mod start;
mod trap;

pub use doorbell::{argument, away_begins, counter, event, page_away, report_page, wedged};
pub use machine::{Machine, Marking, Reading};
pub use pages::{adopt_root, flush_range};
pub use registers::time_stamp;
pub use serial::{interrupts as serial_interrupts, log, read as serial_read, write as serial_write};

pub use start::user_frame;

core::arch::global_asm!(include_str!("boot.s"), options(raw));
core::arch::global_asm!(
    // What the fast path knows about the kernel's state.
    ".set KERNEL_STATE, {kernel}",
    ".set PROCESSES, {table} + {procs}",
    ".set READY_LEVELS, {table} + {ready} + {levels}",
    ".set P_ROOT, {root}",
    ".set P_FLAGS, {flags}",
    ".set P_ENDPOINT, {endpoint}",
    ".set P_RECEIVE_FROM, {receive_from}",
    ".set P_REPLY_PENDING, {reply_pending}",
    ".set P_QUEUE_HEAD, {queue_head}",
    ".set P_NOTIFY_KERNEL, {notify_kernel}",
    ".set P_TRAP_MASK, {trap_mask}",
    ".set P_RIVALS, {rivals}",
    ".set P_NOTIFY, {notify}",
    ".set P_ASYNC_PENDING, {async_pending}",
    ".set P_SEND_MASK, {send_mask}",
    ".set C_CURRENT, {current}",
    ".set C_ROOT, {cpu_root}",
    ".set C_RSP0, {rsp0}",
    ".set COUNTERS, {counters}",
    include_str!("entry.s"),
    kernel = sym trap::KERNEL,
    table = const offset_of!(Kernel, table),
    procs = const offset_of!(Table, procs),
    ready = const offset_of!(Table, ready),
    levels = const offset_of!(Ready, levels),
    root = const offset_of!(Process, root),
    flags = const offset_of!(Process, flags),
    endpoint = const offset_of!(Process, endpoint),
    receive_from = const offset_of!(Process, receive_from),
    reply_pending = const offset_of!(Process, reply_pending),
    queue_head = const offset_of!(Process, queue_head),
    notify_kernel = const offset_of!(Process, notify_kernel),
    trap_mask = const offset_of!(Process, trap_mask),
    rivals = const offset_of!(Process, rivals),
    notify = const offset_of!(Process, notify),
    async_pending = const offset_of!(Process, async_pending),
    send_mask = const offset_of!(Process, send_mask),
    current = const cpu::offset::CURRENT,
    cpu_root = const cpu::offset::ROOT,
    rsp0 = const cpu::offset::RSP0,
    counters = sym doorbell::COUNTERS,
);
core::arch::global_asm!(include_str!("copy.s"), options(raw));
core::arch::global_asm!(include_str!("stub.s"), options(raw));

/// Ends the machine: the exit port (isa-debug-exit's address) takes the status.
pub fn exit(status: u32) -> ! {
    const EXIT_PORT: u16 = 0xf4;
    registers::out32(EXIT_PORT, status);
    loop {
        registers::halt();
    }
}
