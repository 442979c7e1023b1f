//! `/dev`: names without a file system behind them, and the names of mounted trees.
//!
//! The one thing to hold in mind: nothing of it is on a disk. `/dev` and `/mnt` cover whatever the root directory has under
//! these names, and are not listed there unless the disk has such a directory, too. `/dev/disk0` and `/dev/disk1` are
//! the disks of the mounted file systems, read and written through them, so that there is one cache.

use alloc::rc::Rc;
use alloc::vec::Vec;

use refault_abi::cdev;
use refault_abi::fs::{DEVICE_INODE, Node};
use refault_abi::vfs::{Dirent, Stat};
use refault_abi::{Errno, Result};
use zerocopy::IntoBytes;

use crate::kernel::Kernel;
use crate::mount::Mount;
use crate::server::Vfs;
use crate::vnode::{S_IFBLK, S_IFCHR, S_IFDIR, Vnode};

/// A device that is read and written without a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The terminal.
    Terminal,
    /// Nothing to read, and room for everything.
    Null,
    /// Zeroes to read, and room for everything.
    Zero,
}

impl Device {
    /// Its inode number in the tree of the devices.
    pub const fn inode(self) -> u64 {
        match self {
            Device::Terminal => 2,
            Device::Null => 3,
            Device::Zero => cdev::ZERO as u64,
        }
    }

    /// The device behind an inode number.
    pub const fn of(inode: u64) -> Option<Device> {
        match inode {
            2 => Some(Device::Terminal),
            3 => Some(Device::Null),
            5 => Some(Device::Zero),
            _ => None,
        }
    }

    /// Its status.
    pub fn stat(self, device: u64) -> Stat {
        let permissions = if self == Device::Terminal { 0o620 } else { 0o666 };
        Stat { device, inode: self.inode(), mode: S_IFCHR | permissions, links: 1, ..Stat::default() }
    }
}

const _: () = assert!(matches!(Device::of(Device::Zero.inode()), Some(Device::Zero)));

/// The directory's own inode number.
const DIRECTORY: u64 = 1;
/// Its name in the root directory.
const DEVICES: &[u8] = b"dev";
/// Where the second disk is mounted.
const SECOND: &[u8] = b"mnt";
/// Names of the devices without a disk.
const CHARACTER: [(&[u8], Device); 3] =
    [(b"tty", Device::Terminal), (b"null", Device::Null), (b"zero", Device::Zero)];
/// Names of the disks, by number.
const DISKS: [&[u8]; 2] = [b"disk0", b"disk1"];

/// Status of the directory and of disks, whose size is all that is known about them.
pub fn stat(vnode: &Vnode) -> Stat {
    if let Some(device) = Device::of(vnode.inode).filter(|_| !vnode.is_block()) {
        return device.stat(vnode.mount.device);
    }
    let size = vnode.size.get();
    Stat {
        device: vnode.mount.device,
        inode: vnode.inode,
        mode: vnode.mode,
        links: 1,
        size,
        blocks: size / 512,
        ..Stat::default()
    }
}

/// The entries from `position` on that fit `room` bytes, and the next position.
pub fn entries(names: &[(u64, &[u8])], position: u64, room: usize) -> (Vec<u8>, u64) {
    let (mut listed, mut next) = (Vec::new(), position);
    for (inode, name) in names.iter().skip(usize::try_from(position).unwrap_or(usize::MAX)) {
        let record = (size_of::<Dirent>() + name.len()).next_multiple_of(8);
        if listed.len() + record > room {
            break;
        }
        next += 1;
        let header = Dirent {
            inode: *inode,
            next,
            record: u16::try_from(record).unwrap_or(u16::MAX),
            name: u16::try_from(name.len()).unwrap_or(u16::MAX),
            reserved: 0,
        };
        let end = listed.len() + record;
        listed.extend_from_slice(header.as_bytes());
        listed.extend_from_slice(name);
        listed.resize(end, 0);
    }
    (listed, next)
}

impl<K: Kernel> Vfs<K> {
    /// What is mounted over a name of the root directory.
    pub(crate) async fn covering(&self, directory: &Rc<Vnode>, name: &[u8]) -> Option<Rc<Vnode>> {
        if !self.covers(directory, name) {
            return None;
        }
        if name == SECOND {
            return self.disk_root(1).await.ok();
        }
        let node = Node { inode: DIRECTORY, mode: S_IFDIR | 0o755, ..Node::default() };
        Some(self.shelf.found(&self.mounts.devices, &node, 0))
    }

    /// Whether something is, or may soon be, mounted over a name of a directory.
    pub(crate) fn covers(&self, directory: &Vnode, name: &[u8]) -> bool {
        let in_root = self.root_inode() == Some((directory.mount.device, directory.inode));
        in_root && (name == DEVICES || name == SECOND && self.mounts.disks.len() > 1)
    }

    /// Whether a directory is the root of a tree that is mounted in the root directory.
    pub(crate) async fn is_mounted_root(&self, directory: &Rc<Vnode>) -> bool {
        directory.mount.is_devices()
            || self.mounts.disks.get(1).is_some_and(|second| Rc::ptr_eq(second, &directory.mount))
                && self.disk_root(1).await.is_ok_and(|root| Rc::ptr_eq(&root, directory))
    }

    /// A name in the tree of the devices.
    pub(crate) fn device_by_name(&self, name: &[u8]) -> Result<Rc<Vnode>> {
        if let Some((_, device)) = CHARACTER.iter().find(|(known, _)| *known == name) {
            return Ok(self.device_node(*device));
        }
        let disk = DISKS.iter().position(|known| *known == name).and_then(|disk| self.mounts.disks.get(disk));
        disk.map(|mount| self.disk_node(mount)).ok_or(Errno::ENOENT)
    }

    /// Everything in the tree of the devices.
    pub(crate) fn device_names(&self) -> Vec<(u64, &'static [u8])> {
        let dots: [(u64, &[u8]); 2] = [(DIRECTORY, b"."), (DIRECTORY, b"..")];
        let characters = CHARACTER.iter().map(|(name, device)| (device.inode(), *name));
        // A number that no character device has; what is opened is the disk of a mount.
        let disks = DISKS.iter().zip(&self.mounts.disks).map(|(name, mount)| (16 + mount.device, *name));
        dots.into_iter().chain(characters).chain(disks).collect()
    }

    fn device_node(&self, device: Device) -> Rc<Vnode> {
        let stat = device.stat(0);
        let node = Node { inode: stat.inode, mode: stat.mode, ..Node::default() };
        // The zeroes are the driver's: requests for them go there.
        let mount = if device == Device::Zero { &self.mounts.driver } else { &self.mounts.devices };
        self.shelf.found(mount, &node, 0)
    }

    /// The endless source of zeroes.
    pub(crate) fn zeroes(&self) -> Rc<Vnode> {
        self.device_node(Device::Zero)
    }

    fn disk_node(&self, mount: &Rc<Mount>) -> Rc<Vnode> {
        let node = Node { inode: DEVICE_INODE, mode: S_IFBLK | 0o600, ..Node::default() };
        self.shelf.found(mount, &node, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_on_where_they_stopped() {
        let names: [(u64, &[u8]); 3] = [(1, b"."), (2, b"a-longer-name"), (3, b"x")];
        let (all, next) = entries(&names, 0, 4096);
        assert_eq!(next, 3);
        let (first, next) = entries(&names, 0, size_of::<Dirent>() + 8);
        assert_eq!(next, 1);
        let (rest, next) = entries(&names, next, 4096);
        assert_eq!((next, [first, rest].concat()), (3, all));
        assert_eq!(entries(&names, 3, 4096), (Vec::new(), 3));
        assert_eq!(entries(&names, u64::MAX, 4096).0, Vec::<u8>::new());
        assert_eq!(entries(&names, 0, 10), (Vec::new(), 0));
    }
}
