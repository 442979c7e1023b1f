//! Vnodes: the inodes that somebody here refers to.
//!
//! The one thing to hold in mind: a vnode exists as long as an `Rc` to it does. A file system counts one reference
//! for each lookup it answered; the vnode remembers how many and gives them all back when its last holder lets go
//! ([`Shelf::orphans`]). It is not an inode cache: what changes behind VFS's back is not kept here.

use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use refault_abi::fs::{Node, NodeRef};

use crate::cell::TaskLock;
use crate::path::Kind;
use crate::transport::Mount;

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
    references: Cell<u64>,
    orphans: Rc<RefCell<Vec<Orphan>>>,
}

/// References to be given back.
#[derive(Debug)]
pub struct Orphan {
    /// To whom.
    pub mount: Rc<Mount>,
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
}

impl Drop for Vnode {
    fn drop(&mut self) {
        let references = NodeRef { inode: self.inode, count: self.references.get() };
        self.orphans.borrow_mut().push(Orphan { mount: Rc::clone(&self.mount), references });
    }
}

/// The vnodes of all mounts.
#[derive(Debug, Default)]
pub struct Shelf {
    vnodes: RefCell<BTreeMap<(u64, u64), Weak<Vnode>>>,
    orphans: Rc<RefCell<Vec<Orphan>>>,
}

impl Shelf {
    /// The vnode of an inode that a file system has just answered, and whose reference it has just counted.
    pub fn found(&self, mount: &Rc<Mount>, node: &Node) -> Rc<Vnode> {
        let mut vnodes = self.vnodes.borrow_mut();
        let key = (mount.device, node.inode);
        if let Some(vnode) = vnodes.get(&key).and_then(Weak::upgrade) {
            vnode.references.set(vnode.references.get().saturating_add(1));
            return vnode;
        }
        let vnode = Rc::new(Vnode {
            mount: Rc::clone(mount),
            inode: node.inode,
            mode: node.mode,
            size: Cell::new(node.size),
            lock: TaskLock::default(),
            references: Cell::new(1),
            orphans: Rc::clone(&self.orphans),
        });
        vnodes.insert(key, Rc::downgrade(&vnode));
        vnode
    }

    /// The vnodes that nobody holds any more, to be told to their file systems. A new lookup of the same inode may
    /// already be under way or answered: its reference is its own, so the order does not matter.
    pub fn orphans(&self) -> Vec<Orphan> {
        let orphans = self.orphans.take();
        let mut vnodes = self.vnodes.borrow_mut();
        for orphan in &orphans {
            let key = (orphan.mount.device, orphan.references.inode);
            if vnodes.get(&key).is_some_and(|vnode| vnode.strong_count() == 0) {
                vnodes.remove(&key);
            }
        }
        orphans
    }
}

#[cfg(test)]
mod tests {
    use refault_abi::Endpoint;

    use super::*;

    #[test]
    fn references_are_counted_and_given_back_once() {
        let shelf = Shelf::default();
        let mount = Rc::new(Mount::new(Endpoint::MFS, 1));
        let node = Node { inode: 5, mode: 0o100644, ..Node::default() };
        let (one, two) = (shelf.found(&mount, &node), shelf.found(&mount, &node));
        assert!(Rc::ptr_eq(&one, &two) && one.is_regular());
        drop(one);
        assert!(shelf.orphans().is_empty());
        drop(two);
        // Looked up again before the references went back: a new vnode with a reference of its own.
        let again = shelf.found(&mount, &node);
        let orphans = shelf.orphans();
        assert_eq!((orphans.len(), orphans[0].references.count), (1, 2));
        assert!(Rc::ptr_eq(&again, &shelf.found(&mount, &node)), "the new one is still on the shelf");
        drop(orphans);
        drop(again);
        assert_eq!(shelf.orphans()[0].references.count, 2);
        assert!(shelf.vnodes.borrow().is_empty());
    }
}
