//! Requests of VM: which file is behind a descriptor, and bringing its pages in.
//!
//! The one thing to hold in mind: a page-in may be what a request of a process is waiting for, while that request
//! holds locks. So nothing in this file takes a lock: VM's handle leads straight to a vnode, and the page-in goes
//! straight into the mount's queue, where only requests are before it that end by themselves. It moves no position.
//! The faithful mode does all of that otherwise (`faithful.rs`).

use alloc::collections::BTreeMap;
use alloc::rc::Rc;

use refault_abi::message::Status;
use refault_abi::vfs::{FDLOOKUP, O_RDONLY, PAGEIN, RELEASE, VmCall};
use refault_abi::vm::{VFS_REPLY, VfsReply};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, fs};

use crate::kernel::Kernel;
use crate::process::{Object, OpenFile};
use crate::server::Vfs;
use crate::vnode::Vnode;

/// What VM holds a handle to.
#[derive(Clone, Debug)]
pub(crate) enum Pinned {
    /// A file, whoever opened it.
    Vnode(Rc<Vnode>),
    /// An open file that VM shares with whoever opened it, as the seed has it.
    OpenFile(Rc<OpenFile>),
}

/// VM's handles.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    pinned: BTreeMap<u64, Pinned>,
    last: u64,
}

impl Pins {
    fn pin(&mut self, pinned: Pinned) -> u64 {
        // Never used twice: a handle that VM has released leads nowhere.
        self.last += 1;
        self.pinned.insert(self.last, pinned);
        self.last
    }

    fn get(&self, handle: u64) -> Result<Pinned> {
        self.pinned.get(&handle).cloned().ok_or(Errno::EBADF)
    }
}

impl<K: Kernel> Vfs<K> {
    /// Serves VM. The answer goes out asynchronously: VM waits for nobody.
    pub(crate) async fn vm_call(&self, message: &Message) {
        let call: VmCall = message.get();
        if call.operation == RELEASE {
            // Nobody waits for an answer.
            let released = self.pins.borrow_mut().pinned.remove(&call.handle);
            drop(released);
            return;
        }
        let _worker = self.worker(true).await;
        let answer = match call.operation {
            FDLOOKUP => self.fd_lookup(&call).await,
            PAGEIN => self.page_in(&call).await.map(|vnode| (vnode, call.handle)),
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

    /// Pins the regular file or disk behind a process's descriptor.
    async fn fd_lookup(&self, call: &VmCall) -> Result<(Rc<Vnode>, u64)> {
        let file = self.open_file(Endpoint::from_raw(call.endpoint), call.descriptor)?;
        let vnode = Rc::clone(file.vnode(Errno::ENODEV)?);
        file.check_readable().map_err(|_| Errno::EACCES)?;
        if !vnode.is_regular() && !vnode.is_block() {
            return Err(Errno::ENODEV);
        }
        if vnode.is_block() && vnode.size.get() == 0 {
            self.measure(&vnode).await;
        }
        let pinned = match self.faithful {
            Some(_) => Pinned::OpenFile(file),
            None => Pinned::Vnode(Rc::clone(&vnode)),
        };
        let handle = self.pins.borrow_mut().pin(pinned);
        Ok((vnode, handle))
    }

    /// Pins a program's file.
    pub(crate) fn pin_file(&self, vnode: &Rc<Vnode>) -> u64 {
        let pinned = match self.faithful {
            Some(_) => {
                let file = OpenFile::new(Object::Vnode(Rc::clone(vnode)), O_RDONLY);
                Pinned::OpenFile(Rc::new(file))
            }
            None => Pinned::Vnode(Rc::clone(vnode)),
        };
        self.pins.borrow_mut().pin(pinned)
    }

    async fn page_in(&self, call: &VmCall) -> Result<Rc<Vnode>> {
        let pinned = self.pins.borrow().get(call.handle)?;
        match pinned {
            Pinned::Vnode(vnode) => self.peek(&vnode, call).await.map(|()| vnode),
            Pinned::OpenFile(file) => self.page_in_through(&file, call).await,
        }
    }

    /// Has the file system announce the pages. Behind the end there are none: the answer's size says so.
    pub(crate) async fn peek(&self, vnode: &Rc<Vnode>, call: &VmCall) -> Result<()> {
        let VmCall { offset, length, .. } = *call;
        if offset >= vnode.size.get() {
            return Ok(());
        }
        let operation = if vnode.is_block() { fs::BPEEK } else { fs::PEEK };
        let request = fs::Io { inode: vnode.inode, grant: GrantId::NONE.0, position: offset, bytes: length };
        self.call(vnode, Message::new(operation, &request)).await?.get::<Status>().check().map(|_| ())
    }
}
