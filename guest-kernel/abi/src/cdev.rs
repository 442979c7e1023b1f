//! Requests to a character driver: the terminal, and the block driver, which also serves [`ZERO`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Transfer`]: read. Reply: `Status` with the count, under the same transaction id.
pub const READ: u16 = 0x401;
/// [`Transfer`]: write. Reply: `Status` with the count, under the same transaction id.
pub const WRITE: u16 = 0x402;

/// [`Transfer`] (only `user` counts): forget the process's reads that wait for input. No reply.
pub const CANCEL: u16 = 0x403;

/// Minor number of the endless source of zeroes, at the block driver: filled by SAFEMEMSET.
pub const ZERO: u32 = 5;

/// READ, WRITE.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Transfer {
    /// Magic grant over the user's memory, made by VFS, without CPF_TRY.
    pub grant: i64,
    /// Bytes.
    pub bytes: u64,
    /// The user process.
    pub user: i32,
    /// Which device of the driver: 0, or [`ZERO`].
    pub minor: u32,
}
