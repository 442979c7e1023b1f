//! Directories: files of 64-byte entries, an inode number and a name padded with zeros.
//!
//! An entry with inode 0 is free. A directory has no holes and no more blocks than the volume has, so that a hostile
//! size cannot make a search last; both are checked as the search goes.

use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Location, Result};
use crate::inode::{Inode, InodeNumber};
use crate::store::{BlockStore, IoError};
use crate::volume::Volume;

/// The longest name, in bytes. A name of this length has no terminating zero on the disk.
pub const NAME_MAX: usize = 60;
/// Bytes of an entry on the disk.
pub(crate) const ENTRY_SIZE: u32 = 64;

/// An entry as it is on the disk.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawEntry {
    pub(crate) inode: U32,
    name: [u8; NAME_MAX],
}

impl RawEntry {
    /// An entry that says `name`, as far as it fits; inode 0 makes it a free one.
    pub(crate) fn new(inode: InodeNumber, name: &[u8]) -> Self {
        let mut entry = RawEntry { inode: U32::new(inode), name: [0; NAME_MAX] };
        entry.name.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        entry
    }

    pub(crate) fn name(&self) -> &[u8] {
        self.name.split(|&byte| byte == 0).next().unwrap_or(&[])
    }
}

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The inode it names. In range, but not yet known to be in use.
    pub inode: InodeNumber,
    /// Where to go on from: the byte offset of the entry behind this one.
    pub next: u32,
    name: [u8; NAME_MAX],
}

impl Entry {
    /// The name, 1 to [`NAME_MAX`] bytes.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.split(|&byte| byte == 0).next().unwrap_or(&[])
    }
}

/// Where a name was found, for changing its entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) inode: InodeNumber,
    pub(crate) offset: u32,
}

/// What a search through a directory ended with.
struct Search {
    found: Option<Found>,
    /// The first free entry passed on the way.
    free: Option<u32>,
}

impl<S: BlockStore> Volume<S> {
    /// The inode that `name` has in the directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NameTooLong`], [`Error::Corrupt`], [`Error::Io`].
    pub fn lookup(&mut self, directory: InodeNumber, name: &[u8]) -> Result<InodeNumber> {
        check_name(name)?;
        let inode = self.directory(directory)?;
        let found = self.search(directory, &inode, name)?.found.ok_or(Error::NotFound)?;
        self.linked_inode(found.inode)?;
        Ok(found.inode)
    }

    /// The first name at or behind byte offset `position` of the directory; nothing at its end. Start at 0, go on
    /// with [`Entry::next`]. Offsets stay good while names come and go.
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::Invalid`] for a position between entries, [`Error::Corrupt`], [`Error::Io`].
    pub fn next_entry(&mut self, directory: InodeNumber, position: u32) -> Result<Option<Entry>> {
        let inode = self.directory(directory)?;
        self.check_directory_size(directory, &inode)?;
        if !position.is_multiple_of(ENTRY_SIZE) {
            return Err(Error::Invalid);
        }
        let mut offset = position;
        while offset < inode.size {
            let raw = self.entry_at(directory, &inode, offset)?;
            let next = offset.saturating_add(ENTRY_SIZE);
            let number = raw.inode.get();
            if number != 0 {
                let place = Location::Directory { inode: directory, offset };
                if number > self.superblock.inodes {
                    return Err(Error::corrupt("inode number out of range", place, number));
                }
                if raw.name().is_empty() || raw.name().contains(&b'/') {
                    return Err(Error::corrupt("impossible name for inode", place, number));
                }
                return Ok(Some(Entry { inode: number, next, name: raw.name }));
            }
            offset = next;
        }
        Ok(None)
    }

    /// Adds a name. The directory's times and, if it grows, its size change; the caller has checked the name.
    pub(crate) fn add_entry(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        target: InodeNumber,
    ) -> Result<()> {
        let mut inode = self.directory(directory)?;
        if inode.links == 0 {
            // Removed while somebody still has it open: nothing may be added to it.
            return Err(Error::NotFound);
        }
        let search = self.search(directory, &inode, name)?;
        if search.found.is_some() {
            return Err(Error::Exists);
        }
        let offset = match search.free {
            Some(offset) => offset,
            None => {
                let offset = inode.size;
                let end = offset.checked_add(ENTRY_SIZE).filter(|&end| end <= self.superblock.max_size);
                let end = end.ok_or(Error::FileTooLarge)?;
                if offset % self.superblock.block_size == 0 {
                    let block = offset / self.superblock.block_size;
                    let mapped = self.map_for_write_in(directory, &mut inode, block);
                    // Stored even after an error: zones may have been attached before it.
                    self.store_inode(directory, &inode)?;
                    self.store.block_zeroed(mapped?.zone)?;
                }
                inode.size = end;
                offset
            }
        };
        inode.modified = self.now;
        inode.changed = self.now;
        // The size first: the entry has to be inside of it to be found.
        self.store_inode(directory, &inode)?;
        self.put_entry(directory, &inode, offset, &RawEntry::new(target, name))
    }

    /// Finds a name for changing or removing it.
    pub(crate) fn find_entry(&mut self, directory: InodeNumber, name: &[u8]) -> Result<Found> {
        let inode = self.directory(directory)?;
        self.search(directory, &inode, name)?.found.ok_or(Error::NotFound)
    }

    /// Removes the name found before.
    pub(crate) fn remove_entry(&mut self, directory: InodeNumber, found: Found) -> Result<()> {
        self.replace_entry(directory, found, None)
    }

    /// Changes the name found before, in its place. The caller has checked that the new one is not there.
    pub(crate) fn rename_entry(&mut self, directory: InodeNumber, found: Found, name: &[u8]) -> Result<()> {
        let mut inode = self.directory(directory)?;
        self.put_entry(directory, &inode, found.offset, &RawEntry::new(found.inode, name))?;
        inode.modified = self.now;
        inode.changed = self.now;
        self.store_inode(directory, &inode)
    }

    /// As [`Volume::remove_entry`], for something that has got another name, in another block.
    pub(crate) fn remove_source(&mut self, directory: InodeNumber, found: Found) -> Result<()> {
        self.remove_entry(directory, found)?;
        let block = self.entry_block(directory, found)?;
        self.name_moves_from(block);
        Ok(())
    }

    /// The block that the name found before is in.
    pub(crate) fn entry_block(&mut self, directory: InodeNumber, found: Found) -> Result<u32> {
        let inode = self.directory(directory)?;
        self.directory_zone(directory, &inode, found.offset)
    }

    /// Lets the name found before refer to another inode, or to none.
    pub(crate) fn replace_entry(
        &mut self,
        directory: InodeNumber,
        found: Found,
        target: Option<InodeNumber>,
    ) -> Result<()> {
        let mut inode = self.directory(directory)?;
        let mut entry = self.entry_at(directory, &inode, found.offset)?;
        match target {
            Some(number) => entry.inode = U32::new(number),
            None => entry = RawEntry::new(0, b""),
        }
        self.put_entry(directory, &inode, found.offset, &entry)?;
        inode.modified = self.now;
        inode.changed = self.now;
        self.store_inode(directory, &inode)
    }

    /// Whether the directory holds nothing but `.` and `..`.
    pub(crate) fn is_empty(&mut self, directory: InodeNumber) -> Result<bool> {
        let mut position = 0;
        while let Some(entry) = self.next_entry(directory, position)? {
            if !matches!(entry.name(), b"." | b"..") {
                return Ok(false);
            }
            position = entry.next;
        }
        Ok(true)
    }

    fn search(&mut self, directory: InodeNumber, inode: &Inode, name: &[u8]) -> Result<Search> {
        self.check_directory_size(directory, inode)?;
        let mut free = None;
        let mut padded = [0; NAME_MAX];
        padded.get_mut(..name.len()).ok_or(Error::NameTooLong)?.copy_from_slice(name);
        let mut start = 0u32;
        while start < inode.size {
            let zone = self.directory_zone(directory, inode, start)?;
            let used = inode.size.saturating_sub(start).min(self.superblock.block_size()) as usize;
            let bytes = self.store.block(zone)?.get(..used).ok_or(IoError { block: zone })?;
            let entries = <[RawEntry]>::ref_from_bytes(bytes).map_err(|_| IoError { block: zone })?;
            for (index, entry) in entries.iter().enumerate() {
                let offset = start.saturating_add((index as u32).saturating_mul(ENTRY_SIZE));
                if entry.inode.get() == 0 {
                    free = free.or(Some(offset));
                } else if entry.name == padded || entry.name() == name {
                    let found = Some(Found { inode: entry.inode.get(), offset });
                    return Ok(Search { found, free });
                }
            }
            start = start.saturating_add(self.superblock.block_size());
        }
        Ok(Search { found: None, free })
    }

    fn check_directory_size(&self, number: InodeNumber, inode: &Inode) -> Result<()> {
        let limit = u64::from(self.superblock.zones).saturating_mul(self.superblock.block_size().into());
        if u64::from(inode.size) > limit || !inode.size.is_multiple_of(ENTRY_SIZE) {
            return Err(Error::corrupt(
                "impossible size of a directory",
                Location::Inode(number),
                inode.size,
            ));
        }
        Ok(())
    }

    pub(crate) fn directory_zone(&mut self, number: InodeNumber, inode: &Inode, offset: u32) -> Result<u32> {
        let block = offset / self.superblock.block_size;
        let place = Location::Directory { inode: number, offset };
        self.map_in(number, inode, block)?.ok_or_else(|| Error::corrupt("hole in a directory", place, offset))
    }

    fn entry_at(&mut self, number: InodeNumber, inode: &Inode, offset: u32) -> Result<RawEntry> {
        let zone = self.directory_zone(number, inode, offset)?;
        let within = self.superblock.within_block(offset);
        let bytes = self.store.block(zone)?.get(within..).ok_or(IoError { block: zone })?;
        let (entry, _) = RawEntry::ref_from_prefix(bytes).map_err(|_| IoError { block: zone })?;
        Ok(*entry)
    }

    fn put_entry(&mut self, number: InodeNumber, inode: &Inode, offset: u32, entry: &RawEntry) -> Result<()> {
        let zone = self.directory_zone(number, inode, offset)?;
        self.check_zone_used(zone)?;
        let within = self.superblock.within_block(offset);
        let bytes = self.store.block_mut(zone)?.get_mut(within..).ok_or(IoError { block: zone })?;
        let (place, _) = RawEntry::mut_from_prefix(bytes).map_err(|_| IoError { block: zone })?;
        *place = *entry;
        Ok(())
    }
}

/// Whether a name can stand in a directory at all.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(Error::Invalid);
    }
    Ok(())
}
