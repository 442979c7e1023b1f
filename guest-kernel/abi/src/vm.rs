//! Requests to the virtual-memory server.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Mmap`], from anybody, for its own address space. Reply: `Status` with the address.
pub const MMAP: u16 = 0xC01;
/// [`Range`]: unmap. Reply: `Status`.
pub const MUNMAP: u16 = 0xC02;
/// [`MapPhys`]: map device registers. Drivers only. Reply: `Status` with the address.
pub const MAP_PHYS: u16 = 0xC03;
/// [`Spawn`], from PM: new process from the boot image. Reply: `Status` with the endpoint; it does not run yet.
pub const SPAWN: u16 = 0xC04;
/// [`crate::kcall::Target`], from PM: let a spawned process run. Reply: `Status`.
pub const START: u16 = 0xC05;
/// [`crate::kcall::Target`], from PM: free everything of a process. Reply: `Status`.
pub const EXIT: u16 = 0xC06;
/// Bare: memory figures, for which VM looks at all of memory. Reply: [`Usage`].
pub const USAGE: u16 = 0xC07;
/// [`CachePage`]: a file system asks for a page it announced earlier. Reply: `Status` with the address at which VM mapped it.
pub const MAPCACHEPAGE: u16 = 0xC1A;
/// [`CachePage`]: a file system announces its page as the contents of a file's page. Reply: `Status`.
pub const SETCACHEPAGE: u16 = 0xC1B;
/// [`CachePage`]: forget a page (truncated, freed). Reply: `Status`.
pub const FORGETCACHEPAGE: u16 = 0xC1C;
/// [`CachePage`] (only `device`): forget every page of a device that nobody maps. Reply: `Status` with the count.
pub const CLEARCACHE: u16 = 0xC1D;
/// [`VfsReply`], from VFS: answer to a [`crate::vfs::VMCALL`].
pub const VFS_REPLY: u16 = 0xC1E;
/// [`HandleMem`], from VFS or PM, with a transaction id: make a range present. Reply (asynchronous, same transaction id): `Status`.
pub const PROCCTL: u16 = 0xC2D;
/// [`HandleMem`], from VFS by SENDREC: the same as far as VM can do it alone. Answered at once: EAGAIN when a page would have to
/// come from a file system, which may need VFS; then [`PROCCTL`] is the request to make.
pub const HANDLEMEM_NOW: u16 = 0xC2E;
/// [`Fork`], from PM: a copy of a process. Reply: `Status` with the child's endpoint; it waits for PM's answer.
pub const FORK: u16 = 0xC08;
/// [`Exec`], from PM, asynchronous with a transaction id: replace a process's program. Reply (asynchronous, same transaction id):
/// `Status`, which may take long: VM fetches the program's pages.
pub const EXEC: u16 = 0xC09;
/// [`SpawnServer`], from RS: a new process in a boot server's slot, from the boot image. Reply: `Status` with its endpoint; it does not run yet.
pub const SPAWN_SERVER: u16 = 0xC0A;
/// [`crate::kcall::Target`], from RS: the successor of this dead driver has reset the device, so the memory that the device might
/// still have written to can be used again. Reply: `Status`.
pub const RETIRE: u16 = 0xC0B;
/// A process's page fault, made by the kernel in the process's name ([`PageFault`]).
pub const PAGEFAULT: u16 = 0xCFF;

/// The fault came from a page taken away at the second stage.
pub const FAULT_SECOND_STAGE: u32 = 1;

/// Signal bit in word 1 of VM's HARDWARE notifications: poisoned pages were touched
/// ([`POISON_GET`](crate::kcall::vmctl::POISON_GET)).
pub const SIGNAL_POISON: u64 = 1 << 62;

/// Protection bit: readable.
pub const PROT_READ: u32 = 1;
/// Protection bit: writable.
pub const PROT_WRITE: u32 = 2;
/// Protection bit: executable.
pub const PROT_EXEC: u32 = 4;

/// Mapping flag: no file, zero-filled.
pub const MAP_ANONYMOUS: u32 = 1;
/// Mapping flag: private copy on write (the only kind of file mapping that may be writable).
pub const MAP_PRIVATE: u32 = 2;
/// Mapping flag: make every page present at once.
pub const MAP_POPULATE: u32 = 4;
/// Mapping flag: exactly at `address`.
pub const MAP_FIXED: u32 = 8;
/// Mapping flag: the mapping is in the grant table's reserved space (servers only).
pub const MAP_GRANTS: u32 = 16;

/// MMAP.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mmap {
    /// Wanted address, 0 for any.
    pub address: u64,
    /// Bytes; rounded up to pages.
    pub length: u64,
    /// PROT bits.
    pub protection: u32,
    /// MAP bits.
    pub flags: u32,
    /// File descriptor of the caller, or -1.
    pub descriptor: i32,
    /// Zero.
    pub reserved: u32,
    /// Offset into the file, page aligned.
    pub offset: u64,
}

/// A range of the caller's address space.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Range {
    /// Address, page aligned.
    pub address: u64,
    /// Bytes.
    pub length: u64,
}

/// MAP_PHYS.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapPhys {
    /// GPA; the answer's address has the same offset into its page.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
}

/// SPAWN. The strings are in PM's memory in the form of [`crate::pm::Spawn`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Spawn {
    /// Address in PM's memory.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// [`crate::kcall::privilege`] class.
    pub privilege: u32,
    /// Priority.
    pub priority: u32,
}

/// FORK.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    /// Whose copy.
    pub parent: i32,
    /// Zero.
    pub reserved: u32,
}

/// EXEC. The strings are in PM's memory in the form of [`crate::pm::Spawn`], the name first.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    /// The process.
    pub endpoint: i32,
    /// Bytes of the strings.
    pub bytes: u32,
    /// Their address in PM's memory.
    pub address: u64,
    /// VFS's handle for the pinned program file, 0 for a program of the boot image. VM releases it when nothing maps the file any more.
    pub handle: u64,
    /// The file's device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its bytes.
    pub size: u64,
    /// [`crate::kcall::privilege`] class of the process from now on (PM tells the kernel by PROC_SET).
    pub privilege: u32,
    /// Zero.
    pub reserved: u32,
}

/// SPAWN_SERVER.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SpawnServer {
    /// Slot number, which is free.
    pub slot: i32,
    /// [`crate::kcall::privilege`] class.
    pub privilege: u32,
    /// Priority.
    pub priority: u32,
    /// Zero.
    pub reserved: u32,
    /// Name in the boot image, NUL padded.
    pub name: [u8; 16],
}

/// Answer to USAGE.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Usage {
    /// Pages managed.
    pub total: u64,
    /// Pages free.
    pub free: u64,
    /// Pages in the file-page cache.
    pub cached: u64,
    /// Pages that are not free although nothing holds them: no address space, not the cache, not the quarantine. `u32::MAX` when
    /// there was no memory to find out.
    pub unclaimed: u32,
    /// Pages that are held, but not by as many as are counted. `u32::MAX` when there was no memory to find out.
    pub miscounted: u32,
    /// Address spaces.
    pub processes: u32,
    /// Mapped files: uses of a file that VFS keeps for VM.
    pub files: u32,
    /// Requests that VFS has not answered.
    pub requests: u32,
    /// Pages of dead servers that a device may still be writing to.
    pub quarantined: u32,
    /// Pages out of use for good, because they are poisoned.
    pub poisoned: u32,
    /// Zero.
    pub reserved: u32,
}

/// A file's page. A page is known by (device, inode, offset).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CachePage {
    /// The file system's device number, as VFS knows it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Offset into the file, page aligned.
    pub offset: u64,
    /// SETCACHEPAGE: address of the page in the caller's memory.
    pub address: u64,
    /// SETCACHEPAGE: [`CACHE_ONCE`] or 0.
    pub flags: u64,
}

/// A cached page that serves one fault only, then is forgotten.
pub const CACHE_ONCE: u64 = 1;

/// HANDLEMEM: make `[address, address + length)` of `endpoint` present, writable if asked, and, where pages
/// were taken away at the second stage, ask them back.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HandleMem {
    /// Whose memory.
    pub endpoint: i32,
    /// 1 when it is going to be written.
    pub write: u32,
    /// Address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
}

/// VFS's answer to a VMCALL.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VfsReply {
    /// 0 or a negative error.
    pub result: i64,
    /// VM's request id, from the VMCALL.
    pub request: u64,
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// File size in bytes.
    pub size: u64,
    /// VFS's handle for the pinned vnode.
    pub handle: u64,
}

/// PAGEFAULT.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PageFault {
    /// CR2.
    pub address: u64,
    /// The processor's error code.
    pub error: u64,
    /// [`FAULT_SECOND_STAGE`] or 0.
    pub flags: u64,
    /// Instruction.
    pub rip: u64,
}
