//! The reincarnation server's logic: who is alive, who has to be made again, and when.
//!
//! The one thing to hold in mind: time is counted in heartbeat periods, so that everything here is plain computation. What
//! is not here: making processes (VM), letting them run (PM), and what the others do with a new server's endpoint.
#![no_std]

extern crate alloc;

pub mod excuse;
pub mod lookups;
pub mod service;
