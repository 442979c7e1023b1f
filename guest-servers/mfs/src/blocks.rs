//! The cache of metadata blocks: a fixed number of buffers, written back when somebody asks.
//!
//! The one thing to hold in mind: this server may die after any block it writes, so they are written children first
//! ([`Rank`]), and never one alone because its buffer is wanted. Clean ones make room; that there are some is seen to before
//! each change ([`BlockCache::is_crowded`]).
//!
//! A buffer that cannot be written stays dirty; when all are like that, the request fails. Nothing here waits for anything
//! but the driver.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use refault_minixfs::{BlockStore, IoError, Rank};

use crate::system::Disk;

/// Buffers of a mount: 512 KiB with blocks of 1 KiB, all metadata of a small disk.
pub const BUFFERS: usize = 512;

/// Buffers for what one change makes dirty, besides bitmaps: two directories with the indirect blocks on the way to a new
/// entry, and the inodes of all that a rename touches.
pub const SPARE: usize = 32;

#[derive(Debug, Clone, Copy)]
struct Buffer {
    block: Option<u32>,
    dirty: bool,
    /// When it may be written, while it is dirty.
    rank: Rank,
    /// The disk never had what is in it.
    fresh: bool,
    /// When it was last asked for, in calls.
    used: u64,
}

/// Metadata blocks of one volume.
#[derive(Debug)]
pub struct BlockCache<D> {
    disk: D,
    block_size: usize,
    /// Blocks on the device: nothing beyond is asked of the driver.
    limit: u32,
    buffers: Vec<Buffer>,
    bytes: Vec<u8>,
    index: BTreeMap<u32, usize>,
    clock: u64,
    /// How many buffers are dirty, and how many are enough to write them all before the next change.
    dirty: usize,
    many: usize,
}

impl Buffer {
    const EMPTY: Buffer = Buffer { block: None, dirty: false, rank: Rank::Contents, fresh: false, used: 0 };
}

impl<D: Disk> BlockCache<D> {
    /// An empty cache of `buffers` buffers, and [`SPARE`] more, over the first `limit` blocks of a disk.
    pub fn new(disk: D, block_size: u32, limit: u32, buffers: usize) -> Self {
        let block_size = block_size as usize;
        let many = buffers / 2;
        let buffers = buffers.saturating_add(SPARE);
        BlockCache {
            disk,
            block_size,
            limit,
            buffers: vec![Buffer::EMPTY; buffers],
            bytes: vec![0; buffers.saturating_mul(block_size)],
            index: BTreeMap::new(),
            clock: 0,
            dirty: 0,
            many,
        }
    }

    /// Whether so much is dirty that it should be written before more is changed.
    pub fn is_crowded(&self) -> bool {
        self.dirty > self.many
    }

    /// Drops every clean buffer.
    pub fn drop_clean(&mut self) {
        for buffer in self.buffers.iter_mut().filter(|buffer| !buffer.dirty) {
            if let Some(block) = buffer.block.take() {
                self.index.remove(&block);
            }
        }
    }

    /// Drops what there is of bytes `[position, end)` of the disk, which somebody else has written. Nothing of it may be
    /// dirty.
    pub fn drop_bytes(&mut self, position: u64, end: u64) {
        let size = self.block_size as u64;
        let number =
            |block: Option<u64>| block.and_then(|block| u32::try_from(block).ok()).unwrap_or(u32::MAX);
        let first = number(position.checked_div(size));
        let behind = number(Some(end.div_ceil(size.max(1))));
        let there: Vec<u32> = self.index.range(first..behind.max(first)).map(|(&block, _)| block).collect();
        for block in there {
            self.forget(block);
        }
    }

    fn contents(&mut self, slot: usize, block: u32) -> Result<&mut [u8], IoError> {
        let start = slot.saturating_mul(self.block_size);
        self.bytes.get_mut(start..start.saturating_add(self.block_size)).ok_or(IoError { block })
    }

    /// The buffer of a block, read from the disk if `read` and it is not there.
    fn slot(&mut self, block: u32, read: bool) -> Result<usize, IoError> {
        let error = IoError { block };
        if block >= self.limit {
            return Err(error);
        }
        self.clock = self.clock.saturating_add(1);
        let clock = self.clock;
        let slot = match self.index.get(&block) {
            Some(&slot) => slot,
            None => {
                let slot = self.take()?;
                if read {
                    let position = u64::from(block).saturating_mul(self.block_size as u64);
                    let start = slot.saturating_mul(self.block_size);
                    let end = start.saturating_add(self.block_size);
                    let bytes = self.bytes.get_mut(start..end).ok_or(error)?;
                    self.disk.read(position, bytes).map_err(|_| error)?;
                }
                self.buffers.get_mut(slot).ok_or(error)?.block = Some(block);
                self.index.insert(block, slot);
                slot
            }
        };
        self.buffers.get_mut(slot).ok_or(error)?.used = clock;
        Ok(slot)
    }

    /// An unused buffer: a free one, else the clean one unused longest, else one of a bitmap once it is written, else any once
    /// all are. The last is for the worst only: the file pages that should have gone before are not in its hands.
    fn take(&mut self) -> Result<usize, IoError> {
        let clean = self.buffers.iter().enumerate().filter(|(_, buffer)| !buffer.dirty);
        let oldest =
            clean.min_by_key(|(_, buffer)| (buffer.block.is_some(), buffer.used)).map(|(slot, _)| slot);
        let slot = match oldest {
            Some(slot) => slot,
            None => self.write_one()?,
        };
        if let Some(block) = self.buffers.get_mut(slot).and_then(|buffer| buffer.block.take()) {
            self.index.remove(&block);
        }
        Ok(slot)
    }

    /// Makes one buffer clean when all are dirty.
    fn write_one(&mut self) -> Result<usize, IoError> {
        let mut result = Err(IoError { block: 0 });
        for (rank, _, slot) in self.in_order().into_iter().rev() {
            if rank == Rank::Bitmap {
                result = self.write_back(slot).map(|()| slot);
                if result.is_ok() {
                    return result;
                }
            }
        }
        let written = self.flush();
        let clean = self.buffers.iter().position(|buffer| !buffer.dirty);
        clean.ok_or(written.err().or(result.err()).unwrap_or(IoError { block: 0 }))
    }

    /// The dirty buffers in the order in which they may be written: by rank, and of one rank in that of the disk.
    fn in_order(&self) -> Vec<(Rank, u32, usize)> {
        let dirty = self.buffers.iter().enumerate().filter(|(_, buffer)| buffer.dirty);
        let mut order: Vec<_> =
            dirty.filter_map(|(slot, buffer)| Some((buffer.rank, buffer.block?, slot))).collect();
        order.sort_unstable();
        order
    }

    fn write_back(&mut self, slot: usize) -> Result<(), IoError> {
        let Some(Buffer { block: Some(block), dirty: true, .. }) = self.buffers.get(slot).copied() else {
            return Ok(());
        };
        let position = u64::from(block).saturating_mul(self.block_size as u64);
        let start = slot.saturating_mul(self.block_size);
        let bytes = self.bytes.get(start..start.saturating_add(self.block_size)).ok_or(IoError { block })?;
        self.disk.write(position, bytes).map_err(|_| IoError { block })?;
        if let Some(buffer) = self.buffers.get_mut(slot) {
            (buffer.dirty, buffer.rank, buffer.fresh) = (false, Rank::Contents, false);
            self.dirty = self.dirty.saturating_sub(1);
        }
        Ok(())
    }

    fn dirty(&mut self, slot: usize) {
        if let Some(buffer) = self.buffers.get_mut(slot)
            && !buffer.dirty
        {
            buffer.dirty = true;
            self.dirty = self.dirty.saturating_add(1);
        }
    }
}

impl<D: Disk> BlockStore for BlockCache<D> {
    fn block(&mut self, number: u32) -> Result<&[u8], IoError> {
        let slot = self.slot(number, true)?;
        self.contents(slot, number).map(|bytes| &*bytes)
    }

    fn block_mut(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        let slot = self.slot(number, true)?;
        self.dirty(slot);
        self.contents(slot, number)
    }

    fn block_zeroed(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        let slot = self.slot(number, false)?;
        self.dirty(slot);
        if let Some(buffer) = self.buffers.get_mut(slot) {
            (buffer.rank, buffer.fresh) = (Rank::Contents, true);
        }
        let bytes = self.contents(slot, number)?;
        bytes.fill(0);
        Ok(bytes)
    }

    fn forget(&mut self, number: u32) {
        if let Some(slot) = self.index.remove(&number)
            && let Some(buffer) = self.buffers.get_mut(slot)
        {
            self.dirty = self.dirty.saturating_sub(usize::from(buffer.dirty));
            *buffer = Buffer::EMPTY;
        }
    }

    fn rank(&mut self, number: u32, rank: Rank) {
        let slot = self.index.get(&number).copied();
        if let Some(buffer) = slot.and_then(|slot| self.buffers.get_mut(slot))
            && !(buffer.fresh && rank == Rank::Source)
        {
            buffer.rank = rank;
        }
    }

    /// Writes every dirty buffer, children before their parents; the first failure is told, the others are tried all the same.
    /// Telling the disk to make it durable is left to who also writes the file pages.
    fn flush(&mut self) -> Result<(), IoError> {
        let mut result = Ok(());
        for (_, _, slot) in self.in_order() {
            result = result.and(self.write_back(slot));
        }
        result
    }
}
