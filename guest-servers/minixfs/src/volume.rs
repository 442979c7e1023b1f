//! A mounted volume: the superblock, the store, and the sizes of files.

use crate::error::{Error, Location, Result};
use crate::inode::{FileKind, Inode, InodeNumber, ROOT_INODE};
use crate::order::Order;
use crate::store::BlockStore;
use crate::superblock::Superblock;

/// What a volume may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything that would change the disk fails with [`Error::ReadOnly`].
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// A mounted volume over a store of metadata blocks.
#[derive(Debug)]
pub struct Volume<S> {
    pub(crate) store: S,
    pub(crate) superblock: Superblock,
    access: Access,
    /// The time that changes are dated with, in seconds since 1970.
    pub(crate) now: u32,
    /// Where the search for a free inode begins.
    pub(crate) inode_hint: u32,
    /// Where the search for a free zone begins, as a bit of the zone map.
    pub(crate) zone_hint: u32,
    pub(crate) order: Order,
}

impl<S: BlockStore> Volume<S> {
    /// Mounts a volume: its superblock has been parsed, now the root has to be a directory in use.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no root directory, [`Error::Io`].
    pub fn mount(store: S, superblock: Superblock, access: Access) -> Result<Self> {
        let mut volume = Volume::unchecked(store, superblock, access);
        volume.check_root()?;
        Ok(volume)
    }

    /// A volume of which nothing but the superblock is known.
    pub(crate) fn unchecked(store: S, superblock: Superblock, access: Access) -> Self {
        Volume { store, superblock, access, now: 0, inode_hint: 1, zone_hint: 1, order: Order::default() }
    }

    pub(crate) fn check_root(&mut self) -> Result<()> {
        let root = self.linked_inode(ROOT_INODE)?;
        if root.kind == FileKind::Directory {
            return Ok(());
        }
        Err(Error::corrupt("the root is not a directory", Location::Inode(ROOT_INODE), root.mode()))
    }

    /// The volume's shape.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The store, for what its owner does with it besides (writing back, counting).
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Gives the store back. Nothing is flushed.
    #[must_use]
    pub fn into_store(self) -> S {
        self.store
    }

    /// Whether changes are allowed.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Sets the time that the following changes are dated with, in seconds since 1970.
    pub fn set_time(&mut self, now: u32) {
        self.now = now;
    }

    /// Moves the end of a regular file that has just been written up to `end`. Never makes it smaller.
    ///
    /// Called with what was really stored, so that a size on the disk never promises bytes that did not arrive.
    ///
    /// # Errors
    /// [`Error::FileTooLarge`], [`Error::Invalid`] for anything but a regular file, and those of [`Volume::inode`].
    pub fn grow_to(&mut self, number: InodeNumber, end: u64) -> Result<Inode> {
        self.check_writable()?;
        let mut inode = self.regular(number)?;
        let end = self.check_size(end)?;
        inode.size = inode.size.max(end);
        inode.modified = self.now;
        inode.changed = self.now;
        self.store_inode(number, &inode)?;
        Ok(inode)
    }

    /// Sets the size of a regular file. Zones behind the new end are freed; growing makes a hole.
    ///
    /// The last block that is kept may hold old bytes behind the new end. File data is the caller's, so the caller
    /// zeroes them.
    ///
    /// # Errors
    /// As [`Volume::grow_to`]; after [`Error::Corrupt`] the file has its new size, and zones may be lost to `fsck`.
    pub fn truncate(&mut self, number: InodeNumber, size: u64) -> Result<Inode> {
        self.check_writable()?;
        let mut inode = self.regular(number)?;
        let size = self.check_size(size)?;
        let freed = if size < inode.size { self.free_beyond(number, &mut inode, size) } else { Ok(()) };
        inode.size = size;
        inode.modified = self.now;
        inode.changed = self.now;
        self.store_inode(number, &inode)?;
        freed.map(|()| inode)
    }

    /// Frees the zones of a regular file behind its end: those that a write took before its bytes failed to arrive.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Invalid`], [`Error::Corrupt`], [`Error::Io`].
    pub fn trim(&mut self, number: InodeNumber) -> Result<()> {
        self.check_writable()?;
        let mut inode = self.regular(number)?;
        let before = inode;
        let size = inode.size;
        let freed = self.free_beyond(number, &mut inode, size);
        if inode != before {
            self.store_inode(number, &inode)?;
        }
        freed
    }

    /// Changes permission bits, owner and group.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Corrupt`], [`Error::Io`].
    pub fn set_owner(&mut self, number: InodeNumber, permissions: u16, uid: u16, gid: u16) -> Result<Inode> {
        self.check_writable()?;
        let mut inode = self.inode(number)?;
        inode.permissions = permissions & 0o7777;
        inode.uid = uid;
        inode.gid = gid;
        inode.changed = self.now;
        self.store_inode(number, &inode)?;
        Ok(inode)
    }

    /// Sets the times of last access and modification, in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Corrupt`], [`Error::Io`].
    pub fn set_times(&mut self, number: InodeNumber, accessed: u32, modified: u32) -> Result<()> {
        self.check_writable()?;
        let mut inode = self.inode(number)?;
        inode.accessed = accessed;
        inode.modified = modified;
        inode.changed = self.now;
        self.store_inode(number, &inode)
    }

    /// Frees an inode that has no name left, and all it held. Called when its last user is gone too.
    ///
    /// # Errors
    /// [`Error::Invalid`] while it has names; [`Error::Corrupt`] when parts of it could not be freed.
    pub fn reclaim(&mut self, number: InodeNumber) -> Result<()> {
        self.check_writable()?;
        let mut inode = self.inode(number)?;
        if inode.links != 0 {
            return Err(Error::Invalid);
        }
        let freed = self.free_beyond(number, &mut inode, 0);
        self.erase_inode(number)?;
        self.free_inode(number)?;
        freed
    }

    /// The inode, which has to be a regular file.
    fn regular(&mut self, number: InodeNumber) -> Result<Inode> {
        let inode = self.inode(number)?;
        match inode.kind {
            FileKind::Regular => Ok(inode),
            FileKind::Directory => Err(Error::IsDirectory),
            _ => Err(Error::Invalid),
        }
    }

    fn check_size(&self, size: u64) -> Result<u32> {
        u32::try_from(size).ok().filter(|&size| size <= self.superblock.max_size).ok_or(Error::FileTooLarge)
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.access == Access::ReadWrite { Ok(()) } else { Err(Error::ReadOnly) }
    }
}
