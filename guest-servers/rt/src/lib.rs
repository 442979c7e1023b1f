//! What every server and program of the guest stands on: message passing, kernel calls, grants, memory.
//!
//! The one thing to hold in mind: a process has exactly one thread, so the global tables behind [`grants`],
//! [`heap`] and [`asyncsend`] need no locks; only words that the kernel writes too are atomics.
//! What it is not: a policy. Which server may do what is decided by the kernel and by each server.
//!
//! Without the feature `guest` the crate is a library like any other and builds for the host, so that the
//! servers' logic can be tested there; nothing that enters the kernel may be called then.
//!
//! | module | for |
//! |---|---|
//! | [`ipc`], [`asyncsend`], [`server`] | messages |
//! | [`kernel`] | kernel calls, typed |
//! | [`waits`] | what this server's requests wait for, for the watchdog |
//! | [`grants`] | memory grants as values that revoke themselves |
//! | [`touch`] | one's own pages after a failed copy |
//! | [`info`] | information page, options, counters |
//! | [`pages`], `heap` | memory from VM |
//! | [`user`] | what programs ask of PM, VFS and VM |
//! | [`print`], [`start`] | text out, `main` |
#![no_std]

#[cfg(feature = "guest")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod asyncsend;
pub mod grants;
#[cfg(feature = "guest")]
pub mod heap;
pub mod info;
pub mod ipc;
pub mod kernel;
#[cfg(feature = "guest")]
mod mem;
pub mod pages;
#[cfg(feature = "guest")]
mod panic;
pub mod print;
pub mod server;
mod single;
pub mod start;
pub mod touch;
pub mod user;
pub mod waits;

pub use refault_abi as abi;
pub use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
pub use single::Single;
