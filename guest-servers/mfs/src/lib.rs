//! The file system server: MINIX version 3, behind the requests of [`refault_abi::fs`].
//!
//! It serves one mount, one request at a time, and waits for two others only: the block driver and VM, neither of which
//! ever waits for a file system. It never waits for a user: user memory comes as grants with CPF_TRY, and a copy that
//! meets an absent page fails (`transfer.rs` says what is answered then; `fs=` chooses). A driver that is restarted is waited for,
//! as long as RS has not given it up.
//!
//! # The one thing to hold in mind
//! Two caches, never of the same block. Metadata (bitmaps, inodes, indirect blocks, directories, symbolic links) lives in
//! [`blocks`], by block number, and is changed by `refault-minixfs`. The contents of regular files live in [`pages`], by
//! (inode, page), in whole pages that VM maps into whoever maps the file: a file's page has one frame, so a write is
//! seen in every mapping at once. The disk as bytes is a third view of the same; [`device`] says how they stay one.
//!
//! # Invariants
//! - A cached page is zero behind the end of its file, so growing a file never shows old bytes.
//! - A file's size is moved over bytes that arrived, not over bytes that were asked for (`swallow` lies by design).
//! - A block that cannot be read or believed is EIO to the request that needs it, and to no other.
//!
//! # What it is not
//! Not a path walker (VFS walks, one component at a time), not an access control, not a journal.
//!
//! | module | |
//! |---|---|
//! | [`system`] | what is below, as a trait: driver, VM, copies |
//! | [`blocks`], [`pages`] | the two caches |
//! | [`mount`] | a mounted volume: file pages in, out and cut off; references |
//! | `change` | changing the volume in an order that a death cannot spoil |
//! | [`transfer`] | requests that copy to or from a user |
//! | [`device`] | the disk itself, beside the mounted file system |
//! | [`retry`] | a driver that is restarted |
//! | [`names`] | requests on names |
//! | [`server`] | dispatch |
#![no_std]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod blocks;
mod change;
pub mod device;
mod error;
mod follow;
#[cfg(feature = "guest")]
pub mod guest;
pub mod mount;
pub mod names;
pub mod pages;
pub mod retry;
pub mod server;
pub mod system;
pub mod transfer;

pub use server::Server;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]
mod tests;
