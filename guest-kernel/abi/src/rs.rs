//! Requests to the reincarnation server, which restarts crashed servers.
//!
//! Watched are the servers without which the system can go on for a moment and whose work can be repeated: the block driver and
//! the file systems. A watched server answers RS's notification with a notification; two missed periods are a crash. The end of
//! a watched server by an exception, a panic or a signal is told by PM. Everybody else's end is the machine's.
//!
//! A restart, in order: RS has VM throw the dead one away ([`crate::vm::EXIT`], by PM) and make a new process in the same slot
//! from the boot image ([`crate::vm::SPAWN_SERVER`]); then tells whoever holds the endpoint (VFS for a file system, the file
//! systems for the driver) and PM; then lets it run.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Endpoint;

/// [`Died`], from PM: a watched server is gone. No reply.
pub const DIED: u16 = 0x701;
/// [`Lookup`]: which endpoint serves a slot now? Reply: `Status` with the endpoint, once it is up; EIO when RS has given up.
pub const LOOKUP: u16 = 0x702;
/// [`Service`]: what RS knows about a slot. Reply: [`Service`]; ESRCH as `Status` when it watches no such slot.
pub const SERVICE: u16 = 0x703;
/// [`crate::pm::Restarted`], from RS to VFS or a file system: the server in the slot is another process now. No reply.
pub const RESTARTED: u16 = 0x704;

/// A server that is restarted when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its program in the boot image, and what `argument 0` says.
    pub program: &'static str,
    /// Its first incarnation; the slot is what counts.
    pub first: Endpoint,
}

/// Every watched server.
pub const WATCHED: [Watched; 4] = [
    Watched { program: "blk", first: Endpoint::BLK },
    Watched { program: "mfs", first: Endpoint::MFS },
    Watched { program: "mfs", first: Endpoint::MFS2 },
    Watched { program: "pipefs", first: Endpoint::PIPEFS },
];

/// Whether the process in this slot is restarted when it ends.
pub fn is_watched(endpoint: Endpoint) -> bool {
    WATCHED.iter().any(|watched| watched.first.slot() == endpoint.slot())
}

/// Microseconds between two heartbeats.
pub const PERIOD: u64 = 1_000_000;
/// Periods without an answer that are a crash (specification 10, item 18).
pub const MISSED: u32 = 2;
/// Restarts of one server after which RS gives up.
pub const RESTARTS_MAX: u32 = 8;
/// Longest back-off between two restarts, in microseconds. The first restart is immediate.
pub const BACK_OFF_MAX: u64 = 30_000_000;

/// DIED.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Died {
    /// Who.
    pub endpoint: i32,
    /// Zero.
    pub reserved: u32,
    /// Exit status; 128 + signal.
    pub status: i64,
}

/// LOOKUP.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lookup {
    /// Slot number.
    pub slot: i32,
    /// The endpoint the asker had, which is dead; RS answers when the slot has another.
    pub dead: i32,
}

/// SERVICE: `slot` in, the rest out.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    /// Slot number.
    pub slot: i32,
    /// Its endpoint now.
    pub endpoint: i32,
    /// Restarts so far.
    pub restarts: u32,
    /// 1 when RS has given up.
    pub given_up: u32,
    /// Heartbeats answered.
    pub beats: u64,
}
