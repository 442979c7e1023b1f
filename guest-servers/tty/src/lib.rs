//! The terminal's logic: lines out of typed characters, and whose read gets which.
//!
//! The one thing to hold in mind: input is consumed only after it has arrived in the reader's memory, so a copy that fails
//! loses nothing.
#![no_std]

extern crate alloc;

pub mod line;
pub mod readers;
