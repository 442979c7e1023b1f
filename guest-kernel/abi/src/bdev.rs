//! Requests to a block driver. A driver may have several disks; each request names one.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Disk`]: geometry. Reply: [`Geometry`].
pub const GEOMETRY: u16 = 0x501;
/// [`Transfer`]: from the device into granted memory. Reply: `Status` with the bytes moved.
pub const READ: u16 = 0x502;
/// [`Transfer`]: from granted memory to the device. Reply: `Status` with the bytes moved.
pub const WRITE: u16 = 0x503;
/// [`Disk`]: everything written to it so far is on stable storage. Reply: `Status`.
pub const FLUSH: u16 = 0x504;

/// GEOMETRY, FLUSH.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Disk {
    /// Number of the disk, from 0.
    pub disk: u64,
}

/// READ, WRITE.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Transfer {
    /// Byte position, a multiple of 512.
    pub position: u64,
    /// Grant over the memory.
    pub grant: i64,
    /// Offset into the grant.
    pub offset: u64,
    /// Bytes, a multiple of 512.
    pub bytes: u64,
    /// Number of the disk, from 0.
    pub disk: u64,
}

/// Answer to GEOMETRY.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Geometry {
    /// 0 or a negative error (ENXIO: no device).
    pub result: i64,
    /// Bytes on the device.
    pub bytes: u64,
    /// Preferred block size in bytes.
    pub block: u32,
    /// 1 for a read-only device.
    pub read_only: u32,
}
