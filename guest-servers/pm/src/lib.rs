//! The process manager's logic: who is whose child, who waits, what a dead child leaves behind.
//!
//! The one thing to hold in mind: records are known by endpoint, never by slot, because the kernel gives a dead
//! child's slot away long before its parent asks for the status.
#![no_std]

extern crate alloc;

pub mod family;
