//! Making an empty file system: the shape for a size, then the few blocks that are not zero.
//!
//! The shape is the one that `mkfs.minix -3` chooses: an inode for every three blocks, whole blocks of inodes. Only
//! blocks of 1024 bytes are made, since that is all the checker of util-linux supports.

use core::fmt;
use core::num::NonZeroU32;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32};

use crate::inode::{FileKind, INODE_SIZE, Inode, ROOT_INODE};
use crate::store::{BlockStore, IoError};
use crate::superblock::{FIRST_MAP_BLOCK, MAGIC_V3, RawSuperblock, SUPERBLOCK_SIZE, Superblock};
use crate::zones::MAX_FILE_SIZE;

/// Bytes in a block of the volumes made here.
pub const BLOCK_SIZE: u32 = 1024;
/// The fewest blocks a volume is made of, as `mkfs.minix` has it.
pub const MIN_BLOCKS: u32 = 10;
/// The block that holds the superblock, with blocks of [`BLOCK_SIZE`].
const SUPERBLOCK_BLOCK: u32 = 1;
/// Bits in a block of a bitmap.
const BITS_PER_BLOCK: u32 = BLOCK_SIZE * 8;
/// Where the entry `..` begins in the root directory.
const SECOND_ENTRY: usize = crate::dir::ENTRY_SIZE as usize;
/// Inodes in a block of the table.
const INODES_PER_BLOCK: u32 = BLOCK_SIZE / INODE_SIZE as u32;

/// Why no file system can have the shape that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeError {
    /// Fewer than [`MIN_BLOCKS`] blocks, or no room for data behind the inodes.
    TooSmall {
        /// Blocks asked for.
        blocks: u32,
    },
    /// The first data zone, or a bitmap, would not fit its 16-bit field.
    TooManyInodes {
        /// Inodes asked for.
        inodes: u32,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShapeError::TooSmall { blocks } => {
                write!(f, "{blocks} blocks of {BLOCK_SIZE} bytes are too few for a file system")
            }
            ShapeError::TooManyInodes { inodes } => write!(f, "{inodes} inodes do not fit the format"),
        }
    }
}

impl core::error::Error for ShapeError {}

/// The shape of a volume of `blocks` blocks of [`BLOCK_SIZE`], with room for `inodes` inodes (at least), or for as many
/// as usual.
///
/// # Errors
/// [`ShapeError`].
pub fn shape(blocks: u32, inodes: Option<u32>) -> Result<Superblock, ShapeError> {
    let too_small = ShapeError::TooSmall { blocks };
    if blocks < MIN_BLOCKS {
        return Err(too_small);
    }
    let usual = blocks / 3;
    let asked = inodes.unwrap_or(usual).max(1);
    let too_many = ShapeError::TooManyInodes { inodes: asked };
    let inodes = asked.checked_next_multiple_of(INODES_PER_BLOCK).ok_or(too_many)?;
    let imap_blocks = inodes.checked_add(1).ok_or(too_many)?.div_ceil(BITS_PER_BLOCK);
    let table_blocks = inodes / INODES_PER_BLOCK;
    let before_zmap = FIRST_MAP_BLOCK.saturating_add(imap_blocks).saturating_add(table_blocks);
    // The zone bitmap covers what lies behind itself; taking it for empty at first costs at most one block too many.
    let zmap_blocks = blocks.saturating_sub(before_zmap).saturating_add(1).div_ceil(BITS_PER_BLOCK);
    let first_data_zone = before_zmap.saturating_add(zmap_blocks);
    if first_data_zone > u32::from(u16::MAX) {
        return Err(too_many);
    }
    if first_data_zone >= blocks {
        return Err(too_small);
    }
    Ok(Superblock {
        inodes,
        imap_blocks,
        zmap_blocks,
        first_data_zone,
        max_size: MAX_FILE_SIZE,
        zones: blocks,
        block_size: const { NonZeroU32::new(BLOCK_SIZE).unwrap() },
    })
}

/// The most inodes a volume can have whatever its size, a multiple of what a block holds.
#[must_use]
pub fn max_inodes(blocks: u32) -> u32 {
    // Leaves room for both bitmaps below the 16-bit limit of the first data zone.
    let bitmaps = (blocks / BITS_PER_BLOCK).saturating_add(u32::from(u16::MAX) / 512).saturating_add(4);
    u32::from(u16::MAX).saturating_sub(bitmaps).saturating_mul(INODES_PER_BLOCK)
}

/// Writes an empty file system with this shape: superblock, bitmaps, inode table, and a root directory with mode
/// `permissions` dated `now` (seconds since 1970). The boot block is not touched, data zones are not cleared.
///
/// # Errors
/// [`IoError`] from the store.
pub fn write_empty<S: BlockStore>(
    store: &mut S,
    shape: &Superblock,
    permissions: u16,
    now: u32,
) -> Result<(), IoError> {
    let raw = raw_superblock(shape);
    let block = store.block_zeroed(SUPERBLOCK_BLOCK)?;
    put(block, 0, &raw, SUPERBLOCK_BLOCK)?;

    // In use: the reserved bit and the root, which has inode 1 and the first data zone.
    write_map(store, FIRST_MAP_BLOCK, shape.imap_blocks, shape.inodes)?;
    write_map(store, shape.zmap_start(), shape.zmap_blocks, shape.data_zones())?;

    for block in shape.table_start()..shape.first_data_zone {
        store.block_zeroed(block)?;
    }
    let mut root = Inode::empty(FileKind::Directory, permissions, 0, 0, now);
    root.links = 2;
    root.size = 2 * crate::dir::ENTRY_SIZE;
    root.zones = [shape.first_data_zone, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let table = shape.table_start();
    put(store.block_mut(table)?, 0, &root.to_bytes(), table)?;

    let zone = shape.first_data_zone;
    let entries = store.block_zeroed(zone)?;
    let number = ROOT_INODE.to_le_bytes();
    put(entries, 0, &number, zone)?;
    put(entries, 4, b".", zone)?;
    put(entries, SECOND_ENTRY, &number, zone)?;
    put(entries, SECOND_ENTRY + 4, b"..", zone)
}

/// A bitmap of `last` objects of which the first is in use; bits behind the last are set, as checkers expect.
fn write_map<S: BlockStore>(store: &mut S, start: u32, blocks: u32, last: u32) -> Result<(), IoError> {
    let mut base = 0u64;
    for block in start..start.saturating_add(blocks) {
        for byte in store.block_zeroed(block)? {
            for bit in 0..8u32 {
                let index = base.saturating_add(bit.into());
                if index <= 1 || index > last.into() {
                    *byte |= 1u8.wrapping_shl(bit);
                }
            }
            base = base.saturating_add(8);
        }
    }
    Ok(())
}

fn raw_superblock(shape: &Superblock) -> [u8; SUPERBLOCK_SIZE] {
    let small = |value: u32| U16::new(u16::try_from(value).unwrap_or(u16::MAX));
    let raw = RawSuperblock {
        inodes: U32::new(shape.inodes),
        pad0: U16::ZERO,
        imap_blocks: small(shape.imap_blocks),
        zmap_blocks: small(shape.zmap_blocks),
        first_data_zone: small(shape.first_data_zone),
        log_zone_size: U16::ZERO,
        pad1: U16::ZERO,
        max_size: U32::new(shape.max_size),
        zones: U32::new(shape.zones),
        magic: U16::new(MAGIC_V3),
        pad2: U16::ZERO,
        block_size: small(shape.block_size()),
        disk_version: 0,
        pad3: 0,
    };
    let mut bytes = [0; SUPERBLOCK_SIZE];
    bytes.copy_from_slice(raw.as_bytes());
    bytes
}

fn put(block: &mut [u8], offset: usize, bytes: &[u8], number: u32) -> Result<(), IoError> {
    let end = offset.saturating_add(bytes.len());
    block.get_mut(offset..end).ok_or(IoError { block: number })?.copy_from_slice(bytes);
    Ok(())
}
