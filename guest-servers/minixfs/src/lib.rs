//! The MINIX file system, version 3, as a library: what is on the disk, and how it changes.
//!
//! Two programs use it: the guest's file system server (`mfs`) and the host's `refault mkfs`. The format is
//! the one that `mkfs.minix -3` of util-linux makes, `fsck.minix` checks and Linux mounts:
//!
//! ```text
//! block 0        boot block, never touched
//! byte 1024      superblock
//! block 2 ..     inode bitmap, zone bitmap, inode table (64-byte inodes), then the data zones
//! ```
//!
//! The one thing to hold in mind: **metadata and file data take different ways**. Superblock, bitmaps, inodes,
//! indirect blocks, directories and symbolic links are read and changed here, through a [`BlockStore`].
//! The contents of *regular files* never pass through this crate: it only says which zone holds a file
//! block ([`Volume::map`]), gives out zones ([`Volume::map_for_write`]) and keeps the size, and its user moves
//! the bytes (the server by pages shared with the VM server, `mkfs` by plain writes).
//!
//! Everything read from the disk is hostile. Each number is checked where it is used, a corrupt structure ends in
//! [`Error::Corrupt`] with what and where, every walk is bounded, and no input makes this crate panic.
//!
//! Changes are made so that blocks can be written in an order ([`Rank`], [`Volume::keep_order`]) in which the disk can be mended
//! wherever the writing stopped ([`Volume::recover`]).
//!
//! What it is not: a cache (the store is), a journal (what was not flushed is lost), thread safe
//! (one request at a time), or a keeper of access times (reading changes nothing on the disk).
#![no_std]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]

extern crate alloc;

mod bitmap;
mod dir;
mod error;
pub mod format;
mod inode;
mod names;
mod order;
mod recover;
mod store;
mod superblock;
mod volume;
mod zones;

pub use bitmap::Space;
pub use dir::{Entry, NAME_MAX};
pub use error::{Corruption, Error, Location, Result};
pub use inode::{FileKind, INODE_SIZE, Inode, InodeNumber, ROOT_INODE};
pub use names::{Attributes, Removed};
pub use recover::Report;
pub use store::{BlockStore, IoError, MemoryStore, Rank};
pub use superblock::{SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Superblock, SuperblockError};
pub use volume::{Access, Volume};
pub use zones::{MAX_FILE_SIZE, Mapping};
