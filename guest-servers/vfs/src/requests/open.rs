//! From a path to a descriptor: OPEN, CLOSE, DUP, CHDIR, and the tree that paths are walked in.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::vfs::{Dup, Io, O_ACCMODE, O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_TRUNC, PATH_MAX, Path};
use refault_abi::{Endpoint, Errno, Message, Result, fs};

use crate::device::Device;
use crate::kernel::{Granted, Kernel};
use crate::mount::Role;
use crate::path::{Found, Kind, Last, Tree, walk};
use crate::process::{Object, OpenFile};
use crate::server::Vfs;
use crate::vnode::{S_IFREG, Vnode};

/// Permission bits a process may ask for.
pub(super) const PERMISSIONS: u32 = 0o7777;

/// Times that OPEN looks again when a file is neither there nor can be made, because others make and remove it.
const OPEN_TRIES: usize = 4;

/// The mounted tree, from its root.
struct Mounted<'a, K> {
    vfs: &'a Vfs<K>,
    root: Rc<Vnode>,
}

impl<K: Kernel> Tree for Mounted<'_, K> {
    type Node = Rc<Vnode>;

    fn root(&self) -> Rc<Vnode> {
        Rc::clone(&self.root)
    }

    fn kind(&self, node: &Rc<Vnode>) -> Kind {
        node.kind()
    }

    fn same(&self, one: &Rc<Vnode>, other: &Rc<Vnode>) -> bool {
        Rc::ptr_eq(one, other)
    }

    async fn lookup(&self, directory: &Rc<Vnode>, name: &[u8]) -> Result<Rc<Vnode>> {
        if name == b".." && self.vfs.is_mounted_root(directory).await {
            return Ok(Rc::clone(&self.root));
        }
        if directory.mount.is_devices() {
            return self.vfs.device_by_name(name);
        }
        match self.vfs.covering(directory, name).await {
            Some(root) => Ok(root),
            None => self.vfs.node_by_name(fs::LOOKUP, directory, name, 0).await,
        }
    }

    async fn target(&self, link: &Rc<Vnode>) -> Result<Vec<u8>> {
        let size = link.size.get();
        if size > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut target = vec![0; usize::try_from(size).map_err(|_| Errno::ENAMETOOLONG)?];
        if target.is_empty() {
            return Ok(target);
        }
        let answer = self.vfs.fetch_own(link, fs::RDLINK, &mut target).await;
        let length = Errno::check(answer?.get::<fs::Done>().result)?;
        target.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(target)
    }
}

impl<K: Kernel> Vfs<K> {
    /// Walks a path in a process's name.
    pub(crate) async fn find(&self, user: Endpoint, path: &[u8], last: Last) -> Result<Found<Rc<Vnode>>> {
        let root = self.root().await?;
        let directory = self.with_process(user, |process| process.directory.clone())?;
        let start = directory.unwrap_or_else(|| Rc::clone(&root));
        walk(&Mounted { vfs: self, root }, start, path, last).await
    }

    /// Copies a request's path in and walks it.
    pub(crate) async fn find_named(
        &self,
        user: Endpoint,
        address: u64,
        length: u64,
        last: Last,
    ) -> Result<Found<Rc<Vnode>>> {
        let path = self.fetch_path(user, address, length).await?;
        self.find(user, &path, last).await
    }

    /// LOOKUP and CREATE: a name in a directory, answered by a node.
    async fn node_by_name(
        &self,
        operation: u16,
        directory: &Rc<Vnode>,
        name: &[u8],
        mode: u32,
    ) -> Result<Rc<Vnode>> {
        let length = u32::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let answer = self
            .call_with(directory, |server| {
                let grant = self.kernel.lend(server, name)?;
                let request = fs::Name {
                    directory: directory.inode,
                    grant: grant.id().0,
                    length,
                    mode,
                    grant2: -1,
                    ..fs::Name::default()
                };
                Ok((Message::new(operation, &request), grant))
            })
            .await;
        let node: fs::Node = answer?.get();
        Errno::check(node.result)?;
        if operation == fs::CREATE {
            directory.unsaved.change();
        }
        Ok(self.shelf.found(&directory.mount, &node, 1))
    }

    pub(crate) async fn open(&self, user: Endpoint, request: Path) -> Result<u64> {
        let flags = request.flags;
        if flags & O_ACCMODE == O_ACCMODE {
            return Err(Errno::EINVAL);
        }
        let path = self.fetch_path(user, request.address, request.length).await?;
        let vnode = self.open_node(user, &path, flags, request.mode).await?;
        let writes = flags & O_ACCMODE != O_RDONLY;
        match vnode.kind() {
            Kind::Directory if writes || flags & O_CREAT != 0 => return Err(Errno::EISDIR),
            Kind::Directory => {}
            Kind::Link => return Err(Errno::ELOOP),
            Kind::Other if flags & O_DIRECTORY != 0 => return Err(Errno::ENOTDIR),
            Kind::Other => {}
        }
        if flags & O_TRUNC != 0 && writes && vnode.is_regular() {
            self.truncate(&vnode, 0).await?;
        }
        let object = self.opened(vnode).await?;
        let file = Rc::new(OpenFile::new(object, flags));
        self.with_process(user, |process| process.install(file))?
    }

    /// What an open file leads to whose path leads to `vnode`. ENXIO for a device that a disk only names.
    async fn opened(&self, vnode: Rc<Vnode>) -> Result<Object> {
        if vnode.kind() == Kind::Directory || vnode.is_regular() {
            return Ok(Object::Vnode(vnode));
        }
        match vnode.mount.role {
            Role::Disk(_) if vnode.is_block() && vnode.inode == fs::DEVICE_INODE => {
                self.measure(&vnode).await;
                Ok(Object::Vnode(vnode))
            }
            Role::Devices | Role::Driver => Device::of(vnode.inode).map(Object::Device).ok_or(Errno::ENXIO),
            Role::Disk(_) | Role::Pipes => Err(Errno::ENXIO),
        }
    }

    /// The node of a path, made if it does not exist and that was asked for.
    async fn open_node(&self, user: Endpoint, path: &[u8], flags: u32, mode: u32) -> Result<Rc<Vnode>> {
        let exclusive = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
        let last = if exclusive { Last::Keep } else { Last::Follow };
        for _ in 0..OPEN_TRIES {
            let found = self.find(user, path, last).await?;
            match found.node {
                Some(_) if exclusive => return Err(Errno::EEXIST),
                Some(node) => return Ok(node),
                None if flags & O_CREAT == 0 => return Err(Errno::ENOENT),
                None if found.slashes => return Err(Errno::EISDIR),
                None => {}
            }
            if found.directory.mount.is_devices() {
                return Err(Errno::EROFS);
            }
            let mode = S_IFREG | mode & PERMISSIONS;
            match self.node_by_name(fs::CREATE, &found.directory, &found.name, mode).await {
                // Somebody made it since the walk; unless that is an error, look again.
                Err(Errno::EEXIST) if !exclusive => {}
                other => return other,
            }
        }
        Err(Errno::EEXIST)
    }

    pub(crate) fn close(&self, user: Endpoint, io: Io) -> Result<u64> {
        let file = self.with_process(user, |process| process.close(io.descriptor))??;
        drop(file);
        Ok(0)
    }

    pub(crate) fn dup(&self, user: Endpoint, request: Dup) -> Result<u64> {
        let (descriptor, before) =
            self.with_process(user, |process| process.duplicate(request.descriptor, request.wanted))??;
        drop(before);
        Ok(descriptor)
    }

    pub(crate) async fn chdir(&self, user: Endpoint, request: Path) -> Result<u64> {
        let found = self.find_named(user, request.address, request.length, Last::Follow).await?;
        let directory = found.existing()?;
        if directory.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let before = self.with_process(user, |process| process.directory.replace(directory))?;
        drop(before);
        Ok(0)
    }
}
