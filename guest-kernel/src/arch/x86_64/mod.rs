//! x86-64, entered by PVH.

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

pub use doorbell::{event, report_page};
pub use machine::{Machine, Marking};
pub use pages::{adopt_root, flush_range};
pub use registers::time_stamp;
pub use serial::{log, write as serial_write};

pub use start::user_frame;

core::arch::global_asm!(include_str!("boot.s"), options(raw));
core::arch::global_asm!(include_str!("entry.s"), options(raw));
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
