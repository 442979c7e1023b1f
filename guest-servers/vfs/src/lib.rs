//! The virtual file system: descriptors, paths, positions, and the retry that hides soft faults.
//!
//! # What VFS never does
//! It never blocks on anybody who may need VFS. Concretely:
//! - it receives in one place and waits nowhere else. A request is an async task; what a task waits for is a message
//!   that the one receive loop will take (`executor.rs`, `transport.rs`);
//! - requests to file systems, VM and drivers are posted asynchronously and their answers found by transaction id;
//!   answers to processes are offered to a process that is known to wait, once;
//! - it lends user memory to file systems with CPF_TRY, so that a file system is never suspended on VM in the middle
//!   of a request that VM's own page-in would have to queue behind (`retry.rs`);
//! - the one server it does wait for is VM: for anonymous memory of its own (its heap, its grant table), and to have it bring
//!   in what of a user's memory it can without a file system. VM serves that without VFS, and never waits for anybody;
//! - it copies from and to users itself only in the form that fails instead of waiting (`usercopy.rs`);
//! - a page-in for VM takes no lock: not the vnode's, not the open file's (`requests/vm.rs`). A process may read from a
//!   file into a mapping of the same file, or write it from there, while its request holds those locks;
//! - a request that may have to wait for ever (for a pipe to move, for somebody to type) holds nothing meanwhile, and ends when
//!   its process does.
//!
//! In the faithful mode it does several of these things, as the seed's does: all of that is in `faithful.rs`.
//!
//! # The one thing to hold in mind
//! An operation's inputs are frozen before its first attempt, and its outputs are taken from its last answer. Nothing
//! that an attempt leaves behind in VFS outlives it, so an attempt can be repeated.
//!
//! # What it is not
//! Not a cache of names or data (the file system has one), not an access control (everybody is the superuser), and not
//! a mount table for users: there is one root file system, `/mnt` when there is a second disk, and `/dev`.
//!
//! | module | |
//! |---|---|
//! | [`kernel`] | what is below, as a trait |
//! | [`executor`], [`cell`], [`transport`] | tasks, what they wait for, requests and answers |
//! | [`mount`], `restart` | file systems and drivers: turns, and what happens when one dies |
//! | [`retry`] | the retry; `seeded` has mistakes of it for the mutation score |
//! | [`path`], [`position`], [`process`], [`vnode`], [`pipe`], [`device`] | names, numbers, descriptors, what they lead to |
//! | [`faithful`] | what only the seed's has |
//! | [`server`] | dispatch; `requests/` the requests |
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cell;
pub mod device;
pub mod executor;
pub mod faithful;
#[cfg(feature = "guest")]
pub mod guest;
pub mod kernel;
pub mod mount;
pub mod path;
pub mod pipe;
pub mod position;
pub mod process;
mod requests;
mod restart;
pub mod retry;
mod seeded;
pub mod server;
pub mod transport;
mod usercopy;
pub mod vnode;
#[cfg(test)]
mod world;
#[cfg(test)]
mod world_tests;
