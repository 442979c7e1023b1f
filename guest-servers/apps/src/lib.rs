//! What the programs share: words for errors, sums, the calendar, and what `softread` checks.
//!
//! The one thing to hold in mind: everything here is plain computation over what a program has read, and is tested on the
//! host; only `mapping` and `files` (in the guest) ask the system for anything. Exit statuses everywhere: 0 done, 1 something
//! failed, 2 the program was called wrongly.
#![no_std]

extern crate alloc;

pub mod check;
#[cfg(feature = "guest")]
pub mod each;
#[cfg(feature = "guest")]
pub mod files;
#[cfg(feature = "guest")]
pub mod mapping;
pub mod paths;
pub mod procs;
pub mod reason;
pub mod shell;
pub mod softread;
pub mod status;
pub mod sum;

/// Exit status: done.
pub const DONE: i32 = 0;
/// Exit status: something failed, and a line on descriptor 2 said what.
pub const FAILED: i32 = 1;
/// Exit status: called wrongly.
pub const USAGE: i32 = 2;
