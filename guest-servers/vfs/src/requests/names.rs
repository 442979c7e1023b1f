//! Changing directories: MKDIR, UNLINK, RMDIR, RENAME, LINK, SYMLINK.
//!
//! The one thing to hold in mind: the file system decides. VFS finds the directory and passes the name on; whether the
//! name exists, is a directory or is empty is checked where it cannot change any more, in the file system.

use alloc::rc::Rc;

use refault_abi::message::Status;
use refault_abi::vfs::{PATH_MAX, Path};
use refault_abi::{Endpoint, Errno, Message, Result, fs};

use super::open::PERMISSIONS;
use crate::kernel::{Access, Granted, Kernel, UserMemory};
use crate::path::{Found, Kind, Last};
use crate::position::user_range;
use crate::retry::{self, Frozen};
use crate::server::Vfs;
use crate::vnode::{S_IFDIR, S_IFLNK, Vnode};

/// A name in a directory.
type Place = Found<Rc<Vnode>>;

impl<K: Kernel> Vfs<K> {
    /// Sends a [`fs::Name`] request about a place. `inode2` and `mode` as the request wants them.
    async fn name_request(&self, operation: u16, place: &Place, mode: u32, inode2: u64) -> Result<u64> {
        self.may_change(place, matches!(operation, fs::MKDIR | fs::LINK))?;
        let length = u32::try_from(place.name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let answer = self
            .call_with(&place.directory, |server| {
                let grant = self.kernel.lend(server, &place.name)?;
                let request = fs::Name {
                    directory: place.directory.inode,
                    grant: grant.id().0,
                    length,
                    mode,
                    grant2: -1,
                    inode2,
                    ..fs::Name::default()
                };
                Ok((Message::new(operation, &request), grant))
            })
            .await;
        answer?.get::<Status>().check()?;
        place.directory.unsaved.change();
        Ok(0)
    }

    /// Whether a name may come or go at all: not in the tree of the devices, and not under a mounted tree.
    fn may_change(&self, place: &Place, makes: bool) -> Result<()> {
        if place.directory.mount.is_devices() {
            return Err(Errno::EROFS);
        }
        if self.covers(&place.directory, &place.name) {
            return Err(if makes { Errno::EEXIST } else { Errno::EBUSY });
        }
        Ok(())
    }

    pub(crate) async fn mkdir(&self, user: Endpoint, request: Path) -> Result<u64> {
        let place = self.find_named(user, request.address, request.length, Last::Name).await?;
        if place.is_dots() {
            return Err(Errno::EEXIST);
        }
        self.name_request(fs::MKDIR, &place, S_IFDIR | request.mode & PERMISSIONS, 0).await
    }

    pub(crate) async fn unlink(&self, user: Endpoint, request: Path) -> Result<u64> {
        let path = self.fetch_path(user, request.address, request.length).await?;
        let place = self.find(user, &path, Last::Name).await?;
        if place.is_dots() {
            return Err(Errno::EISDIR);
        }
        if place.slashes {
            // Only a directory can be meant, and a directory is not unlinked.
            self.find(user, &path, Last::Keep).await?.existing()?;
            return Err(Errno::EISDIR);
        }
        self.name_request(fs::UNLINK, &place, 0, 0).await
    }

    pub(crate) async fn rmdir(&self, user: Endpoint, request: Path) -> Result<u64> {
        let place = self.find_named(user, request.address, request.length, Last::Name).await?;
        match place.name.as_slice() {
            b"." => Err(Errno::EINVAL),
            b".." => Err(Errno::ENOTEMPTY),
            _ => self.name_request(fs::RMDIR, &place, 0, 0).await,
        }
    }

    pub(crate) async fn link(&self, user: Endpoint, request: Path) -> Result<u64> {
        let old = self.find_named(user, request.address, request.length, Last::Keep).await?.existing()?;
        if old.kind() == Kind::Directory {
            return Err(Errno::EPERM);
        }
        let place = self.find_named(user, request.buffer, request.bytes, Last::Name).await?;
        if place.is_dots() {
            return Err(Errno::EEXIST);
        }
        if place.slashes {
            return Err(Errno::ENOENT);
        }
        if !Rc::ptr_eq(&old.mount, &place.directory.mount) {
            return Err(Errno::EXDEV);
        }
        self.name_request(fs::LINK, &place, 0, old.inode).await
    }

    pub(crate) async fn rename(&self, user: Endpoint, request: Path) -> Result<u64> {
        let old_path = self.fetch_path(user, request.address, request.length).await?;
        let new_path = self.fetch_path(user, request.buffer, request.bytes).await?;
        let old = self.find(user, &old_path, Last::Name).await?;
        let new = self.find(user, &new_path, Last::Name).await?;
        if old.is_dots() || new.is_dots() {
            return Err(Errno::EBUSY);
        }
        if (old.slashes || new.slashes)
            && self.find(user, &old_path, Last::Keep).await?.existing()?.kind() != Kind::Directory
        {
            return Err(Errno::ENOTDIR);
        }
        if !Rc::ptr_eq(&old.directory.mount, &new.directory.mount) {
            return Err(Errno::EXDEV);
        }
        self.may_change(&old, false)?;
        self.may_change(&new, false)?;
        let length = u32::try_from(old.name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let length2 = u32::try_from(new.name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let answer = self
            .call_with(&old.directory, |server| {
                let grant = self.kernel.lend(server, &old.name)?;
                let grant2 = self.kernel.lend(server, &new.name)?;
                let request = fs::Rename {
                    directory: old.directory.inode,
                    grant: grant.id().0,
                    directory2: new.directory.inode,
                    grant2: grant2.id().0,
                    length,
                    length2,
                };
                Ok((Message::new(fs::RENAME, &request), (grant, grant2)))
            })
            .await;
        answer?.get::<Status>().check()?;
        old.directory.unsaved.change();
        new.directory.unsaved.change();
        Ok(0)
    }

    pub(crate) async fn symlink(&self, user: Endpoint, request: Path) -> Result<u64> {
        let place = self.find_named(user, request.address, request.length, Last::Name).await?;
        if place.is_dots() {
            return Err(Errno::EEXIST);
        }
        if place.slashes || request.bytes == 0 {
            return Err(Errno::ENOENT);
        }
        if request.bytes > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        user_range(request.buffer, request.bytes)?;
        self.may_change(&place, true)?;
        let directory = &place.directory;
        let length = u32::try_from(place.name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let memory =
            UserMemory { owner: user, address: request.buffer, bytes: request.bytes, access: Access::Read };
        let frozen = Frozen::new(fs::SLINK, directory.inode, memory);
        let answer = retry::run(self, directory, &frozen, |inputs, server, grant| {
            let name = self.kernel.lend(server, &place.name)?;
            let request = fs::Name {
                directory: inputs.inode,
                grant: name.id().0,
                length,
                mode: S_IFLNK | 0o777,
                grant2: grant.0,
                length2: inputs.memory.bytes,
                ..fs::Name::default()
            };
            Ok((Message::new(fs::SLINK, &request), name))
        })
        .await;
        answer?;
        directory.unsaved.change();
        Ok(0)
    }
}
