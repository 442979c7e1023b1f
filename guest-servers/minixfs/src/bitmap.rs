//! The two bitmaps: which inodes and which zones are in use.
//!
//! Bit 0 of each is reserved and set. Bit *i* of the inode map is inode *i*; bit *i* of the zone map is zone
//! `first_data_zone + i - 1`. Bits behind the last object are set too, and never looked at here.

use core::num::NonZeroU32;

use crate::error::{Error, Location, Result};
use crate::inode::InodeNumber;
use crate::order::{Held, Order};
use crate::store::{BlockStore, IoError, Rank};
use crate::superblock::FIRST_MAP_BLOCK;
use crate::volume::Volume;

const EIGHT: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// How full the volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free zones, of [`crate::Superblock::data_zones`].
    pub free_zones: u32,
    /// Free inodes, of [`crate::Superblock::inodes`].
    pub free_inodes: u32,
}

/// One of the bitmaps, as a range of blocks and of bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map {
    pub(crate) start: u32,
    /// The last bit that stands for an object; the first is 1.
    pub(crate) last: u32,
}

impl<S: BlockStore> Volume<S> {
    pub(crate) fn inode_map(&self) -> Map {
        Map { start: FIRST_MAP_BLOCK, last: self.superblock.inodes }
    }

    pub(crate) fn zone_map(&self) -> Map {
        Map { start: self.superblock.zmap_start(), last: self.superblock.data_zones() }
    }

    /// Free zones and inodes, counted.
    ///
    /// # Errors
    /// [`Error::Io`] when a bitmap cannot be read.
    pub fn space(&mut self) -> Result<Space> {
        Ok(Space {
            free_zones: self.count_free(self.zone_map())?,
            free_inodes: self.count_free(self.inode_map())?,
        })
    }

    /// Takes a free inode that is not held back.
    pub(crate) fn allocate_inode(&mut self) -> Result<InodeNumber> {
        let free = self.find_first_free(self.inode_map(), self.inode_hint, |order| &order.inodes)?;
        let found = free.ok_or(Error::NoInodes)?;
        self.set_bit(self.inode_map(), found)?;
        self.inode_hint = found;
        Ok(found)
    }

    /// Takes a free zone that is not held back. Its contents are whatever was there before.
    pub(crate) fn allocate_zone(&mut self) -> Result<u32> {
        let free = self.find_first_free(self.zone_map(), self.zone_hint, |order| &order.zones)?;
        let found = free.ok_or(Error::NoSpace)?;
        self.set_bit(self.zone_map(), found)?;
        self.zone_hint = found;
        // Bit 1 is the first data zone; the superblock was checked so that this stays below `zones`.
        Ok(found.saturating_sub(1).saturating_add(self.superblock.first_data_zone))
    }

    /// Gives an inode back.
    pub(crate) fn free_inode(&mut self, number: InodeNumber) -> Result<()> {
        if !self.clear_bit(self.inode_map(), number)? {
            return Err(Error::corrupt("inode freed that is free", Location::InodeMap(number), number));
        }
        if self.order.kept {
            self.order.inodes.add(number);
        } else {
            self.inode_hint = self.inode_hint.min(number);
        }
        Ok(())
    }

    /// Gives a zone back. A zone that is free already shows that two files claim it.
    pub(crate) fn free_zone(&mut self, zone: u32) -> Result<()> {
        let bit = self.zone_bit(zone)?;
        if !self.clear_bit(self.zone_map(), bit)? {
            return Err(Error::corrupt("zone freed that is free", Location::ZoneMap(zone), zone));
        }
        if self.order.kept {
            self.order.zones.add(bit);
        } else {
            self.zone_hint = self.zone_hint.min(bit);
        }
        Ok(())
    }

    /// Corruption unless the inode is marked as used.
    pub(crate) fn check_inode_used(&mut self, number: InodeNumber) -> Result<()> {
        if number == 0 || number > self.superblock.inodes {
            return Err(Error::corrupt("inode number out of range", Location::Inode(number), number));
        }
        if !self.bit(self.inode_map(), number)? {
            return Err(Error::corrupt("a free inode is referred to", Location::InodeMap(number), number));
        }
        Ok(())
    }

    /// Corruption unless the zone is marked as used: asked before something is written to it, since a zone that is
    /// free in the map will be given to another file.
    pub(crate) fn check_zone_used(&mut self, zone: u32) -> Result<()> {
        let bit = self.zone_bit(zone)?;
        if !self.bit(self.zone_map(), bit)? {
            return Err(Error::corrupt("a free zone is referred to", Location::ZoneMap(zone), zone));
        }
        Ok(())
    }

    pub(crate) fn zone_bit(&self, zone: u32) -> Result<u32> {
        let bit = zone.checked_sub(self.superblock.first_data_zone).and_then(|n| n.checked_add(1));
        bit.filter(|_| zone < self.superblock.zones)
            .ok_or_else(|| Error::corrupt("zone number out of range", Location::ZoneMap(zone), zone))
    }

    /// The block of the map that holds the bit, the byte in it, and the bit's mask.
    fn bit_place(&self, map: Map, bit: u32) -> (u32, usize, u8) {
        let bits_per_block = self.bits_per_block();
        let block = map.start.saturating_add(bit / bits_per_block);
        let within = bit % bits_per_block;
        (block, (within / 8) as usize, 1u8.wrapping_shl(within % 8))
    }

    fn bits_per_block(&self) -> NonZeroU32 {
        self.superblock.block_size.saturating_mul(EIGHT)
    }

    fn bit(&mut self, map: Map, bit: u32) -> Result<bool> {
        let (block, byte, mask) = self.bit_place(map, bit);
        let value = self.store.block(block)?.get(byte).ok_or(IoError { block })?;
        Ok(value & mask != 0)
    }

    /// Clears the bit; false if it was clear.
    fn clear_bit(&mut self, map: Map, bit: u32) -> Result<bool> {
        if !self.bit(map, bit)? {
            return Ok(false);
        }
        let (block, byte, mask) = self.bit_place(map, bit);
        let value = self.store.block_mut(block)?.get_mut(byte).ok_or(IoError { block })?;
        *value &= !mask;
        self.store.rank(block, Rank::Bitmap);
        Ok(true)
    }

    fn set_bit(&mut self, map: Map, bit: u32) -> Result<()> {
        let (block, byte, mask) = self.bit_place(map, bit);
        *self.store.block_mut(block)?.get_mut(byte).ok_or(IoError { block })? |= mask;
        self.store.rank(block, Rank::Bitmap);
        Ok(())
    }

    /// Finds the first free bit from `hint` on, then before it, which is not held back.
    fn find_first_free(&mut self, map: Map, hint: u32, held: fn(&Order) -> &Held) -> Result<Option<u32>> {
        let from = hint.min(map.last).max(1);
        match self.find_free_but(map, from, map.last, held)? {
            Some(bit) => Ok(Some(bit)),
            None => self.find_free_but(map, 1, from, held),
        }
    }

    /// The first free bit in `from..=to` which is not held back.
    fn find_free_but(
        &mut self,
        map: Map,
        mut from: u32,
        to: u32,
        held: fn(&Order) -> &Held,
    ) -> Result<Option<u32>> {
        while let Some(bit) = self.find_free(map, from, to)? {
            let Some(end) = held(&self.order).end(bit) else { return Ok(Some(bit)) };
            if end >= to {
                break;
            }
            from = end.saturating_add(1);
        }
        Ok(None)
    }

    /// The first free bit in `from..=to`.
    fn find_free(&mut self, map: Map, from: u32, to: u32) -> Result<Option<u32>> {
        let bits_per_block = self.bits_per_block();
        let mut bit = from;
        while bit <= to {
            let (block, first_byte, _) = self.bit_place(map, bit);
            let bytes = self.store.block(block)?;
            let block_base = bit.saturating_sub(bit % bits_per_block);
            for (index, &byte) in bytes.iter().enumerate().skip(first_byte) {
                // Bits before `from` in its own byte count as used.
                let base = block_base.saturating_add((index as u32).saturating_mul(8));
                let before = from.saturating_sub(base);
                let hidden = if before >= 8 { 0xff } else { 1u8.wrapping_shl(before).wrapping_sub(1) };
                let free = !(byte | hidden);
                if free != 0 {
                    let found = base.saturating_add(free.trailing_zeros());
                    return Ok((found <= to).then_some(found));
                }
            }
            bit = block_base.saturating_add(bits_per_block.get());
        }
        Ok(None)
    }

    fn count_free(&mut self, map: Map) -> Result<u32> {
        let bits_per_block = self.bits_per_block();
        let mut free = 0u32;
        let mut base = 0u32;
        while base <= map.last {
            let (block, _, _) = self.bit_place(map, base);
            for (index, &byte) in self.store.block(block)?.iter().enumerate() {
                let first = base.saturating_add((index as u32).saturating_mul(8));
                // How many bits of this byte stand for objects.
                let valid = map.last.saturating_add(1).saturating_sub(first).min(8);
                let mask = if valid == 8 { 0xff } else { 1u8.wrapping_shl(valid).wrapping_sub(1) };
                let reserved = u8::from(first == 0);
                free = free.saturating_add((!byte & mask & !reserved).count_ones());
            }
            base = base.saturating_add(bits_per_block.get());
        }
        Ok(free)
    }
}
