//! The machine: registers, page tables, interrupts, devices. Everything unsafe is below here.

mod x86_64;

pub use x86_64::*;
