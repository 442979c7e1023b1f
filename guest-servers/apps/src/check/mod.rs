//! What the guest's test programs share: cases and their report lines, measured counters, buffers with absent pages, a
//! second party.
//!
//! The one thing to hold in mind: a test asserts what it measured. How many copies met an absent page and how often VFS
//! repeated an operation comes from the guest's counters, before and after; a case that was to have a fault and had none
//! has failed. What it is not: a framework. A program runs cases one after the other and prints a line for each; the host
//! reads the console.

pub mod case;
pub mod exercise;
pub mod schedule;
pub mod text;

#[cfg(feature = "guest")]
pub mod area;
#[cfg(feature = "guest")]
pub mod buffer;
#[cfg(feature = "guest")]
pub mod crash;
#[cfg(feature = "guest")]
pub mod family;
#[cfg(feature = "guest")]
pub mod files;
#[cfg(feature = "guest")]
pub mod grants;
#[cfg(feature = "guest")]
pub mod hazards;
#[cfg(feature = "guest")]
pub mod marks;
#[cfg(feature = "guest")]
pub mod measure;
#[cfg(feature = "guest")]
pub mod party;
#[cfg(feature = "guest")]
pub mod pipes;
#[cfg(feature = "guest")]
pub mod poison;
#[cfg(feature = "guest")]
pub mod program;
#[cfg(feature = "guest")]
pub mod raw;
#[cfg(feature = "guest")]
pub mod retry;
#[cfg(feature = "guest")]
pub mod suite;
#[cfg(feature = "guest")]
pub mod table;

/// Ends a case with a complaint unless a condition holds: `ensure!(count == 3, "{count} instead of 3")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($argument:tt)*) => {
        if !$condition {
            return Err(::alloc::format!($($argument)*));
        }
    };
}
