//! The process manager's logic: who is whose child, who waits, what a dead child leaves behind.
//!
//! The one thing to hold in mind: records are known by endpoint, never by slot, because the kernel gives a dead
//! child's slot away long before its parent asks for the status.
//!
//! | module | for |
//! |---|---|
//! | [`family`] | parents, children, statuses, the foreground |
//! | [`errands`] | what other servers have been asked and not yet answered |
//! | [`words`] | what a program's name says |
#![no_std]

extern crate alloc;

pub mod errands;
pub mod family;
pub mod words;
