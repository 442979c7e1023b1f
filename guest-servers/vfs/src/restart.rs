//! Servers that die and come back: what becomes of the requests they had, and of what they knew.
//!
//! The one thing to hold in mind: a request that was delivered is answered EIO, because nobody knows how much of it was done;
//! one that was not is made again, with grants for the successor. A successor first hears what is open
//! ([`fs::READSUPER`], [`fs::GETNODE`]), then it gets requests again. What its predecessor was told and had not yet written to the
//! disk is lost, and whoever asks for it to be written back hears so ([`Unsaved`](crate::vnode::Unsaved)). It is not who restarts anybody: that is the
//! reincarnation server, which says so ([`rs::RESTARTED`]) or is asked ([`rs::LOOKUP`]).

use alloc::rc::Rc;

use refault_abi::fs::{self, Node, NodeRef};
use refault_abi::message::Status;
use refault_abi::{Endpoint, Errno, Message, Result, pm, rs};

use crate::kernel::Kernel;
use crate::mount::{Mount, Role};
use crate::server::Vfs;
use crate::transport::NOT_SENT;
use crate::vnode::Vnode;

impl<K: Kernel> Vfs<K> {
    /// A posted message did not reach `to`, which is dead.
    pub fn not_delivered(self: &Rc<Self>, to: Endpoint, message: &Message) {
        self.undelivered(to, message);
        self.missing(to);
        self.run();
    }

    /// A server is dead: asks for its successor, once.
    pub(crate) fn missing(self: &Rc<Self>, dead: Endpoint) {
        let Some(mount) = self.mounts.served_by(dead) else { return };
        if !mount.missed() {
            return;
        }
        let (server, mount) = (Rc::clone(self), Rc::clone(mount));
        self.spawn(Endpoint::VFS, async move {
            let lookup = rs::Lookup { slot: dead.slot(), dead: dead.raw() };
            let answer = server.ask(Endpoint::RS, Message::new(rs::LOOKUP, &lookup)).await;
            let successor = answer
                .and_then(|answer| answer.get::<Status>().check())
                .and_then(|endpoint| i32::try_from(endpoint).map_err(|_| Errno::EIO));
            match successor {
                Ok(successor) => server.succeeded(dead, Endpoint::from_raw(successor)),
                Err(_) if mount.endpoint() == dead => {
                    server.lost(dead);
                    server.give_up(&mount);
                }
                Err(_) => {}
            }
        });
    }

    /// RESTARTED.
    pub(crate) fn restarted(self: &Rc<Self>, news: &pm::Restarted) {
        self.succeeded(Endpoint::from_raw(news.old), Endpoint::from_raw(news.new));
    }

    /// `old` is `new` from now on. It may be heard twice.
    fn succeeded(self: &Rc<Self>, old: Endpoint, new: Endpoint) {
        let same_slot = old.slot() == new.slot() && old != new && new.index().is_some();
        let Some(mount) = self.mounts.served_by(old).filter(|_| same_slot) else { return };
        mount.succeeded(new);
        self.shelf.of(mount).iter().for_each(|vnode| vnode.unsaved.die());
        self.lost(old);
        let (server, mount) = (Rc::clone(self), Rc::clone(mount));
        self.spawn(Endpoint::VFS, async move { server.introduce(&mount).await });
    }

    /// Reads a disk for the first time.
    pub(crate) async fn mount_disk(&self, mount: &Rc<Mount>) {
        let root = match self.superblock(mount, 0).await {
            Ok(root) => Ok(self.shelf.found(mount, &root, 1)),
            // Its successor will be asked.
            Err(NOT_SENT) => return,
            Err(error) => Err(error),
        };
        if root.is_ok() {
            mount.up()
        } else {
            mount.give_up()
        }
        self.mounted(mount, root);
    }

    /// Tells a successor what is open, and lets requests through.
    async fn introduce(&self, mount: &Rc<Mount>) {
        let generation = mount.generation();
        let introduced = match mount.role {
            Role::Disk(_) => self.remount(mount).await,
            Role::Pipes => {
                // What was in them was in the dead one's memory.
                self.shelf.of(mount).iter().for_each(|vnode| vnode.gone.set(true));
                self.processes.borrow().wake_everybody();
                Ok(())
            }
            Role::Driver | Role::Devices => Ok(()),
        };
        // Whoever died since then has been heard of, or will be.
        if mount.generation() != generation {
            return;
        }
        match introduced {
            Ok(()) => mount.up(),
            Err(NOT_SENT) => {}
            Err(_) => self.give_up(mount),
        }
    }

    fn give_up(&self, mount: &Rc<Mount>) {
        mount.give_up();
        self.mounted(mount, Err(Errno::EIO));
    }

    async fn remount(&self, mount: &Rc<Mount>) -> Result<()> {
        // Whoever had it mounted may have died while it wrote.
        let root = self.superblock(mount, fs::RECOVER).await?;
        let vnodes = self.shelf.of(mount);
        let mut known_root = false;
        for vnode in vnodes.iter().filter(|vnode| vnode.references() > 0) {
            // Reading the superblock has taken one reference to the root already.
            let is_root = vnode.inode == root.inode;
            known_root |= is_root;
            let count = vnode.references().saturating_sub(u64::from(is_root));
            if count > 0 {
                self.known_again(mount, vnode, count).await?;
            }
        }
        if !known_root {
            self.mounted(mount, Ok(self.shelf.found(mount, &root, 1)));
        }
        Ok(())
    }

    /// Has a successor take the references of a vnode. If it does not know the inode, or as another one, the vnode is gone.
    async fn known_again(&self, mount: &Rc<Mount>, vnode: &Rc<Vnode>, count: u64) -> Result<()> {
        let request = NodeRef { inode: vnode.inode, count };
        // Past the queue: nobody gets a turn before the successor is up.
        let node: Node = self.ask(mount.endpoint(), Message::new(fs::GETNODE, &request)).await?.get();
        // A number that has been used again for something else is something else.
        if node.result < 0 || node.inode != vnode.inode || !vnode.same_type(node.mode) {
            vnode.gone.set(true);
        } else {
            vnode.size.set(node.size);
        }
        Ok(())
    }

    /// Has a file system read its superblock; past the queue. The root, with a reference.
    pub(crate) async fn superblock(&self, mount: &Rc<Mount>, flags: u32) -> Result<Node> {
        let Role::Disk(disk) = mount.role else { return Err(Errno::ENODEV) };
        let driver = self.mounts.driver.endpoint().raw();
        let request = fs::Mount { device: mount.device, driver, disk, flags, ..fs::Mount::default() };
        let node: Node = self.ask(mount.endpoint(), Message::new(fs::READSUPER, &request)).await?.get();
        match Errno::check(node.result) {
            Ok(_) => Ok(node),
            // To whoever names a path, an argument of the mount's says nothing.
            Err(Errno::EINVAL) => Err(Errno::ENODEV),
            Err(error) => Err(error),
        }
    }
}
