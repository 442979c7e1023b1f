//! A virtual processor: its thread, its exits, its registers.
//!
//! One thread per vCPU, which alone touches the vCPU's file descriptor. It runs the guest until an exit, does
//! what the exit asks for, and goes on; it ends when the machine does. Other threads reach it only through
//! [`signals`]' kick and the machine's stop flag.

pub mod exit;
pub mod measure;
mod registers;
pub mod signals;
pub mod thread;
mod trap;
