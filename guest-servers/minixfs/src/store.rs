//! Where metadata blocks come from: the one trait the library's user implements.
//!
//! Blocks are lent, not copied: a server keeps them in its cache, and the library looks at them and changes them in
//! place. A reference lives only until the next call, so a store may evict a block whenever it is asked for another.

use alloc::vec::Vec;
use core::fmt;

/// A block the device did not deliver, or did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoError {
    /// The block's number, in units of the volume's block size.
    pub block: u32,
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input/output error at block {}", self.block)
    }
}

impl core::error::Error for IoError {}

/// When a changed block may be written: after all changed ones of the ranks before its own. Children come before their parents,
/// so that whenever the writing stops, nothing on the disk points at what is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Directories and symbolic links: what a block is unless something else is said of it.
    Contents,
    /// Indirect blocks, by how many levels lie below them: 1 to 3.
    Indirect(u32),
    /// The inode table.
    Inodes,
    /// Directory blocks that lose a name which has moved elsewhere.
    Source,
    /// Bitmaps. Whoever mends a volume makes them from the rest.
    Bitmap,
}

/// The metadata blocks of one volume.
///
/// Block numbers come from the disk and are hostile: an implementation answers [`IoError`] for any number it has no
/// block for, and never panics. Every slice is exactly one block long; the library checks that all the same.
pub trait BlockStore {
    /// The block, to look at.
    fn block(&mut self, number: u32) -> Result<&[u8], IoError>;

    /// The block, to change in part: its present contents are read first, and it will be written back.
    fn block_mut(&mut self, number: u32) -> Result<&mut [u8], IoError>;

    /// The block filled with zeros, without reading what the device holds; it will be written back.
    fn block_zeroed(&mut self, number: u32) -> Result<&mut [u8], IoError>;

    /// The block's zone was freed: what is held of it is worthless and must not be written back any more, since the
    /// zone may become the data of a regular file, which does not pass through this store.
    fn forget(&mut self, number: u32);

    /// The block, which has just been changed, is to be written in this order until it has been. A store that keeps an order
    /// honours it, except that a block which the device never had does not become a [`Rank::Source`]: it has nothing there to
    /// lose, and others wait for it.
    fn rank(&mut self, _number: u32, _rank: Rank) {}

    /// Everything changed so far reaches the device.
    fn flush(&mut self) -> Result<(), IoError>;
}

/// A volume that lives in memory: for tests, and for tools that build small images.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    bytes: Vec<u8>,
    block_size: usize,
}

impl MemoryStore {
    /// A volume over `bytes`, in blocks of `block_size` bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>, block_size: u32) -> Self {
        MemoryStore { bytes, block_size: block_size as usize }
    }

    /// The whole image.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole image, to change behind the library's back.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The image itself, when the volume is done with.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn slice(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        let error = IoError { block: number };
        let start = (number as usize).checked_mul(self.block_size).ok_or(error)?;
        let end = start.checked_add(self.block_size).ok_or(error)?;
        self.bytes.get_mut(start..end).ok_or(error)
    }
}

impl BlockStore for MemoryStore {
    fn block(&mut self, number: u32) -> Result<&[u8], IoError> {
        self.slice(number).map(|block| &*block)
    }

    fn block_mut(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        self.slice(number)
    }

    fn block_zeroed(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        let block = self.slice(number)?;
        block.fill(0);
        Ok(block)
    }

    fn forget(&mut self, _number: u32) {}

    fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}
