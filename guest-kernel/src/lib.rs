//! The logic of Refault's microkernel, as a library without a machine.
//!
//! The one thing to hold in mind: everything that decides is here and is tested on the host; everything that
//! moves registers, loads page tables or touches devices is in the kernel's binary (`arch`), which calls
//! this. What is not here: policy about memory, files or processes; that is the servers'.
#![cfg_attr(not(test), no_std)]

pub mod elf;
pub mod frame;
pub mod grant;
pub mod graph;
pub mod image;
pub mod ipc;
pub mod marks;
pub mod options;
pub mod poison;
pub mod process;
pub mod pvh;
pub mod ready;
pub mod symbols;
pub mod table;
pub mod transfer;
pub mod vmrequest;
pub mod walk;
pub mod watchdog;
