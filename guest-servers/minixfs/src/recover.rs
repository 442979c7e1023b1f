//! Mending a volume whose server died: what can be reached from the root is kept, everything else is made to agree with it.
//!
//! The one thing to hold in mind: **inodes and directories are believed, bitmaps and link counts are not.** Blocks are written
//! children first ([`Rank`](crate::Rank)), so what the inode table points at is there, and the rest is what had not yet got
//! that far or was being removed:
//! - a name whose inode is free goes; an inode without a name goes, with all it held;
//! - a zone number out of range, or claimed by two, or behind the end of its file, goes; who claimed a zone first keeps it;
//! - a directory has `.` and `..` first, whole entries, no holes and one name;
//! - link counts and bitmaps are counted anew.
//!
//! A volume on which all this is so already is only read. Wherever mending itself stops, it can begin again.
//!
//! It takes memory by the number of inodes and zones, which the superblock was checked for, and time by the blocks there are:
//! no inode and no zone is entered twice, whatever the disk says. It is no `fsck`: it asks nobody, keeps nothing in a
//! `lost+found`, and does not look for a name that stands twice in a directory.

use alloc::vec::Vec;
use core::fmt;

use zerocopy::FromBytes;

use crate::bitmap::Map;
use crate::dir::{ENTRY_SIZE, RawEntry};
use crate::error::{Error, Location, Result};
use crate::inode::{FileKind, INODE_SIZE, Inode, InodeNumber, ROOT_INODE};
use crate::names::LINKS_MAX;
use crate::store::{BlockStore, IoError, Rank};
use crate::superblock::Superblock;
use crate::volume::{Access, Volume};
use crate::zones::DIRECT_ZONES;

/// Zones of the largest volume that is mended: 128 GiB with blocks of 1 KiB, whose map takes 16 MiB of memory.
const MOST_ZONES: u32 = 1 << 27;

/// What was mended, each as a count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Names that led nowhere, or were a directory's second.
    pub names: u32,
    /// Inodes freed that nobody named.
    pub inodes: u32,
    /// Inodes whose link count was wrong.
    pub links: u32,
    /// Zone numbers cleared.
    pub pointers: u32,
    /// Directories whose size, `.` or `..` was wrong.
    pub directories: u32,
    /// Bits of the inode bitmap.
    pub inode_bits: u32,
    /// Bits of the zone bitmap.
    pub zone_bits: u32,
}

impl Report {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Report::default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("nothing was wrong");
        }
        write!(
            f,
            "mended: {} names, {} inodes without a name, {} link counts, {} zone numbers, {} directories, bits of {} inodes and {} zones",
            self.names,
            self.inodes,
            self.links,
            self.pointers,
            self.directories,
            self.inode_bits,
            self.zone_bits
        )
    }
}

/// What is known so far.
struct Walk {
    /// Links found, by inode; 0 for what has not been reached.
    links: Vec<u16>,
    /// Zones claimed, in the layout of the zone bitmap.
    claimed: Vec<u8>,
    /// Directories to be looked into, each with its parent.
    waiting: Vec<(InodeNumber, InodeNumber)>,
    report: Report,
}

/// A file while its zones are claimed.
struct Claim {
    is_directory: bool,
    /// File blocks from here on are behind the end.
    end: u64,
    /// Numbers that had to go.
    cleared: u32,
}

impl<S: BlockStore> Volume<S> {
    /// Mounts for writing a volume that was not given back in order, after mending it. Nothing is written if nothing was
    /// wrong; otherwise everything has been flushed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no root directory, [`Error::Invalid`] for a volume too large to be mended or when
    /// memory is short, [`Error::Io`]. The store may hold changes then, which are worth nothing.
    pub fn recover(store: S, superblock: Superblock) -> Result<(Self, Report)> {
        let mut volume = Volume::unchecked(store, superblock, Access::ReadWrite);
        let report = volume.mend()?;
        volume.check_root()?;
        Ok((volume, report))
    }

    fn mend(&mut self) -> Result<Report> {
        let (inodes, zones) = (self.inode_map(), self.zone_map());
        if zones.last > MOST_ZONES {
            return Err(Error::Invalid);
        }
        let mut walk = Walk {
            links: filled(inodes.last.saturating_add(1))?,
            claimed: filled((zones.last / 8).saturating_add(1))?,
            waiting: Vec::new(),
            report: Report::default(),
        };
        let nowhere = || Error::corrupt("no root directory", Location::Inode(ROOT_INODE), ROOT_INODE);
        let root = self.inode(ROOT_INODE)?;
        if root.kind != FileKind::Directory || !self.adopt(&mut walk, ROOT_INODE, root)? {
            return Err(nowhere());
        }
        walk.waiting.push((ROOT_INODE, ROOT_INODE));
        while let Some((directory, parent)) = walk.waiting.pop() {
            self.mend_directory(&mut walk, directory, parent)?;
        }
        self.mend_links(&mut walk)?;
        let used: Vec<u8> = walk.links.chunks(8).map(bits).collect();
        walk.report.inode_bits = self.mend_map(inodes, &used)?;
        walk.report.zone_bits = self.mend_map(zones, &walk.claimed)?;
        if !walk.report.is_clean() {
            self.flush()?;
        }
        Ok(walk.report)
    }

    /// Takes an inode that has just been reached: claims its zones, and counts its first links. False for a directory
    /// without a first block, which cannot be one.
    fn adopt(&mut self, walk: &mut Walk, number: InodeNumber, mut inode: Inode) -> Result<bool> {
        let before = inode;
        let block_size = self.superblock.block_size();
        let is_directory = inode.kind == FileKind::Directory;
        if inode.kind.has_zones() {
            let blocks = u64::from(inode.size.div_ceil(block_size));
            let end = if is_directory { blocks.max(1) } else { blocks };
            let mut claim = Claim { is_directory, end, cleared: 0 };
            let mut first = 0u64;
            for slot in 0..inode.zones.len() {
                let depth = (slot as u32).saturating_sub(DIRECT_ZONES.saturating_sub(1));
                let Some(&zone) = inode.zones.get(slot) else { break };
                if !self.claim_tree(walk, &mut claim, zone, depth, first)?
                    && zone != 0
                    && let Some(slot) = inode.zones.get_mut(slot)
                {
                    *slot = 0;
                    claim.cleared = claim.cleared.saturating_add(1);
                }
                first = first.saturating_add(self.span(depth));
            }
            walk.report.pointers = walk.report.pointers.saturating_add(claim.cleared);
            if is_directory {
                if claim.end == 0 {
                    return Ok(false);
                }
                let most = u32::try_from(claim.end).unwrap_or(u32::MAX).saturating_mul(block_size);
                let whole = inode.size.saturating_sub(inode.size % ENTRY_SIZE);
                inode.size = whole.min(most).max(2 * ENTRY_SIZE);
                walk.report.directories =
                    walk.report.directories.saturating_add(u32::from(inode.size != before.size));
            }
        }
        if inode != before {
            self.store_inode(number, &inode)?;
        }
        if let Some(links) = walk.links.get_mut(number as usize) {
            *links = if is_directory { 2 } else { 1 };
        }
        Ok(true)
    }

    /// Claims a zone for file block `first` and those behind it and, if it is an indirect block with `depth` levels below it,
    /// what it points at. False if the number has to go, or is none. The recursion is at most three deep.
    fn claim_tree(
        &mut self,
        walk: &mut Walk,
        claim: &mut Claim,
        zone: u32,
        depth: u32,
        first: u64,
    ) -> Result<bool> {
        if first >= claim.end {
            return Ok(false);
        }
        let bit = if zone == 0 { None } else { self.zone_bit(zone).ok() };
        let Some(bit) = bit.filter(|&bit| walk.claim(bit)) else {
            if claim.is_directory {
                // Behind a hole a directory ends.
                claim.end = first;
            }
            return Ok(false);
        };
        let Some(below) = depth.checked_sub(1) else { return Ok(true) };
        let mut at = first;
        for index in 0..self.pointers_per_block() {
            let child = self.pointer(zone, index)?;
            if !self.claim_tree(walk, claim, child, below, at)? && child != 0 {
                self.set_pointer(zone, index, 0, depth)?;
                claim.cleared = claim.cleared.saturating_add(1);
            }
            at = at.saturating_add(self.span(below));
        }
        let needed = first < claim.end;
        if !needed {
            walk.disclaim(bit);
        }
        Ok(needed)
    }

    /// Looks at every name of a directory that has been adopted.
    fn mend_directory(&mut self, walk: &mut Walk, number: InodeNumber, parent: InodeNumber) -> Result<()> {
        let inode = self.inode(number)?;
        let mut offset = 0u32;
        let mut wrong = false;
        while offset < inode.size {
            let zone = self.directory_zone(number, &inode, offset)?;
            let used = inode.size.saturating_sub(offset).min(self.superblock.block_size()) as usize;
            let mut bytes = self.store.block(zone)?.get(..used).ok_or(IoError { block: zone })?.to_vec();
            let entries = <[RawEntry]>::mut_from_bytes(&mut bytes).map_err(|_| IoError { block: zone })?;
            let mut changed = false;
            for (index, entry) in entries.iter_mut().enumerate() {
                let own = match index {
                    0 if offset == 0 => Some((number, b".".as_slice())),
                    1 if offset == 0 => Some((parent, b"..".as_slice())),
                    _ => None,
                };
                if let Some((target, name)) = own {
                    if entry.inode.get() != target || entry.name() != name {
                        *entry = RawEntry::new(target, name);
                        (changed, wrong) = (true, true);
                    }
                } else if entry.inode.get() != 0 && !self.reach(walk, number, entry)? {
                    *entry = RawEntry::new(0, b"");
                    walk.report.names = walk.report.names.saturating_add(1);
                    changed = true;
                }
            }
            if changed {
                let block = self.store.block_mut(zone)?;
                block.get_mut(..used).ok_or(IoError { block: zone })?.copy_from_slice(&bytes);
                self.store.rank(zone, Rank::Contents);
            }
            offset = offset.saturating_add(self.superblock.block_size());
        }
        walk.report.directories = walk.report.directories.saturating_add(u32::from(wrong));
        Ok(())
    }

    /// Follows a name of a directory. False if it has to go.
    fn reach(&mut self, walk: &mut Walk, directory: InodeNumber, entry: &RawEntry) -> Result<bool> {
        let target = entry.inode.get();
        let name = entry.name();
        if name.is_empty() || name.contains(&b'/') || matches!(name, b"." | b"..") {
            return Ok(false);
        }
        let (Some(links), Some(beside)) = (walk.links(target), walk.links(directory)) else {
            return Ok(false);
        };
        let inode = match self.inode(target) {
            Ok(inode) => inode,
            Err(Error::Corrupt(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let is_directory = inode.kind == FileKind::Directory;
        if links > 0 {
            let one_more = !is_directory && links < LINKS_MAX;
            if one_more {
                walk.count_link(target);
            }
            return Ok(one_more);
        }
        // Without links it was about to be freed.
        if inode.links == 0 || (is_directory && beside >= LINKS_MAX) || !self.adopt(walk, target, inode)? {
            return Ok(false);
        }
        if is_directory {
            walk.count_link(directory);
            walk.waiting.push((target, directory));
        }
        Ok(true)
    }

    /// Every inode has the links that were found, and is free if it has none.
    fn mend_links(&mut self, walk: &mut Walk) -> Result<()> {
        for (number, &links) in (0u32..).zip(&walk.links).skip(1) {
            if links == 0 {
                // What else a free inode holds is nobody's affair.
                let (block, offset) = self.inode_place(number)?;
                let end = offset.saturating_add(INODE_SIZE);
                let bytes = self.store.block(block)?.get(offset..end).ok_or(IoError { block })?;
                let mode_and_links = bytes.get(..4).unwrap_or_default();
                if mode_and_links.iter().any(|&byte| byte != 0) {
                    self.erase_inode(number)?;
                    walk.report.inodes = walk.report.inodes.saturating_add(1);
                }
                continue;
            }
            let mut inode = self.inode(number)?;
            if inode.links != links {
                inode.links = links;
                self.store_inode(number, &inode)?;
                walk.report.links = walk.report.links.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Makes a bitmap say what was found; how many bits it said otherwise.
    fn mend_map(&mut self, map: Map, found: &[u8]) -> Result<u32> {
        let block_size = self.superblock.block_size() as usize;
        let mut wrong = 0u32;
        let mut bit = 0u32;
        for (block, found) in (map.start..).zip(found.chunks(block_size)) {
            let old = self.store.block(block)?;
            let mut new = old.to_vec();
            for (byte, &found) in new.iter_mut().zip(found) {
                // How many bits of this byte stand for objects; the others stay as they are, but for the reserved one.
                let valid = map.last.saturating_add(1).saturating_sub(bit).min(8);
                let mask = if valid == 8 { 0xff } else { 1u8.wrapping_shl(valid).wrapping_sub(1) };
                let reserved = u8::from(bit == 0);
                *byte = (*byte & !mask) | (found & mask) | reserved;
                bit = bit.saturating_add(8);
            }
            let differ = old.iter().zip(&new).map(|(old, new)| (old ^ new).count_ones()).sum::<u32>();
            if differ > 0 {
                let place = self.store.block_mut(block)?;
                place.get_mut(..new.len()).ok_or(IoError { block })?.copy_from_slice(&new);
                self.store.rank(block, Rank::Bitmap);
                wrong = wrong.saturating_add(differ);
            }
        }
        Ok(wrong)
    }
}

impl Walk {
    /// Claims a zone by its bit; false if it has been.
    fn claim(&mut self, bit: u32) -> bool {
        let mask = 1u8.wrapping_shl(bit % 8);
        let Some(byte) = self.claimed.get_mut((bit / 8) as usize) else { return false };
        let free = *byte & mask == 0;
        *byte |= mask;
        free
    }

    fn disclaim(&mut self, bit: u32) {
        if let Some(byte) = self.claimed.get_mut((bit / 8) as usize) {
            *byte &= !1u8.wrapping_shl(bit % 8);
        }
    }

    /// Links found of an inode; nothing for a number that none has.
    fn links(&self, number: InodeNumber) -> Option<u16> {
        if number == 0 { None } else { self.links.get(number as usize).copied() }
    }

    fn count_link(&mut self, number: InodeNumber) {
        if let Some(links) = self.links.get_mut(number as usize) {
            *links = links.saturating_add(1);
        }
    }
}

/// One bit for each of eight counts.
fn bits(links: &[u16]) -> u8 {
    (0u32..).zip(links).fold(0, |byte, (n, &links)| byte | u8::from(links > 0).wrapping_shl(n))
}

/// So many zeros, or an error when memory is short.
fn filled<T: Clone + Default>(count: u32) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count as usize).map_err(|_| Error::Invalid)?;
    all.resize(count as usize, T::default());
    Ok(all)
}
