//! Requests on names. A name is copied out of its grant once, before anything is looked at or changed.

use alloc::vec;

use refault_abi::fs::{Name, Node, NodeRef, Rename};
use refault_abi::{Endpoint, Errno, GrantId, Result};
use refault_minixfs::{Attributes, Inode, NAME_MAX};

use crate::mount::Mounted;
use crate::system::{PAGE, System};

/// A name on the stack.
struct NameBytes {
    bytes: [u8; NAME_MAX],
    length: usize,
}

impl NameBytes {
    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Fetches a name of VFS. It is a grant without CPF_TRY over VFS's own memory: an error is VFS's affair.
fn fetch<S: System>(system: &mut S, granter: Endpoint, grant: i64, length: u32) -> Result<NameBytes> {
    let length = length as usize;
    let mut bytes = [0; NAME_MAX];
    let place = bytes.get_mut(..length).ok_or(Errno::ENAMETOOLONG)?;
    if place.is_empty() {
        return Err(Errno::ENOENT);
    }
    system.copy_from(granter, GrantId(grant), 0, place).whole()?;
    Ok(NameBytes { bytes, length })
}

/// The directory and the name that a request is about.
fn named<S: System>(system: &mut S, granter: Endpoint, request: &Name) -> Result<(u32, NameBytes)> {
    Ok((inode(request.directory)?, fetch(system, granter, request.grant, request.length)?))
}

/// LOOKUP. The answer comes with a reference.
pub fn lookup<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    from: Endpoint,
    request: &Name,
) -> Result<Node> {
    let (directory, name) = named(system, from, request)?;
    let number = mount.volume.lookup(directory, name.get()).map_err(|error| mount.told(system, error))?;
    referred(mount, system, number)
}

/// CREATE. The answer comes with a reference.
pub fn create<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    from: Endpoint,
    request: &Name,
) -> Result<Node> {
    let (directory, name) = named(system, from, request)?;
    let attributes = attributes(request);
    let number = mount.change(system, |volume| volume.create(directory, name.get(), attributes))?;
    referred(mount, system, number)
}

/// MKDIR.
pub fn mkdir<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    from: Endpoint,
    request: &Name,
) -> Result<()> {
    let (directory, name) = named(system, from, request)?;
    let attributes = attributes(request);
    mount.change(system, |volume| volume.mkdir(directory, name.get(), attributes)).map(drop)
}

/// UNLINK.
pub fn unlink<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    from: Endpoint,
    request: &Name,
) -> Result<()> {
    let (directory, name) = named(system, from, request)?;
    let removed = mount.change(system, |volume| volume.unlink(directory, name.get()))?;
    mount.removed(system, removed)
}

/// RMDIR.
pub fn rmdir<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    from: Endpoint,
    request: &Name,
) -> Result<()> {
    let (directory, name) = named(system, from, request)?;
    let removed = mount.change(system, |volume| volume.rmdir(directory, name.get()))?;
    mount.removed(system, removed)
}

/// LINK.
pub fn link<S: System>(mount: &mut Mounted<S>, system: &mut S, from: Endpoint, request: &Name) -> Result<()> {
    let (directory, target) = (inode(request.directory)?, inode(request.inode2)?);
    let name = fetch(system, from, request.grant, request.length)?;
    mount.change(system, |volume| volume.link(target, directory, name.get()))
}

/// SLINK. The target is in a user's memory and its copy may fail: it is made before the link is, whatever `fs=` says,
/// so that a link that exists is always right. VFS relies on it and does not repeat a success.
pub fn symlink<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    from: Endpoint,
    request: &Name,
) -> Result<()> {
    let (directory, name) = named(system, from, request)?;
    let length =
        usize::try_from(request.length2).ok().filter(|&length| length < PAGE).ok_or(Errno::ENAMETOOLONG)?;
    if length == 0 {
        return Err(Errno::ENOENT);
    }
    let mut target = vec![0u8; length];
    let copied = system.copy_from(from, GrantId(request.grant2), 0, &mut target);
    if let Err(error) = copied.result {
        system.count(refault_abi::counters::Counter::FsCopyFailures, 1);
        return Err(error);
    }
    let attributes = attributes(request);
    mount.change(system, |volume| volume.symlink(directory, name.get(), &target, attributes)).map(drop)
}

/// RENAME.
pub fn rename<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    from: Endpoint,
    request: &Rename,
) -> Result<()> {
    let (old, new) = (inode(request.directory)?, inode(request.directory2)?);
    let old_name = fetch(system, from, request.grant, request.length)?;
    let new_name = fetch(system, from, request.grant2, request.length2)?;
    match mount.change(system, |volume| volume.rename(old, old_name.get(), new, new_name.get()))? {
        Some(removed) => mount.removed(system, removed),
        None => Ok(()),
    }
}

/// An inode as VFS gets to know it, with the reference it holds from now on.
pub fn referred<S: System>(mount: &mut Mounted<S>, system: &mut S, number: u32) -> Result<Node> {
    let inode = mount.volume.inode(number).map_err(|error| mount.told(system, error))?;
    mount.refer(number);
    Ok(node(number, &inode))
}

/// GETNODE.
pub fn referred_again<S: System>(mount: &mut Mounted<S>, system: &mut S, request: &NodeRef) -> Result<Node> {
    let number = inode(request.inode)?;
    Ok(node(number, &mount.refer_again(system, number, request.count)?))
}

fn node(number: u32, inode: &Inode) -> Node {
    Node {
        result: 0,
        inode: number.into(),
        size: inode.size.into(),
        mode: inode.mode().into(),
        links: inode.links.into(),
        uid: inode.uid.into(),
        gid: inode.gid.into(),
    }
}

/// An inode number of a message. What it says is checked by the volume; here only that it is one.
pub fn inode(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| Errno::EINVAL)
}

fn attributes(request: &Name) -> Attributes {
    Attributes {
        permissions: (request.mode & 0o7777) as u16,
        uid: (request.owner & 0xffff) as u16,
        gid: ((request.owner >> 32) & 0xffff) as u16,
    }
}
