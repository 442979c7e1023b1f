//! Requests of VM: which file is behind a descriptor, and bringing its pages in.
//!
//! The one thing to hold in mind: a page-in may be what a request of a process is waiting for, while that request
//! holds locks. So nothing in this file takes a lock: VM's handle leads straight to a vnode, and the page-in goes
//! straight into the mount's queue, where only requests are before it that end by themselves. It moves no position.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;

use refault_abi::message::Status;
use refault_abi::vfs::{FDLOOKUP, PAGEIN, RELEASE, VmCall};
use refault_abi::vm::{VFS_REPLY, VfsReply};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, fs};

use crate::kernel::Kernel;
use crate::server::Vfs;
use crate::vnode::Vnode;

/// The vnodes that VM holds handles to.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    vnodes: BTreeMap<u64, Rc<Vnode>>,
    last: u64,
}

impl Pins {
    pub(super) fn pin(&mut self, vnode: Rc<Vnode>) -> u64 {
        // Never used twice: a handle that VM has released leads nowhere.
        self.last += 1;
        self.vnodes.insert(self.last, vnode);
        self.last
    }

    fn get(&self, handle: u64) -> Result<Rc<Vnode>> {
        self.vnodes.get(&handle).cloned().ok_or(Errno::EBADF)
    }
}

impl<K: Kernel> Vfs<K> {
    /// Serves VM. The answer goes out asynchronously: VM waits for nobody.
    pub(crate) async fn vm_call(&self, message: &Message) {
        let call: VmCall = message.get();
        let answer = match call.operation {
            FDLOOKUP => self.fd_lookup(&call),
            PAGEIN => self.page_in(&call).await,
            RELEASE => {
                // Nobody waits for an answer.
                let released = self.pins.borrow_mut().vnodes.remove(&call.handle);
                drop(released);
                return;
            }
            _ => Err(Errno::EBADREQUEST),
        };
        let reply = match answer {
            Ok((vnode, handle)) => VfsReply {
                result: 0,
                request: call.request,
                device: vnode.mount.device,
                inode: vnode.inode,
                size: vnode.size.get(),
                handle,
            },
            Err(error) => VfsReply {
                result: i64::from(error.code()),
                request: call.request,
                handle: call.handle,
                ..VfsReply::default()
            },
        };
        // Only a full table of undelivered messages can refuse it.
        let _ = self.kernel.post(Endpoint::VM, &message.reply(VFS_REPLY, &reply));
    }

    /// Pins the regular file behind a process's descriptor.
    fn fd_lookup(&self, call: &VmCall) -> Result<(Rc<Vnode>, u64)> {
        let file = self.open_file(Endpoint::from_raw(call.endpoint), call.descriptor)?;
        let vnode = file.vnode(Errno::ENODEV)?;
        file.check_readable().map_err(|_| Errno::EACCES)?;
        if !vnode.is_regular() {
            return Err(Errno::ENODEV);
        }
        let handle = self.pins.borrow_mut().pin(Rc::clone(vnode));
        Ok((Rc::clone(vnode), handle))
    }

    async fn page_in(&self, call: &VmCall) -> Result<(Rc<Vnode>, u64)> {
        let vnode = self.pins.borrow().get(call.handle)?;
        let request =
            fs::Io { inode: vnode.inode, grant: GrantId::NONE.0, position: call.offset, bytes: call.length };
        let answer = self.call(&vnode.mount, Message::new(fs::PEEK, &request)).await?;
        answer.get::<Status>().check()?;
        Ok((vnode, call.handle))
    }
}
