//! Vnodes: the inodes that somebody here refers to.
//!
//! The one thing to hold in mind: a vnode exists as long as an `Rc` to it does. A file system counts one reference
//! for each lookup it answered; the vnode remembers how many and gives them all back when its last holder lets go
//! ([`Shelf::chores`]). It is not an inode cache: what changes behind VFS's back is not kept here.

use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use refault_abi::fs::{Node, NodeRef};
use refault_abi::{Errno, Result};

use crate::cell::TaskLock;
use crate::mount::Mount;
use crate::path::Kind;
use crate::pipe::Pipe;

/// Type bits of a mode.
const S_IFMT: u32 = 0o170000;
/// A directory.
pub const S_IFDIR: u32 = 0o040000;
/// A regular file.
pub const S_IFREG: u32 = 0o100000;
/// A symbolic link.
pub const S_IFLNK: u32 = 0o120000;
/// A character device.
pub const S_IFCHR: u32 = 0o020000;
/// A block device.
pub const S_IFBLK: u32 = 0o060000;

/// An inode in use.
#[derive(Debug)]
pub struct Vnode {
    /// Its file system.
    pub mount: Rc<Mount>,
    /// Its number there.
    pub inode: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Bytes, as the file system last said. Changes under the exclusive lock only.
    pub size: Cell<u64>,
    /// Orders writes and truncations against each other and against reads. Held across a retry, hence across
    /// requests to VM; page-ins do not take it.
    pub lock: TaskLock,
    /// The file system that knew it is dead, and its successor does not know it.
    pub gone: Cell<bool>,
    /// Whether what was changed in it is safe.
    pub unsaved: Unsaved,
    references: Cell<u64>,
    chores: Chores,
}

/// Whether something was changed that its file system may not have written back yet. If that dies before it has, whoever asks
/// for it to be written back has to hear that it is lost, once: the successor would say that everything is on the disk.
#[derive(Debug, Default)]
pub struct Unsaved {
    changed: Cell<bool>,
    lost: Cell<bool>,
}

impl Unsaved {
    /// Something was changed.
    pub fn change(&self) {
        self.changed.set(true);
    }

    /// Everything was written back.
    pub fn save(&self) {
        self.changed.set(false);
    }

    /// The file system died.
    pub fn die(&self) {
        self.lost.set(self.lost.get() | self.changed.replace(false));
    }

    /// EIO, once, if changes were lost.
    pub fn check(&self) -> Result<()> {
        if self.lost.replace(false) { Err(Errno::EIO) } else { Ok(()) }
    }
}

/// Something to be told to a file system because somebody let go.
#[derive(Debug)]
pub enum Chore {
    /// References are given back.
    PutNode(Orphan),
    /// An end of a pipe was closed for the last time.
    ClosePipe {
        /// Which pipe.
        pipe: Rc<Pipe>,
        /// The writing end.
        writing: bool,
    },
}

/// What is still to be told.
pub type Chores = Rc<RefCell<Vec<Chore>>>;

/// References to be given back.
#[derive(Debug)]
pub struct Orphan {
    /// To whom.
    pub mount: Rc<Mount>,
    /// The incarnation that counted them.
    pub generation: u32,
    /// Which and how many.
    pub references: NodeRef,
}

impl Vnode {
    /// What it is to a path.
    pub fn kind(&self) -> Kind {
        match self.mode & S_IFMT {
            S_IFDIR => Kind::Directory,
            S_IFLNK => Kind::Link,
            _ => Kind::Other,
        }
    }

    /// Whether it holds bytes that can be read and written.
    pub fn is_regular(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    /// Whether it is a disk as a file. It then stands for the disk of its mount, and its inode number is nobody's.
    pub fn is_block(&self) -> bool {
        self.mode & S_IFMT == S_IFBLK
    }

    /// Whether a mode is that of the same type of object.
    pub fn same_type(&self, mode: u32) -> bool {
        (self.mode ^ mode) & S_IFMT == 0
    }

    /// References that its file system has counted.
    pub fn references(&self) -> u64 {
        self.references.get()
    }
}

impl Drop for Vnode {
    fn drop(&mut self) {
        let references = NodeRef { inode: self.inode, count: self.references.get() };
        if references.count > 0 && !self.gone.get() {
            let mount = Rc::clone(&self.mount);
            let orphan = Orphan { generation: mount.generation(), mount, references };
            self.chores.borrow_mut().push(Chore::PutNode(orphan));
        }
    }
}

/// The vnodes of all mounts.
#[derive(Debug, Default)]
pub struct Shelf {
    vnodes: RefCell<BTreeMap<(u64, u64), Weak<Vnode>>>,
    chores: Chores,
}

impl Shelf {
    /// The vnode of an inode that a file system has just answered, and for which it has just counted `references`.
    pub fn found(&self, mount: &Rc<Mount>, node: &Node, references: u64) -> Rc<Vnode> {
        let mut vnodes = self.vnodes.borrow_mut();
        let key = (mount.device, node.inode);
        if let Some(vnode) = vnodes.get(&key).and_then(Weak::upgrade)
            && !vnode.gone.get()
        {
            vnode.references.set(vnode.references.get().saturating_add(references));
            return vnode;
        }
        // Names that lead nowhere any more make room, now and then.
        if vnodes.len() >= SWEEP && vnodes.len().is_power_of_two() {
            vnodes.retain(|_, vnode| vnode.strong_count() > 0);
        }
        let vnode = Rc::new(Vnode {
            mount: Rc::clone(mount),
            inode: node.inode,
            mode: node.mode,
            size: Cell::new(node.size),
            lock: TaskLock::default(),
            gone: Cell::new(false),
            unsaved: Unsaved::default(),
            references: Cell::new(references),
            chores: Rc::clone(&self.chores),
        });
        vnodes.insert(key, Rc::downgrade(&vnode));
        vnode
    }

    /// Every vnode of a mount that somebody holds.
    pub fn of(&self, mount: &Rc<Mount>) -> Vec<Rc<Vnode>> {
        let vnodes = self.vnodes.borrow();
        vnodes.values().filter_map(Weak::upgrade).filter(|vnode| Rc::ptr_eq(&vnode.mount, mount)).collect()
    }

    /// The list on which whoever lets go puts what is to be told.
    pub fn chore_list(&self) -> &Chores {
        &self.chores
    }

    /// What is to be told to file systems. References: a new lookup of the same inode may already be under way or answered;
    /// its reference is its own, so the order does not matter.
    pub fn chores(&self) -> Vec<Chore> {
        self.chores.take()
    }
}

/// Vnodes from which on those that nobody holds any more are looked for.
const SWEEP: usize = 64;

#[cfg(test)]
mod tests {
    use refault_abi::Endpoint;

    use super::*;
    use crate::mount::Role;

    fn orphans(shelf: &Shelf) -> Vec<u64> {
        let count = |chore: Chore| match chore {
            Chore::PutNode(orphan) => orphan.references.count,
            Chore::ClosePipe { .. } => 0,
        };
        shelf.chores().into_iter().map(count).collect()
    }

    #[test]
    fn references_are_counted_and_given_back_once() {
        let shelf = Shelf::default();
        let mount = Mount::new(Role::Disk(0), Endpoint::MFS, 1);
        let node = Node { inode: 5, mode: 0o100644, ..Node::default() };
        let (one, two) = (shelf.found(&mount, &node, 1), shelf.found(&mount, &node, 1));
        assert!(Rc::ptr_eq(&one, &two) && one.is_regular());
        drop(one);
        assert!(orphans(&shelf).is_empty());
        drop(two);
        // Looked up again before the references went back: a new vnode with references of its own.
        let again = shelf.found(&mount, &node, 2);
        assert_eq!(orphans(&shelf), [2]);
        assert!(Rc::ptr_eq(&again, &shelf.found(&mount, &node, 1)), "the new one is still on the shelf");
        assert_eq!(shelf.of(&mount).len(), 1);
        drop(again);
        assert_eq!(orphans(&shelf), [3]);
        assert!(shelf.of(&mount).is_empty());
    }

    #[test]
    fn what_a_file_system_does_not_know_is_not_given_back() {
        let shelf = Shelf::default();
        let mount = Mount::new(Role::Disk(0), Endpoint::MFS, 1);
        let disk = Node { inode: 0, mode: S_IFBLK | 0o600, ..Node::default() };
        let disk = shelf.found(&mount, &disk, 0);
        assert!(disk.is_block());
        drop(disk);
        let node = Node { inode: 5, mode: 0o100644, ..Node::default() };
        let lost = shelf.found(&mount, &node, 1);
        lost.gone.set(true);
        assert!(
            !Rc::ptr_eq(&lost, &shelf.found(&mount, &node, 1)),
            "a new one of that number is another one"
        );
        assert_eq!(orphans(&shelf), [1]);
        drop(lost);
        assert!(orphans(&shelf).is_empty());
        for inode in 10..10 + 4 * SWEEP as u64 {
            drop(shelf.found(&mount, &Node { inode, ..Node::default() }, 1));
        }
        assert!(shelf.vnodes.borrow().len() <= SWEEP);
    }
}
