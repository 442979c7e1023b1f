//! The superblock: read, believed only after every field has been held against the others and the device.
//!
//! After [`Superblock::parse`] the numbers in it are facts the rest of the crate relies on: the bitmaps and the inode
//! table lie inside the device and before the first data zone, and no sum of them overflows.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::inode::INODE_SIZE;
use crate::zones::MAX_FILE_SIZE;

/// Where the superblock begins, in bytes from the start of the device, whatever the block size.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// How many bytes of it carry information.
pub const SUPERBLOCK_SIZE: usize = 32;
/// The magic number of version 3.
pub(crate) const MAGIC_V3: u16 = 0x4d5a;
/// Where versions 1 and 2 keep their magic number in the superblock.
const OLD_MAGIC_OFFSET: usize = 16;
/// The magic numbers of versions 1 and 2 (14 and 30 character names each).
const OLD_MAGICS: [u16; 4] = [0x137f, 0x138f, 0x2468, 0x2478];
/// The first block of the inode bitmap: after the boot block and the superblock, for every block size.
pub(crate) const FIRST_MAP_BLOCK: u32 = 2;

/// The superblock as it is on the disk.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawSuperblock {
    pub(crate) inodes: U32,
    pub(crate) pad0: U16,
    pub(crate) imap_blocks: U16,
    pub(crate) zmap_blocks: U16,
    pub(crate) first_data_zone: U16,
    pub(crate) log_zone_size: U16,
    pub(crate) pad1: U16,
    pub(crate) max_size: U32,
    pub(crate) zones: U32,
    pub(crate) magic: U16,
    pub(crate) pad2: U16,
    pub(crate) block_size: U16,
    pub(crate) disk_version: u8,
    pub(crate) pad3: u8,
}

/// The shape of a volume, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    pub(crate) inodes: u32,
    pub(crate) imap_blocks: u32,
    pub(crate) zmap_blocks: u32,
    pub(crate) first_data_zone: u32,
    pub(crate) max_size: u32,
    pub(crate) zones: u32,
    pub(crate) block_size: NonZeroU32,
}

/// Why there is no volume on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuperblockError {
    /// The device ends before the superblock does.
    DeviceTooSmall {
        /// The device's size in bytes.
        bytes: u64,
    },
    /// No MINIX version 3 magic number.
    NotMinix3 {
        /// What stands in its place.
        found: u16,
    },
    /// A MINIX file system, but of version 1 or 2.
    OldVersion {
        /// Its magic number.
        magic: u16,
    },
    /// A field contradicts the format, another field, or the size of the device.
    Field {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it had to be.
        expected: &'static str,
    },
}

impl Superblock {
    /// Reads a superblock from the bytes at [`SUPERBLOCK_OFFSET`] of a device of `device_bytes` bytes.
    ///
    /// # Errors
    /// Whatever makes the volume unusable: see [`SuperblockError`].
    pub fn parse(bytes: &[u8], device_bytes: u64) -> Result<Self, SuperblockError> {
        let too_small = SuperblockError::DeviceTooSmall { bytes: device_bytes };
        if device_bytes < SUPERBLOCK_OFFSET.saturating_add(SUPERBLOCK_SIZE as u64) {
            return Err(too_small);
        }
        let (raw, _) = RawSuperblock::ref_from_prefix(bytes).map_err(|_| too_small)?;
        check_magic(raw, bytes)?;

        let field = |field, value: u64, expected| Err(SuperblockError::Field { field, value, expected });
        let block_size =
            NonZeroU32::new(raw.block_size.get().into()).filter(|n| matches!(n.get(), 1024 | 2048 | 4096));
        let Some(block_size) = block_size else {
            return field("block size", raw.block_size.get().into(), "1024, 2048 or 4096");
        };
        if raw.log_zone_size.get() != 0 {
            return field("log2 of the zone size", raw.log_zone_size.get().into(), "0 (one block per zone)");
        }
        let zones = raw.zones.get();
        if u64::from(zones) > device_bytes / NonZeroU64::from(block_size) {
            return field("number of zones", zones.into(), "no more than the device has blocks");
        }
        if raw.max_size.get() == 0 {
            return field("largest file size", 0, "more than 0");
        }
        let inodes = raw.inodes.get();
        let bits_per_block = u64::from(block_size.get()).saturating_mul(8);
        let imap_blocks = u32::from(raw.imap_blocks.get());
        // Bit 0 of each bitmap is reserved, hence one bit more than there are objects.
        if inodes == 0 {
            return field("number of inodes", 0, "more than 0");
        }
        if u64::from(inodes) >= u64::from(imap_blocks).saturating_mul(bits_per_block) {
            return field("inode bitmap blocks", imap_blocks.into(), "enough for every inode");
        }
        let zmap_blocks = u32::from(raw.zmap_blocks.get());
        let first_data_zone = u32::from(raw.first_data_zone.get());
        let table_blocks =
            u64::from(inodes).saturating_mul(INODE_SIZE as u64).div_ceil(block_size.get().into());
        let table_end = u64::from(FIRST_MAP_BLOCK)
            .saturating_add(imap_blocks.into())
            .saturating_add(zmap_blocks.into())
            .saturating_add(table_blocks);
        if u64::from(first_data_zone) < table_end {
            return field("first data zone", first_data_zone.into(), "after the bitmaps and the inode table");
        }
        let Some(data_zones) = zones.checked_sub(first_data_zone).filter(|&count| count > 0) else {
            return field("number of zones", zones.into(), "more than the first data zone");
        };
        if u64::from(data_zones) >= u64::from(zmap_blocks).saturating_mul(bits_per_block) {
            return field("zone bitmap blocks", zmap_blocks.into(), "enough for every zone");
        }
        let max_size = raw.max_size.get().min(MAX_FILE_SIZE);
        Ok(Superblock { inodes, imap_blocks, zmap_blocks, first_data_zone, max_size, zones, block_size })
    }

    /// Bytes in a block, which is also a zone: 1024, 2048 or 4096.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size.get()
    }

    /// How many times something of `bytes` bytes fits into a block.
    pub(crate) fn per_block(&self, bytes: NonZeroU32) -> u32 {
        self.block_size() / bytes
    }

    /// The byte within its block that stands at a byte offset.
    pub(crate) fn within_block(&self, offset: u32) -> usize {
        (offset % self.block_size) as usize
    }

    /// How many inodes the volume has; they are numbered from 1.
    #[must_use]
    pub fn inodes(&self) -> u32 {
        self.inodes
    }

    /// How many blocks the volume has, metadata included.
    #[must_use]
    pub fn zones(&self) -> u32 {
        self.zones
    }

    /// The first block that can hold the data of a file.
    #[must_use]
    pub fn first_data_zone(&self) -> u32 {
        self.first_data_zone
    }

    /// The largest file, in bytes.
    #[must_use]
    pub fn max_file_size(&self) -> u32 {
        self.max_size
    }

    /// How many zones can hold data.
    #[must_use]
    pub fn data_zones(&self) -> u32 {
        self.zones.saturating_sub(self.first_data_zone)
    }

    /// The first block of the zone bitmap.
    pub(crate) fn zmap_start(&self) -> u32 {
        FIRST_MAP_BLOCK.saturating_add(self.imap_blocks)
    }

    /// The first block of the inode table.
    pub(crate) fn table_start(&self) -> u32 {
        self.zmap_start().saturating_add(self.zmap_blocks)
    }
}

fn check_magic(raw: &RawSuperblock, bytes: &[u8]) -> Result<(), SuperblockError> {
    let found = raw.magic.get();
    if found == MAGIC_V3 {
        return Ok(());
    }
    let old = bytes.get(OLD_MAGIC_OFFSET..).and_then(|rest| U16::ref_from_prefix(rest).ok());
    match old {
        Some((magic, _)) if OLD_MAGICS.contains(&magic.get()) => {
            Err(SuperblockError::OldVersion { magic: magic.get() })
        }
        _ => Err(SuperblockError::NotMinix3 { found }),
    }
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuperblockError::DeviceTooSmall { bytes } => {
                write!(f, "a device of {bytes} bytes is too small for a MINIX file system")
            }
            SuperblockError::NotMinix3 { found } => {
                write!(f, "not a MINIX version 3 file system (magic {found:#06x}, expected {MAGIC_V3:#06x})")
            }
            SuperblockError::OldVersion { magic } => {
                write!(
                    f,
                    "a MINIX file system of an older version (magic {magic:#06x}); only version 3 is supported"
                )
            }
            SuperblockError::Field { field, value, expected } => {
                write!(f, "corrupt superblock: {field} is {value}, expected {expected}")
            }
        }
    }
}

impl core::error::Error for SuperblockError {}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]
#[path = "superblock_tests.rs"]
mod tests;
