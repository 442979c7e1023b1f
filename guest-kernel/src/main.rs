//! The kernel image: Refault's microkernel on x86-64.
//!
//! The one thing to hold in mind: ring 3 enters through `arch::x86_64::trap`, one process at a time, under the
//! big kernel lock; what happens then is decided by the library `refault_kernel` and by the kernel calls in
//! `system`. All unsafe code and all assembly is in `arch`. What is not here: memory management, files,
//! processes as users know them; those are servers.
#![no_std]
#![no_main]

mod arch;
mod kernel;
mod standstill;
mod system;
