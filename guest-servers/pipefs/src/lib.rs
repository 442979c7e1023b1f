//! The pipe file system: pipes without names, behind the requests of [`refault_abi::fs`].
//!
//! The one thing to hold in mind: reading a pipe consumes. VFS repeats an operation whose copy met an absent page, so
//! nothing may be consumed, and nothing added, before the one copy of a request is over and complete.
//!
//! What it is not: a place to wait. An empty or full pipe is EAGAIN; VFS keeps the process and asks again when the other
//! end has moved. Nor is there a device, a name or an owner: `fs=` does not apply, a failed copy fails the request.
//!
//! | module | |
//! |---|---|
//! | [`pipe`] | one pipe: bytes, ends |
//! | [`server`] | dispatch and references |
//! | [`system`] | what is below, as a trait |
#![no_std]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "guest")]
pub mod guest;
pub mod pipe;
pub mod server;
pub mod system;

pub use server::Server;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]
mod tests;
