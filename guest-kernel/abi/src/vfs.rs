//! Requests to the virtual file system: from processes, from PM and from VM.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Path`] with flags O_*, mode: open. Reply: `Status` with the descriptor.
pub const OPEN: u16 = 0x101;
/// [`Io`] (descriptor only): close. Reply: `Status`.
pub const CLOSE: u16 = 0x102;
/// [`Io`]: read at the file position. Reply: `Status` with the count.
pub const READ: u16 = 0x103;
/// [`Io`]: write at the file position. Reply: `Status` with the count.
pub const WRITE: u16 = 0x104;
/// [`Io`] with offset and whence in `flags`: move the position. Reply: `Status` with the new position.
pub const LSEEK: u16 = 0x105;
/// [`Path`], result in `buffer`: [`Stat`] of a path. Reply: `Status`.
pub const STAT: u16 = 0x106;
/// [`Io`]: [`Stat`] of a descriptor. Reply: `Status`.
pub const FSTAT: u16 = 0x107;
/// [`Io`]: directory entries ([`Dirent`]). Reply: `Status` with bytes stored.
pub const GETDENTS: u16 = 0x108;
/// [`Path`]: make a directory. Reply: `Status`.
pub const MKDIR: u16 = 0x109;
/// [`Path`]: remove a name. Reply: `Status`.
pub const UNLINK: u16 = 0x10A;
/// [`Path`]: remove a directory. Reply: `Status`.
pub const RMDIR: u16 = 0x10B;
/// [`Path`] with the second path in `buffer`: rename. Reply: `Status`.
pub const RENAME: u16 = 0x10C;
/// [`Path`] with the second path in `buffer`: hard link. Reply: `Status`.
pub const LINK: u16 = 0x10D;
/// [`Path`] is the name, `buffer` the target: symbolic link. Reply: `Status`.
pub const SYMLINK: u16 = 0x10E;
/// [`Path`], target into `buffer`. Reply: `Status` with the length.
pub const READLINK: u16 = 0x10F;
/// [`Io`] with the size in `offset`: truncate. Reply: `Status`.
pub const FTRUNCATE: u16 = 0x110;
/// [`Io`]: file and disk. Reply: `Status`.
pub const FSYNC: u16 = 0x111;
/// Bare: everything. Reply: `Status`.
pub const SYNC: u16 = 0x112;
/// Bare: write back and drop every clean cached block and file page. Reply: `Status`.
pub const FLUSH_CACHES: u16 = 0x113;
/// [`Path`]: change directory. Reply: `Status`.
pub const CHDIR: u16 = 0x114;
/// [`Io`] with `offset` as the position, which the file position is not. Reply: `Status`.
pub const PREAD: u16 = 0x115;
/// The same, writing.
pub const PWRITE: u16 = 0x116;

/// [`Dup`]: another descriptor for the same open file. Reply: `Status` with it.
pub const DUP: u16 = 0x117;
/// Bare: a pipe. Reply: `Status` with the reading descriptor in bits 0-31 and the writing one in bits 32-63.
pub const PIPE: u16 = 0x118;

/// [`VmCall`], from VM. FDLOOKUP and PAGEIN are answered by [`crate::vm::VFS_REPLY`].
pub const VMCALL: u16 = 0x126;
/// [`crate::kcall::Target`], from PM: a process was made (descriptors 0 to 2 are the terminal). Reply: `Status`.
pub const PM_NEW: u16 = 0x130;
/// [`crate::kcall::Target`], from PM: a process is gone. Reply: `Status`.
pub const PM_EXIT: u16 = 0x131;
/// Bare, from PM: the machine is about to stop: write everything back. Reply: `Status`.
pub const PM_SHUTDOWN: u16 = 0x132;

/// [`PmFork`], from PM: the child has the parent's descriptors and directory. Reply: `Status`.
pub const PM_FORK: u16 = 0x133;
/// [`PmExec`], from PM: check a program file for a process and pin it. Reply: [`Program`].
pub const PM_EXEC: u16 = 0x134;

/// Open for reading.
pub const O_RDONLY: u32 = 0;
/// Open for writing.
pub const O_WRONLY: u32 = 1;
/// Open for both.
pub const O_RDWR: u32 = 2;
/// The two bits above.
pub const O_ACCMODE: u32 = 3;
/// Create if absent.
pub const O_CREAT: u32 = 0o100;
/// Fail if it exists.
pub const O_EXCL: u32 = 0o200;
/// Truncate.
pub const O_TRUNC: u32 = 0o1000;
/// Write at the end.
pub const O_APPEND: u32 = 0o2000;
/// Must be a directory.
pub const O_DIRECTORY: u32 = 0o200000;

/// STAT: a final symbolic link is not followed.
pub const O_NOFOLLOW: u32 = 0o400000;

/// LSEEK from the start.
pub const SEEK_SET: u32 = 0;
/// LSEEK from the position.
pub const SEEK_CUR: u32 = 1;
/// LSEEK from the end.
pub const SEEK_END: u32 = 2;

/// Requests on a descriptor.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Io {
    /// Descriptor.
    pub descriptor: i32,
    /// Request-specific flags.
    pub flags: u32,
    /// The caller's buffer.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// Position or size.
    pub offset: i64,
}

/// Requests on a path.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Path {
    /// Address of the path (no NUL needed).
    pub address: u64,
    /// Its bytes, at most [`PATH_MAX`].
    pub length: u64,
    /// A second buffer in the caller's memory.
    pub buffer: u64,
    /// Its bytes.
    pub bytes: u64,
    /// O_* flags.
    pub flags: u32,
    /// Permission bits of a new file.
    pub mode: u32,
}

/// Longest path, in bytes.
pub const PATH_MAX: u64 = 1024;

/// File status, as stored into the user's memory. 72 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stat {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Access time, seconds since 1970.
    pub atime: u64,
    /// Modification time.
    pub mtime: u64,
    /// Status change time.
    pub ctime: u64,
}

/// A directory entry: this header, then the name, padded with NULs to a multiple of 8 bytes in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Dirent {
    /// Inode.
    pub inode: u64,
    /// Position of the next entry, for GETDENTS to go on from.
    pub next: u64,
    /// Bytes of this entry, header included.
    pub record: u16,
    /// Bytes of the name.
    pub name: u16,
    /// Zero.
    pub reserved: u32,
}

/// DUP.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Dup {
    /// An open descriptor.
    pub descriptor: i32,
    /// The wanted number, which is closed first if it is open; -1 for the lowest free one.
    pub wanted: i32,
}

/// PM_FORK.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PmFork {
    /// The parent.
    pub parent: i32,
    /// The child.
    pub child: i32,
}

/// PM_EXEC.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PmExec {
    /// The process that is to run the program: its directory counts.
    pub endpoint: i32,
    /// Bytes of the path.
    pub length: u32,
    /// Address of the path in PM's memory.
    pub address: u64,
    /// Faithful mode: address of the argument block in the process's memory, which VFS then fetches as the seed's exec does; else 0.
    pub strings: u64,
    /// Its bytes, or 0.
    pub bytes: u64,
}

/// Answer to PM_EXEC.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Program {
    /// 0 or a negative error (ENOENT, EACCES for what is no regular file or has no x bit).
    pub result: i64,
    /// Handle of the pinned vnode, for [`VmCall`]s.
    pub handle: u64,
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
}

/// VM's requests.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VmCall {
    /// [`FDLOOKUP`], [`PAGEIN`] or [`RELEASE`].
    pub operation: u32,
    /// FDLOOKUP: whose descriptor.
    pub endpoint: i32,
    /// FDLOOKUP: the descriptor.
    pub descriptor: i32,
    /// Zero.
    pub reserved: u32,
    /// VM's request id, sent back.
    pub request: u64,
    /// PAGEIN, RELEASE: the handle FDLOOKUP answered.
    pub handle: u64,
    /// PAGEIN: offset into the file, page aligned.
    pub offset: u64,
    /// PAGEIN: bytes.
    pub length: u64,
}

/// Which file is behind a descriptor? Pins the vnode: file pages are asked for by a handle to the vnode, not
/// by an open-file object, so a page-in takes no lock a requester may hold and moves nobody's position.
pub const FDLOOKUP: u32 = 101;
/// The pin is not needed any more.
pub const RELEASE: u32 = 102;
/// Have the file system announce the pages of a range (PEEK).
pub const PAGEIN: u32 = 103;
