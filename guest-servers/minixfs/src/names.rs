//! Operations on names: create, remove, link, rename.
//!
//! Removing a name never frees the inode, even when it was the last name: somebody may still have the file open. The
//! answer says how many links are left, and whoever counts the users calls [`Volume::reclaim`] when both are none.
//! An operation that fails half way undoes what it took, so that a full disk leaves nothing behind.

use crate::dir::check_name;
use crate::error::{Error, Location, Result};
use crate::inode::{FileKind, Inode, InodeNumber, ROOT_INODE};
use crate::store::{BlockStore, IoError};
use crate::volume::Volume;

/// The most links an inode can have: what Linux allows for this format.
pub(crate) const LINKS_MAX: u16 = 65530;

/// What a new inode starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission, set-id and sticky bits; kind bits are ignored.
    pub permissions: u16,
    /// Owner.
    pub uid: u16,
    /// Group.
    pub gid: u16,
}

/// A name that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an inode without links has to be reclaimed once nobody uses it"]
pub struct Removed {
    /// The inode it named.
    pub inode: InodeNumber,
    /// How many links the inode has left.
    pub links: u16,
}

impl<S: BlockStore> Volume<S> {
    /// Makes an empty regular file.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoInodes`], [`Error::NoSpace`], name errors, [`Error::Corrupt`], [`Error::Io`].
    pub fn create(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<InodeNumber> {
        self.add_new(directory, name, FileKind::Regular, attributes, |_, _, _| Ok(()))
    }

    /// Makes a symbolic link to `target`, which fills less than a block.
    ///
    /// # Errors
    /// As [`Volume::create`]; [`Error::NameTooLong`] for the target, [`Error::Invalid`] for an empty one.
    pub fn symlink(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        target: &[u8],
        attributes: Attributes,
    ) -> Result<InodeNumber> {
        let size = u32::try_from(target.len()).ok().filter(|&size| size < self.superblock.block_size());
        let size = size.ok_or(Error::NameTooLong)?;
        if size == 0 || target.contains(&0) {
            return Err(Error::Invalid);
        }
        self.add_new(directory, name, FileKind::SymbolicLink, attributes, |volume, number, inode| {
            let zone = volume.map_for_write_in(number, inode, 0)?.zone;
            let block = volume.store.block_zeroed(zone)?;
            block.get_mut(..target.len()).ok_or(IoError { block: zone })?.copy_from_slice(target);
            inode.size = size;
            Ok(())
        })
    }

    /// Reads a symbolic link's target into `buffer` and answers its length, which may be more than fitted.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else than a symbolic link, [`Error::Corrupt`], [`Error::Io`].
    pub fn readlink(&mut self, number: InodeNumber, buffer: &mut [u8]) -> Result<usize> {
        let inode = self.inode(number)?;
        if inode.kind != FileKind::SymbolicLink {
            return Err(Error::Invalid);
        }
        let place = Location::Inode(number);
        if inode.size == 0 || inode.size > self.superblock.block_size() {
            return Err(Error::corrupt("impossible size of a symbolic link", place, inode.size));
        }
        let zone = self.map_in(number, &inode, 0)?;
        let zone = zone.ok_or_else(|| Error::corrupt("symbolic link without contents", place, inode.size))?;
        let size = inode.size as usize;
        let target = self.store.block(zone)?.get(..size).ok_or(IoError { block: zone })?;
        for (to, from) in buffer.iter_mut().zip(target) {
            *to = *from;
        }
        Ok(size)
    }

    /// Makes an empty directory.
    ///
    /// # Errors
    /// As [`Volume::create`]; [`Error::TooManyLinks`] when the parent cannot count another subdirectory.
    pub fn mkdir(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<InodeNumber> {
        self.check_writable()?;
        let parent = self.directory(directory)?;
        if parent.links >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        let number =
            self.add_new(directory, name, FileKind::Directory, attributes, |volume, number, inode| {
                // One link by the name, one by its own `.`.
                inode.links = 2;
                volume.store_inode(number, inode)?;
                let filled = volume.add_entry(number, b".", number);
                let filled = filled.and_then(|()| volume.add_entry(number, b"..", directory));
                *inode = volume.inode(number)?;
                filled
            })?;
        self.change_links(directory, 1)?;
        Ok(number)
    }

    /// Gives an inode one more name. Directories have exactly one.
    ///
    /// # Errors
    /// [`Error::IsDirectory`], [`Error::TooManyLinks`], and those of [`Volume::create`].
    pub fn link(&mut self, number: InodeNumber, directory: InodeNumber, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        check_name(name)?;
        let inode = self.linked_inode(number)?;
        if inode.kind == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        if inode.links >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        self.add_entry(directory, name, number)?;
        // Its other names may be removed next, and may be on the disk no more when this one is not there yet.
        self.name_was_added();
        self.change_links(number, 1).map(|_| ())
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsDirectory`], [`Error::ReadOnly`], [`Error::Corrupt`], [`Error::Io`].
    pub fn unlink(&mut self, directory: InodeNumber, name: &[u8]) -> Result<Removed> {
        self.check_writable()?;
        check_name(name)?;
        let found = self.find_entry(directory, name)?;
        let inode = self.linked_inode(found.inode)?;
        if inode.kind == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        self.remove_entry(directory, found)?;
        let links = self.change_links(found.inode, -1)?;
        Ok(Removed { inode: found.inode, links })
    }

    /// Removes an empty directory. Who still has it open can look at it, and add nothing to it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NotEmpty`], [`Error::Invalid`] for `.`.
    pub fn rmdir(&mut self, directory: InodeNumber, name: &[u8]) -> Result<Removed> {
        self.check_writable()?;
        check_name(name)?;
        match name {
            b"." => return Err(Error::Invalid),
            b".." => return Err(Error::NotEmpty),
            _ => {}
        }
        let found = self.find_entry(directory, name)?;
        self.check_removable_directory(directory, found.inode)?;
        self.remove_entry(directory, found)?;
        self.retire_directory(directory, found.inode)
    }

    /// Moves a name, replacing what has the new one; answers what was replaced. Both directories may be the same.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `.`, `..` and a directory moved below itself; [`Error::IsDirectory`],
    /// [`Error::NotDirectory`] and [`Error::NotEmpty`] when the replaced one does not suit; those of
    /// [`Volume::create`].
    pub fn rename(
        &mut self,
        old_directory: InodeNumber,
        old_name: &[u8],
        new_directory: InodeNumber,
        new_name: &[u8],
    ) -> Result<Option<Removed>> {
        self.check_writable()?;
        check_name(old_name)?;
        check_name(new_name)?;
        if [old_name, new_name].iter().any(|name| matches!(*name, b"." | b"..")) {
            return Err(Error::Invalid);
        }
        let old = self.find_entry(old_directory, old_name)?;
        let moved = self.linked_inode(old.inode)?;
        let is_directory = moved.kind == FileKind::Directory;
        let between = old_directory != new_directory;
        if is_directory && between {
            self.check_not_below(old.inode, new_directory)?;
        }
        let replaced = match self.find_entry(new_directory, new_name) {
            Ok(found) => Some(found),
            Err(Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        let mut removed = None;
        if let Some(target) = replaced {
            if target.inode == old.inode {
                return Ok(None);
            }
            let victim = self.linked_inode(target.inode)?;
            match (is_directory, victim.kind == FileKind::Directory) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (true, true) => self.check_removable_directory(new_directory, target.inode)?,
                (false, false) => {}
            }
            let there = self.entry_block(new_directory, target)?;
            if self.entry_block(old_directory, old)? == there {
                // One block that has the old name or the new one, and never none: the victim's entry may lie behind the end
                // that the disk knows, the old one does not if there is something to lose.
                self.remove_entry(new_directory, target)?;
                self.rename_entry(old_directory, old, new_name)?;
            } else {
                self.replace_entry(new_directory, target, Some(old.inode))?;
                self.remove_source(old_directory, old)?;
            }
            removed = Some(if is_directory {
                self.retire_directory(new_directory, target.inode)?
            } else {
                Removed { inode: target.inode, links: self.change_links(target.inode, -1)? }
            });
        } else if between {
            if is_directory && self.directory(new_directory)?.links >= LINKS_MAX {
                return Err(Error::TooManyLinks);
            }
            self.add_entry(new_directory, new_name, old.inode)?;
            self.remove_source(old_directory, old)?;
        } else {
            self.rename_entry(old_directory, old, new_name)?;
        }
        if is_directory && between {
            let parent = self.find_entry(old.inode, b"..")?;
            self.replace_entry(old.inode, parent, Some(new_directory))?;
            self.change_links(old_directory, -1)?;
            self.change_links(new_directory, 1)?;
        }
        Ok(removed)
    }

    /// Takes an inode, lets `fill` give it contents, and names it; undone if any of it fails.
    fn add_new(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        kind: FileKind,
        attributes: Attributes,
        fill: impl FnOnce(&mut Self, InodeNumber, &mut Inode) -> Result<()>,
    ) -> Result<InodeNumber> {
        self.check_writable()?;
        check_name(name)?;
        match self.find_entry(directory, name) {
            Ok(_) => return Err(Error::Exists),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let number = self.allocate_inode()?;
        let mut inode = Inode::empty(kind, attributes.permissions, attributes.uid, attributes.gid, self.now);
        let filled = fill(self, number, &mut inode)
            .and_then(|()| self.store_inode(number, &inode))
            .and_then(|()| self.add_entry(directory, name, number));
        if let Err(error) = filled {
            // The first error is the one to tell; what cannot be undone after it is left to the checker.
            let _ = self.free_beyond(number, &mut inode, 0);
            let _ = self.erase_inode(number);
            let _ = self.free_inode(number);
            return Err(error);
        }
        Ok(number)
    }

    /// Adds to an inode's link count and answers the new one.
    fn change_links(&mut self, number: InodeNumber, change: i16) -> Result<u16> {
        let mut inode = self.inode(number)?;
        let links = inode.links.checked_add_signed(change);
        let place = Location::Inode(number);
        inode.links = links.ok_or_else(|| Error::corrupt("impossible link count", place, inode.links))?;
        inode.changed = self.now;
        self.store_inode(number, &inode)?;
        Ok(inode.links)
    }

    fn check_removable_directory(&mut self, parent: InodeNumber, number: InodeNumber) -> Result<()> {
        let inode = self.linked_inode(number)?;
        if inode.kind != FileKind::Directory {
            return Err(Error::NotDirectory);
        }
        if number == ROOT_INODE || number == parent {
            return Err(Error::corrupt("a directory inside itself", Location::Inode(number), number));
        }
        if !self.is_empty(number)? {
            return Err(Error::NotEmpty);
        }
        Ok(())
    }

    /// After a directory lost its name: it loses its `.` too, and its parent the `..`.
    fn retire_directory(&mut self, parent: InodeNumber, number: InodeNumber) -> Result<Removed> {
        let mut inode = self.inode(number)?;
        inode.links = 0;
        inode.changed = self.now;
        self.store_inode(number, &inode)?;
        self.change_links(parent, -1)?;
        Ok(Removed { inode: number, links: 0 })
    }

    /// Fails if `directory` is `ancestor` or below it. Follows `..`, for no more steps than there are inodes.
    fn check_not_below(&mut self, ancestor: InodeNumber, directory: InodeNumber) -> Result<()> {
        let mut current = directory;
        for _ in 0..self.superblock.inodes {
            if current == ancestor {
                return Err(Error::Invalid);
            }
            if current == ROOT_INODE {
                return Ok(());
            }
            current = self.lookup(current, b"..")?;
        }
        Err(Error::corrupt("directories in a circle", Location::Inode(directory), directory))
    }
}
