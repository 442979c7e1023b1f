//! From a block of a file to a zone of the disk, and back to the free list.
//!
//! An inode has seven direct zones, then a single, a double and a triple indirect one. Zero is a hole. With blocks of
//! 1024 bytes an indirect block holds 256 numbers, so the boundaries are at file blocks 7, 263 and 65799.
//!
//! Freeing is where hostile images bite: an indirect block may point at itself, at another's tree, or at one child 256
//! times. So a zone's bit is cleared *before* its children are visited; the second visit finds it clear and ends in
//! [`Error::Corrupt`], and no walk takes more steps than the volume has zones.

use core::num::NonZeroU32;

use zerocopy::FromBytes;
use zerocopy::byteorder::little_endian::U32;

use crate::error::{Error, Location, Result};
use crate::inode::{Inode, InodeNumber};
use crate::store::{BlockStore, IoError, Rank};
use crate::volume::Volume;

/// The largest file of the format, in bytes: sizes are kept as signed 32-bit numbers by the other users of it.
pub const MAX_FILE_SIZE: u32 = 0x7fff_ffff;
/// Zones in the inode that hold data themselves.
pub(crate) const DIRECT_ZONES: u32 = 7;

/// Bytes of a zone number on the disk.
const POINTER_SIZE: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// Where a block of a file is, after it was asked for in order to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The zone, which is also the block number on the device.
    pub zone: u32,
    /// It was a hole until now: what the device holds there is somebody's old data, and everything of it that is not
    /// overwritten has to be zeroed.
    pub fresh: bool,
}

/// The way from an inode to a block: a slot of the inode, then up to three indices into indirect blocks.
struct Path {
    slot: usize,
    depth: u32,
    /// Indices from the outermost indirect block inwards; the first `depth` count.
    indices: [u32; 3],
}

impl<S: BlockStore> Volume<S> {
    /// The zone that holds block `file_block` of the file, or nothing for a hole.
    ///
    /// # Errors
    /// [`Error::FileTooLarge`] beyond what the format can address, [`Error::Corrupt`], [`Error::Io`].
    pub fn map(&mut self, number: InodeNumber, file_block: u32) -> Result<Option<u32>> {
        let inode = self.inode(number)?;
        self.map_in(number, &inode, file_block)
    }

    /// As [`Volume::map`], with the inode at hand.
    pub(crate) fn map_in(
        &mut self,
        number: InodeNumber,
        inode: &Inode,
        file_block: u32,
    ) -> Result<Option<u32>> {
        if !inode.kind.has_zones() {
            return Err(Error::Invalid);
        }
        let path = self.path(file_block)?;
        let mut zone = slot_of(inode, path.slot);
        let mut place = Location::Inode(number);
        for &index in path.indices.iter().take(path.depth as usize) {
            if zone == 0 {
                return Ok(None);
            }
            self.check_zone(zone, place)?;
            place = Location::Block(zone);
            zone = self.pointer(zone, index)?;
        }
        if zone == 0 {
            return Ok(None);
        }
        self.check_zone(zone, place)?;
        Ok(Some(zone))
    }

    /// The zone that holds block `file_block` of the file, taken from the free ones if it was a hole. The size is not
    /// changed: that is for the caller to do, by [`Volume::set_size`], once the bytes are there.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::ReadOnly`], and those of [`Volume::map`].
    pub fn map_for_write(&mut self, number: InodeNumber, file_block: u32) -> Result<Mapping> {
        self.check_writable()?;
        let mut inode = self.inode(number)?;
        let before = inode;
        let result = self.map_for_write_in(number, &mut inode, file_block);
        if inode != before {
            self.store_inode(number, &inode)?;
        }
        result
    }

    /// As [`Volume::map_for_write`], changing the inode at hand, which the caller stores even after an error.
    pub(crate) fn map_for_write_in(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        file_block: u32,
    ) -> Result<Mapping> {
        if !inode.kind.has_zones() {
            return Err(Error::Invalid);
        }
        let path = self.path(file_block)?;
        let mut place = Location::Inode(number);
        let mut zone = slot_of(inode, path.slot);
        let mut fresh = false;
        if zone == 0 {
            zone = self.take_zone(path.depth)?;
            if let Some(slot) = inode.zones.get_mut(path.slot) {
                *slot = zone;
            }
            fresh = true;
        }
        for (level, &index) in path.indices.iter().take(path.depth as usize).enumerate() {
            self.check_zone(zone, place)?;
            let next = self.pointer(zone, index)?;
            place = Location::Block(zone);
            fresh = next == 0;
            zone = if fresh {
                self.check_zone_used(zone)?;
                let depth = path.depth.saturating_sub(level as u32);
                let taken = self.take_zone(depth.saturating_sub(1))?;
                self.set_pointer(zone, index, taken, depth)?;
                taken
            } else {
                next
            };
        }
        self.check_zone(zone, place)?;
        if !fresh {
            self.check_zone_used(zone)?;
        }
        Ok(Mapping { zone, fresh })
    }

    /// Frees every zone behind the block that holds byte `size - 1`, indirect blocks that become empty included.
    /// The caller stores the inode, even after an error: what could be freed has been.
    pub(crate) fn free_beyond(&mut self, number: InodeNumber, inode: &mut Inode, size: u32) -> Result<()> {
        if !inode.kind.has_zones() {
            return Ok(());
        }
        let keep = u64::from(size.div_ceil(self.superblock.block_size()));
        let mut first = 0u64;
        for slot in 0..inode.zones.len() {
            let depth = (slot as u32).saturating_sub(DIRECT_ZONES.saturating_sub(1));
            let span = self.span(depth);
            let zone = slot_of(inode, slot);
            let end = first.saturating_add(span);
            if zone != 0 && end > keep {
                self.check_zone(zone, Location::Inode(number))?;
                if first >= keep {
                    if let Some(slot) = inode.zones.get_mut(slot) {
                        *slot = 0;
                    }
                    self.free_tree(zone, depth)?;
                } else {
                    self.trim_tree(zone, depth, keep.saturating_sub(first))?;
                }
            }
            first = end;
        }
        Ok(())
    }

    /// Frees a zone and, if it is an indirect block, all below it. The recursion is at most three deep.
    fn free_tree(&mut self, zone: u32, depth: u32) -> Result<()> {
        self.free_zone(zone)?;
        if let Some(below) = depth.checked_sub(1) {
            for index in 0..self.pointers_per_block() {
                let child = self.pointer(zone, index)?;
                if child != 0 {
                    self.check_zone(child, Location::Block(zone))?;
                    self.free_tree(child, below)?;
                }
            }
        }
        self.store.forget(zone);
        Ok(())
    }

    /// Frees what lies behind the first `keep` (at least 1) file blocks of an indirect block's tree.
    fn trim_tree(&mut self, zone: u32, depth: u32, keep: u64) -> Result<()> {
        let Some(below) = depth.checked_sub(1) else { return Ok(()) };
        let span = self.span(below);
        let mut first = 0u64;
        for index in 0..self.pointers_per_block() {
            let end = first.saturating_add(span);
            if end > keep {
                let child = self.pointer(zone, index)?;
                if child != 0 {
                    self.check_zone(child, Location::Block(zone))?;
                    if first >= keep {
                        self.set_pointer(zone, index, 0, depth)?;
                        self.free_tree(child, below)?;
                    } else {
                        self.trim_tree(child, below, keep.saturating_sub(first))?;
                    }
                }
            }
            first = end;
        }
        Ok(())
    }

    /// Corruption unless the number is that of a data zone.
    pub(crate) fn check_zone(&self, zone: u32, place: Location) -> Result<()> {
        if zone >= self.superblock.first_data_zone && zone < self.superblock.zones {
            return Ok(());
        }
        Err(Error::corrupt("zone number out of range", place, zone))
    }

    /// A free zone; an indirect block, which one of `depth` more than 0 is, starts without pointers.
    fn take_zone(&mut self, depth: u32) -> Result<u32> {
        let zone = self.allocate_zone()?;
        if depth == 0 {
            return Ok(zone);
        }
        if let Err(error) = self.store.block_zeroed(zone).map(|_| ()) {
            self.free_zone(zone)?;
            return Err(error.into());
        }
        self.store.rank(zone, Rank::Indirect(depth));
        Ok(zone)
    }

    pub(crate) fn pointers_per_block(&self) -> u32 {
        self.superblock.per_block(POINTER_SIZE)
    }

    /// How many file blocks a tree of this depth covers.
    pub(crate) fn span(&self, depth: u32) -> u64 {
        u64::from(self.pointers_per_block()).saturating_pow(depth)
    }

    fn path(&self, file_block: u32) -> Result<Path> {
        let mut rest = u64::from(file_block);
        if rest < u64::from(DIRECT_ZONES) {
            return Ok(Path { slot: rest as usize, depth: 0, indices: [0; 3] });
        }
        rest = rest.saturating_sub(DIRECT_ZONES.into());
        for depth in 1..=3u32 {
            let span = self.span(depth);
            if rest < span {
                let mut indices = [0; 3];
                for (level, index) in indices.iter_mut().take(depth as usize).enumerate() {
                    let below = self.span(depth.saturating_sub(level as u32).saturating_sub(1));
                    *index = rest.checked_div(below).unwrap_or(0) as u32;
                    rest = rest.checked_rem(below).unwrap_or(0);
                }
                let slot = DIRECT_ZONES.saturating_add(depth).saturating_sub(1) as usize;
                return Ok(Path { slot, depth, indices });
            }
            rest = rest.saturating_sub(span);
        }
        Err(Error::FileTooLarge)
    }

    /// One number of an indirect block.
    pub(crate) fn pointer(&mut self, block: u32, index: u32) -> Result<u32> {
        let offset = (index as usize).saturating_mul(size_of::<U32>());
        let bytes = self.store.block(block)?.get(offset..).ok_or(IoError { block })?;
        let (value, _) = U32::ref_from_prefix(bytes).map_err(|_| IoError { block })?;
        Ok(value.get())
    }

    /// Changes one number of an indirect block with `depth` levels below it.
    pub(crate) fn set_pointer(&mut self, block: u32, index: u32, zone: u32, depth: u32) -> Result<()> {
        let offset = (index as usize).saturating_mul(size_of::<U32>());
        let bytes = self.store.block_mut(block)?.get_mut(offset..).ok_or(IoError { block })?;
        let (value, _) = U32::mut_from_prefix(bytes).map_err(|_| IoError { block })?;
        *value = U32::new(zone);
        self.store.rank(block, Rank::Indirect(depth));
        Ok(())
    }
}

fn slot_of(inode: &Inode, slot: usize) -> u32 {
    inode.zones.get(slot).copied().unwrap_or(0)
}
