//! Requests to a character driver (the terminal).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Transfer`]: read. Reply: `Status` with the count, under the same transaction id.
pub const READ: u16 = 0x401;
/// [`Transfer`]: write. Reply: `Status` with the count, under the same transaction id.
pub const WRITE: u16 = 0x402;

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
    /// Zero.
    pub reserved: u32,
}
