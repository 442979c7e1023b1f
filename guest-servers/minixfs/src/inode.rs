//! Inodes: 64 bytes each, numbered from 1, in one table.
//!
//! An [`Inode`] is a copy; changing it changes nothing until it is stored. Loading checks the kind and that the size
//! is one the volume can have; the zone numbers in it are checked where they are followed.

use core::num::NonZeroU32;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Location, Result};
use crate::store::{BlockStore, IoError, Rank};
use crate::volume::Volume;

/// The number of an inode, from 1.
pub type InodeNumber = u32;
/// The inode of the root directory.
pub const ROOT_INODE: InodeNumber = 1;
/// Bytes of an inode on the disk.
pub const INODE_SIZE: usize = 64;
/// Zone numbers in an inode: 7 direct, then single, double and triple indirect.
pub(crate) const ZONE_SLOTS: usize = 10;

/// The bits of the mode that say what kind of file it is.
const KIND_MASK: u16 = 0o170_000;
/// The bits of the mode that can be changed: permissions, set-id and sticky.
const PERMISSION_MASK: u16 = 0o7777;

/// An inode as it is on the disk.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawInode {
    mode: U16,
    links: U16,
    uid: U16,
    gid: U16,
    size: U32,
    accessed: U32,
    modified: U32,
    changed: U32,
    zones: [U32; ZONE_SLOTS],
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link; its target is the contents of its first block.
    SymbolicLink,
    /// A character device, its number in the first zone slot. Carried, never opened here.
    CharacterDevice,
    /// A block device, its number in the first zone slot. Carried, never opened here.
    BlockDevice,
    /// A named pipe. Carried, never opened here.
    Pipe,
    /// A socket. Carried, never opened here.
    Socket,
}

impl FileKind {
    /// The kind bits of `mode`, or nothing if no kind has these.
    #[must_use]
    pub fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & KIND_MASK {
            0o100_000 => FileKind::Regular,
            0o040_000 => FileKind::Directory,
            0o120_000 => FileKind::SymbolicLink,
            0o020_000 => FileKind::CharacterDevice,
            0o060_000 => FileKind::BlockDevice,
            0o010_000 => FileKind::Pipe,
            0o140_000 => FileKind::Socket,
            _ => return None,
        })
    }

    /// The bits of the mode that say so.
    #[must_use]
    pub fn mode_bits(self) -> u16 {
        match self {
            FileKind::Regular => 0o100_000,
            FileKind::Directory => 0o040_000,
            FileKind::SymbolicLink => 0o120_000,
            FileKind::CharacterDevice => 0o020_000,
            FileKind::BlockDevice => 0o060_000,
            FileKind::Pipe => 0o010_000,
            FileKind::Socket => 0o140_000,
        }
    }

    /// Whether the zone slots hold zone numbers (and not a device number, or nothing).
    pub(crate) fn has_zones(self) -> bool {
        matches!(self, FileKind::Regular | FileKind::Directory | FileKind::SymbolicLink)
    }
}

/// One inode, as numbers of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits, without the kind.
    pub permissions: u16,
    /// How many names refer to it; a directory counts `.` and the `..` of each subdirectory.
    pub links: u16,
    /// Owner.
    pub uid: u16,
    /// Group.
    pub gid: u16,
    /// Bytes.
    pub size: u32,
    /// Last access, in seconds since 1970. Kept as found: reading does not change it.
    pub accessed: u32,
    /// Last change of the contents, in seconds since 1970.
    pub modified: u32,
    /// Last change of the inode, in seconds since 1970.
    pub changed: u32,
    pub(crate) zones: [u32; ZONE_SLOTS],
}

impl Inode {
    /// The mode as the disk and `stat` know it: kind and permissions.
    #[must_use]
    pub fn mode(&self) -> u16 {
        self.kind.mode_bits() | self.permissions
    }

    /// An inode without contents.
    pub(crate) fn empty(kind: FileKind, mode: u16, uid: u16, gid: u16, now: u32) -> Self {
        Inode {
            kind,
            permissions: mode & PERMISSION_MASK,
            links: 1,
            uid,
            gid,
            size: 0,
            accessed: now,
            modified: now,
            changed: now,
            zones: [0; ZONE_SLOTS],
        }
    }

    fn from_raw(raw: &RawInode) -> Option<Self> {
        let mode = raw.mode.get();
        Some(Inode {
            kind: FileKind::from_mode(mode)?,
            permissions: mode & PERMISSION_MASK,
            links: raw.links.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            size: raw.size.get(),
            accessed: raw.accessed.get(),
            modified: raw.modified.get(),
            changed: raw.changed.get(),
            zones: raw.zones.map(U32::get),
        })
    }

    fn to_raw(self) -> RawInode {
        RawInode {
            mode: U16::new(self.mode()),
            links: U16::new(self.links),
            uid: U16::new(self.uid),
            gid: U16::new(self.gid),
            size: U32::new(self.size),
            accessed: U32::new(self.accessed),
            modified: U32::new(self.modified),
            changed: U32::new(self.changed),
            zones: self.zones.map(U32::new),
        }
    }

    /// The inode's bytes, for a tool that writes the table itself.
    pub(crate) fn to_bytes(self) -> [u8; INODE_SIZE] {
        let mut bytes = [0; INODE_SIZE];
        bytes.copy_from_slice(self.to_raw().as_bytes());
        bytes
    }
}

impl<S: BlockStore> Volume<S> {
    /// The inode, checked. Numbers out of range, free inodes and impossible contents are corruption: numbers come
    /// from directory entries or from a caller that got them from one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub fn inode(&mut self, number: InodeNumber) -> Result<Inode> {
        let (block, offset) = self.inode_place(number)?;
        let bytes = self.store.block(block)?;
        let raw = bytes.get(offset..).and_then(|rest| RawInode::ref_from_prefix(rest).ok());
        let (raw, _) = raw.ok_or(IoError { block })?;
        let place = Location::Inode(number);
        let inode = Inode::from_raw(raw)
            .ok_or_else(|| Error::corrupt("unknown kind of file", place, raw.mode.get()))?;
        if inode.kind.has_zones() && inode.size > self.superblock.max_size {
            return Err(Error::corrupt("size larger than any file here", place, inode.size));
        }
        Ok(inode)
    }

    /// Whether the inode is marked as used; false for a number that no inode has.
    ///
    /// # Errors
    /// [`Error::Io`] when the bitmap cannot be read.
    pub fn is_in_use(&mut self, number: InodeNumber) -> Result<bool> {
        match self.check_inode_used(number) {
            Ok(()) => Ok(true),
            Err(Error::Corrupt(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As [`Volume::inode`], for one that a directory refers to: it has to be in use and to have a link.
    pub(crate) fn linked_inode(&mut self, number: InodeNumber) -> Result<Inode> {
        self.check_inode_used(number)?;
        let inode = self.inode(number)?;
        if inode.links == 0 {
            return Err(Error::corrupt(
                "a directory refers to an inode without links",
                Location::Inode(number),
                0u32,
            ));
        }
        Ok(inode)
    }

    /// As [`Volume::linked_inode`], for one that has to be a directory.
    pub(crate) fn directory(&mut self, number: InodeNumber) -> Result<Inode> {
        let inode = self.inode(number)?;
        if inode.kind != FileKind::Directory { Err(Error::NotDirectory) } else { Ok(inode) }
    }

    /// Puts a changed inode back.
    pub(crate) fn store_inode(&mut self, number: InodeNumber, inode: &Inode) -> Result<()> {
        let (block, offset) = self.inode_place(number)?;
        let bytes = self.store.block_mut(block)?;
        let end = offset.saturating_add(INODE_SIZE);
        let place = bytes.get_mut(offset..end).ok_or(IoError { block })?;
        place.copy_from_slice(inode.to_raw().as_bytes());
        self.store.rank(block, Rank::Inodes);
        Ok(())
    }

    /// Clears an inode that is free again, as the checker expects of it.
    pub(crate) fn erase_inode(&mut self, number: InodeNumber) -> Result<()> {
        let (block, offset) = self.inode_place(number)?;
        let bytes = self.store.block_mut(block)?;
        let end = offset.saturating_add(INODE_SIZE);
        bytes.get_mut(offset..end).ok_or(IoError { block })?.fill(0);
        self.store.rank(block, Rank::Inodes);
        Ok(())
    }

    /// The block of the inode table and the byte in it where the inode begins.
    pub(crate) fn inode_place(&self, number: InodeNumber) -> Result<(u32, usize)> {
        let out_of_range = || Error::corrupt("inode number out of range", Location::Inode(number), number);
        if number > self.superblock.inodes {
            return Err(out_of_range());
        }
        let index = number.checked_sub(1).ok_or_else(out_of_range)?;
        let per_block = self.superblock.per_block(const { NonZeroU32::new(INODE_SIZE as u32).unwrap() });
        let block = index.checked_div(per_block).and_then(|n| n.checked_add(self.superblock.table_start()));
        let slot = index.checked_rem(per_block).ok_or_else(out_of_range)? as usize;
        Ok((block.ok_or_else(out_of_range)?, slot.saturating_mul(INODE_SIZE)))
    }
}
