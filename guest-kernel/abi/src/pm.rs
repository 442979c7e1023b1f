//! Requests to the process manager.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`crate::message::Status`]: the caller ends with this status. No reply. Not 1, which is
/// [`crate::message::REPLY`]: PM may be waiting for the reply of a server that ends.
pub const EXIT: u16 = 0x007;
/// [`Spawn`]: run a program of the boot image as a child. Reply: [`crate::message::Status`] with the child's endpoint.
pub const SPAWN: u16 = 0x002;
/// Bare: wait for a child to end. Reply: [`Waited`].
pub const WAIT: u16 = 0x003;
/// Bare: the caller's endpoint, as `Status`.
pub const GETPID: u16 = 0x004;
/// [`crate::message::Status`]: end the machine with this status. INIT only.
pub const SHUTDOWN: u16 = 0x005;
/// [`Killed`]: a process did something it must not and has to go. From VM, or made by the kernel in the process's
/// name; no reply.
pub const KILLED: u16 = 0x006;

const _: () = assert!(EXIT != crate::message::REPLY && KILLED != crate::message::REPLY);

/// SPAWN. The strings lie in the caller's memory, NUL terminated one behind the other: the program's
/// name (`softread`), then the arguments.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Spawn {
    /// Address of the strings.
    pub address: u64,
    /// Bytes, all NULs included; at most 4096.
    pub bytes: u64,
}

/// Answer to WAIT.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Waited {
    /// The child's endpoint, or a negative error (ECHILD).
    pub result: i64,
    /// Its exit status; 128 + signal when it was killed.
    pub status: i64,
}

/// KILLED.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Killed {
    /// The process.
    pub endpoint: i32,
    /// Signal number: 11 SIGSEGV, 7 SIGBUS, 4 SIGILL.
    pub signal: u32,
    /// Faulting address.
    pub address: u64,
}
