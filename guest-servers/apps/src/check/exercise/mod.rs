//! `sys_exercise`: the guest's side of campaigns. Workloads that check themselves, from a mark on at which a machine can be kept and
//! to which it can be put back.
//!
//! Before the mark everything is prepared; at the mark the program says so (event READY); behind it, it reads what to do and does it, as
//! briefly as it can. The one thing to hold in mind: a run is judged by what is reported, so every error that is not defined, every
//! byte, every count and every position that is not what it must be is a case that failed. What it is not: a benchmark.

pub mod argument;
pub mod random;

#[cfg(feature = "guest")]
pub mod crew;
#[cfg(feature = "guest")]
pub mod crowd;
#[cfg(feature = "guest")]
pub mod fsx;
#[cfg(feature = "guest")]
pub mod gauges;
#[cfg(feature = "guest")]
pub mod names;
#[cfg(feature = "guest")]
pub mod pipes;
#[cfg(feature = "guest")]
pub mod requests;
#[cfg(feature = "guest")]
pub mod rest;
#[cfg(feature = "guest")]
pub mod run;
#[cfg(feature = "guest")]
pub mod touch;
#[cfg(feature = "guest")]
pub mod trouble;
#[cfg(feature = "guest")]
pub mod window;
