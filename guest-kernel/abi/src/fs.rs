//! Requests of VFS to a file system.
//!
//! VFS sends them with a transaction id and expects the answer under the same id; one request is
//! outstanding per mount. Numbers are those of specification 5.2 where it gives one. Memory is always
//! passed as a grant: names as direct grants over VFS's memory, user buffers as magic grants.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Mount`]: read the superblock. Reply: [`Node`] of the root.
pub const READSUPER: u16 = 0xA01;
/// [`Name`]: look one component up in a directory. Reply: [`Node`], with a reference taken.
pub const LOOKUP: u16 = 0xA02;
/// [`Name`] with the target in `grant2`: symbolic link. Reply: `Status`.
pub const SLINK: u16 = 0xA03;
/// [`NodeRef`]: give references back. Reply: `Status`.
pub const PUTNODE: u16 = 0xA04;
/// [`Name`]: create a regular file. Reply: [`Node`], with a reference taken.
pub const CREATE: u16 = 0xA05;
/// [`Name`]: make a directory. Reply: `Status`.
pub const MKDIR: u16 = 0xA06;
/// [`Name`]: remove a name that is no directory. Reply: `Status`.
pub const UNLINK: u16 = 0xA07;
/// [`Io`]: [`crate::vfs::Stat`] into the grant. Reply: `Status`.
pub const STAT: u16 = 0xA08;
/// [`Name`]: remove an empty directory. Reply: `Status`.
pub const RMDIR: u16 = 0xA09;
/// [`Rename`]. Reply: `Status`.
pub const RENAME: u16 = 0xA0A;
/// [`Io`] (inode unused): read the block device. Reply: [`Done`].
pub const BREAD: u16 = 0xA0B;
/// [`Io`] (inode unused): write the block device. Reply: [`Done`].
pub const BWRITE: u16 = 0xA0C;
/// [`Name`] with `inode2`: hard link to it. Reply: `Status`.
pub const LINK: u16 = 0xA0D;
/// [`Io`] with the size in `position`: truncate or extend. Reply: `Status`.
pub const FTRUNC: u16 = 0xA0E;
/// Bare: write back everything and flush the disk. Reply: `Status`.
pub const SYNC: u16 = 0xA0F;
/// Bare: write back, then forget every clean buffer and file page. Reply: `Status` with the pages forgotten.
pub const FLUSH: u16 = 0xA10;
/// Bare: write back, flush, forget. Reply: `Status`.
pub const UNMOUNT: u16 = 0xA11;
/// [`Io`]: read a regular file. Reply: [`Done`].
pub const READ: u16 = 0xA13;
/// [`Io`]: write a regular file. Reply: [`Done`].
pub const WRITE: u16 = 0xA14;
/// [`Io`] without a grant: bring the file's pages in and announce them to VM. Reply: `Status`.
pub const PEEK: u16 = 0xA15;
/// [`Io`] without a grant (inode unused): the same for pages of the block device, which VM knows as inode [`DEVICE_INODE`].
pub const BPEEK: u16 = 0xA16;
/// [`NodeRef`]: take references to an inode known by number, after a restart of the file system. Reply: [`Node`].
pub const GETNODE: u16 = 0xA17;
/// Bare: a pipe, from the pipe file system. Reply: [`Node`], with two references taken.
pub const NEWPIPE: u16 = 0xA18;
/// [`Io`] (inode; `position` 0 reading, 1 writing): an end of a pipe was closed for the last time. Reply: `Status`.
pub const CLOSEPIPE: u16 = 0xA19;
/// [`Io`]: target of a symbolic link into the grant. Reply: [`Done`].
pub const RDLINK: u16 = 0xA1E;
/// [`Io`]: directory entries ([`crate::vfs::Dirent`]) from `position` into the grant. Reply: [`Done`].
pub const GETDENTS: u16 = 0xA1F;

/// Name of an operation, as the rule language spells it.
pub const fn operation_name(operation: u16) -> &'static str {
    match operation {
        READ => "read",
        WRITE => "write",
        BREAD => "bread",
        BWRITE => "bwrite",
        GETDENTS => "getdents",
        RDLINK => "rdlink",
        SLINK => "slink",
        STAT => "stat",
        _ => "other",
    }
}

/// The inode number under which VM knows pages of a block device itself. No file has it.
pub const DEVICE_INODE: u64 = 0;

/// READSUPER.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mount {
    /// Device number by which VFS and VM know this file system.
    pub device: u64,
    /// The block driver's endpoint.
    pub driver: i32,
    /// 1 for read-only.
    pub read_only: u32,
    /// The driver's number of the disk, from 0: [`crate::bdev::Transfer::disk`].
    pub disk: u32,
    /// 0 or [`RECOVER`].
    pub flags: u32,
}

/// [`Mount::flags`]: the file system that had it mounted died, so what is on the disk is to be mended first.
pub const RECOVER: u32 = 1;

/// Requests on an inode with data.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Io {
    /// Inode number.
    pub inode: u64,
    /// Grant over the data.
    pub grant: i64,
    /// Position in bytes, or size, or the cookie of GETDENTS.
    pub position: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Requests on a name in a directory.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Name {
    /// The directory's inode.
    pub directory: u64,
    /// Direct grant over the name in VFS's memory.
    pub grant: i64,
    /// Bytes of the name, at most 60; no slash.
    pub length: u32,
    /// Type and permission bits for a new object.
    pub mode: u32,
    /// SLINK: magic grant over the target.
    pub grant2: i64,
    /// SLINK: bytes of the target.
    pub length2: u64,
    /// LINK: inode to link.
    pub inode2: u64,
    /// Owner (low half) and group (high half) of a new object.
    pub owner: u64,
}

/// RENAME.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rename {
    /// The old name's directory.
    pub directory: u64,
    /// Grant over the old name.
    pub grant: i64,
    /// The new name's directory.
    pub directory2: u64,
    /// Grant over the new name.
    pub grant2: i64,
    /// Bytes of the old name.
    pub length: u32,
    /// Bytes of the new name.
    pub length2: u32,
}

/// PUTNODE.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NodeRef {
    /// Inode number.
    pub inode: u64,
    /// References given back.
    pub count: u64,
}

/// An inode as VFS caches it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Node {
    /// 0 or a negative error.
    pub result: i64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Answer to a transfer.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Done {
    /// Bytes moved, or a negative error.
    pub result: i64,
    /// The next position (GETDENTS: cookie).
    pub position: u64,
    /// The file's size now.
    pub size: u64,
}
