//! The cache of metadata blocks: a fixed number of buffers, written back when somebody asks or when they are needed.
//!
//! A buffer that cannot be written stays dirty and is passed over when another is wanted; when all are like that, the
//! request fails. Nothing here waits for anything but the driver.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use refault_minixfs::{BlockStore, IoError};

use crate::system::Disk;

/// Buffers of a mount: 512 KiB with blocks of 1 KiB, all metadata of a small disk.
pub const BUFFERS: usize = 512;

#[derive(Debug, Clone, Copy)]
struct Buffer {
    block: Option<u32>,
    dirty: bool,
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
}

impl<D: Disk> BlockCache<D> {
    /// An empty cache of `buffers` (at least 1) buffers over the first `limit` blocks of a disk.
    pub fn new(disk: D, block_size: u32, limit: u32, buffers: usize) -> Self {
        let block_size = block_size as usize;
        let buffers = buffers.max(1);
        BlockCache {
            disk,
            block_size,
            limit,
            buffers: vec![Buffer { block: None, dirty: false, used: 0 }; buffers],
            bytes: vec![0; buffers.saturating_mul(block_size)],
            index: BTreeMap::new(),
            clock: 0,
        }
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

    /// An unused buffer: a free one, else the clean one unused longest, else a dirty one once it is written.
    fn take(&mut self) -> Result<usize, IoError> {
        let clean = self.buffers.iter().enumerate().filter(|(_, buffer)| !buffer.dirty);
        let oldest =
            clean.min_by_key(|(_, buffer)| (buffer.block.is_some(), buffer.used)).map(|(slot, _)| slot);
        let slot = match oldest {
            Some(slot) => slot,
            None => {
                let mut dirty: Vec<_> =
                    self.buffers.iter().enumerate().map(|(slot, b)| (b.used, slot)).collect();
                dirty.sort_unstable();
                let mut result = Err(IoError { block: 0 });
                for (_, slot) in dirty {
                    result = self.write_back(slot).map(|()| slot);
                    if result.is_ok() {
                        break;
                    }
                }
                result?
            }
        };
        if let Some(block) = self.buffers.get_mut(slot).and_then(|buffer| buffer.block.take()) {
            self.index.remove(&block);
        }
        Ok(slot)
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
            buffer.dirty = false;
        }
        Ok(())
    }

    fn dirty(&mut self, slot: usize) {
        if let Some(buffer) = self.buffers.get_mut(slot) {
            buffer.dirty = true;
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
        let bytes = self.contents(slot, number)?;
        bytes.fill(0);
        Ok(bytes)
    }

    fn forget(&mut self, number: u32) {
        if let Some(slot) = self.index.remove(&number)
            && let Some(buffer) = self.buffers.get_mut(slot)
        {
            *buffer = Buffer { block: None, dirty: false, used: 0 };
        }
    }

    /// Writes every dirty buffer, in the order of the disk; the first failure is told, the others are tried all the same.
    /// Telling the disk to make it durable is left to who also writes the file pages.
    fn flush(&mut self) -> Result<(), IoError> {
        let slots: Vec<_> = self.index.values().copied().collect();
        let mut result = Ok(());
        for slot in slots {
            result = result.and(self.write_back(slot));
        }
        result
    }
}
