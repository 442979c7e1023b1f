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

/// Bare: a copy of the caller. Reply: `Status` with the child's endpoint to the parent, with 0 to the child.
pub const FORK: u16 = 0x008;
/// [`Spawn`]: become another program. A first word with a slash is a path on a file system, one without a program of the boot image.
/// Replies only on failure.
pub const EXEC: u16 = 0x009;
/// [`Kill`]: end a process, or find out whether it exists. Reply: `Status`.
pub const KILL: u16 = 0x00A;
/// [`crate::message::Status`] with a slot number: what the kernel knows about it. Reply: [`crate::kcall::ProcInfo`] with the
/// error, if there is one, in `flags` as [`crate::kcall::rts::FREE`].
pub const INFO: u16 = 0x00B;
/// Bare: the parent's endpoint, as `Status`.
pub const GETPPID: u16 = 0x00C;
/// [`crate::message::Status`] with a signal, from TTY: the user typed the interrupt character. Goes to the foreground: every
/// descendant of the process that last called [`FOREGROUND`], or of INIT. Reply (asynchronous): `Status` with
/// their number; they run no more.
pub const INTERRUPT: u16 = 0x00D;
/// Bare: the caller's descendants, not the caller, are what the interrupt character ends from now on. Reply: `Status`.
pub const FOREGROUND: u16 = 0x00E;
/// [`Restarted`], from RS: a boot server is alive again under another endpoint. Reply: `Status`.
pub const RESTARTED: u16 = 0x00F;

const _: () = assert!(EXIT != crate::message::REPLY && KILLED != crate::message::REPLY);

/// Signal: interrupt character.
pub const SIGINT: u32 = 2;
/// Signal: illegal instruction.
pub const SIGILL: u32 = 4;
/// Signal: access to memory that is mapped but cannot be had: behind the end of a file, an error of the disk.
pub const SIGBUS: u32 = 7;
/// Signal: the end, without a reason.
pub const SIGKILL: u32 = 9;
/// Signal: access to memory that is not mapped, or not so.
pub const SIGSEGV: u32 = 11;
/// Signal: a pipe nobody reads.
pub const SIGPIPE: u32 = 13;
/// Signal: please end.
pub const SIGTERM: u32 = 15;
/// Signal: a watched server stops and stays: how a server that hangs is tested. From processes of class TEST.
pub const SIGSTOP: u32 = 19;
/// Signals are below this.
pub const SIGNALS: u32 = 32;

/// KILL.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Kill {
    /// The process. A boot server only from processes of class TEST: that is how a crash is tested.
    pub endpoint: i32,
    /// Signal number; 0 only asks whether the process exists. Every signal ends the process: there are no handlers.
    pub signal: u32,
}

/// RESTARTED.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Restarted {
    /// The dead incarnation.
    pub old: i32,
    /// The new one.
    pub new: i32,
}

/// SPAWN, EXEC. The strings lie in the caller's memory, NUL terminated one behind the other: the program's
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
