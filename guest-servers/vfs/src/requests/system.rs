//! Requests about everything (SYNC, FLUSH_CACHES), and those of the process manager.

use alloc::rc::Rc;

use refault_abi::kcall::Target;
use refault_abi::message::{REPLY, Status};
use refault_abi::vfs::{PM_EXEC, PM_EXIT, PM_FORK, PM_NEW, PM_SHUTDOWN, PmExec, PmFork, Program};
use refault_abi::{Endpoint, Errno, Message, Result, fs};

use crate::kernel::Kernel;
use crate::path::Last;
use crate::server::Vfs;
use crate::vnode::Vnode;

/// Permission bits of which a program has at least one.
const ANY_EXECUTE: u32 = 0o111;

impl<K: Kernel> Vfs<K> {
    /// Sends a request without operands to every mount.
    pub(crate) async fn everything(&self, operation: u16) -> Result<u64> {
        let root = self.root().await?;
        self.call(&root.mount, Message::bare(operation)).await?.get::<Status>().check()
    }

    /// Serves the process manager. It is answered asynchronously: it may be waiting for something else, and
    /// nothing here waits for it.
    pub(crate) async fn pm_call(&self, message: &Message) {
        if message.kind() == PM_EXEC {
            let program = self.program(&message.get()).await;
            self.answer_manager(&message.reply(REPLY, &program));
            return;
        }
        let target = Endpoint::from_raw(message.get::<Target>().endpoint);
        let result = match message.kind() {
            PM_NEW => {
                // The entry also comes into being with a process's first request; a predecessor in its slot
                // must not survive the news either way.
                let predecessor = self.processes.borrow_mut().admit(target);
                predecessor.map(|_| 0)
            }
            PM_FORK => {
                let PmFork { parent, child } = message.get();
                let (parent, child) = (Endpoint::from_raw(parent), Endpoint::from_raw(child));
                let predecessor = self.processes.borrow_mut().fork(parent, child);
                predecessor.map(|_| 0)
            }
            PM_EXIT => {
                let gone = self.processes.borrow_mut().remove(target);
                drop(gone);
                self.lost(target);
                Ok(0)
            }
            PM_SHUTDOWN => match self.root().await {
                Ok(_) => self.everything(fs::UNMOUNT).await,
                // What was never mounted has nothing to be written back.
                Err(_) => Ok(0),
            },
            _ => Err(Errno::EBADREQUEST),
        };
        self.answer_manager(&message.reply(REPLY, &Status::of(result)));
    }

    fn answer_manager(&self, answer: &Message) {
        // Only a full table of undelivered messages or a dead manager can refuse it.
        let _ = self.kernel.post(Endpoint::PM, answer);
    }

    /// PM_EXEC: the answer, with the file pinned if it can be a program.
    async fn program(&self, request: &PmExec) -> Program {
        match self.program_file(request).await {
            Ok(vnode) => Program {
                result: 0,
                device: vnode.mount.device,
                inode: vnode.inode,
                size: vnode.size.get(),
                handle: self.pins.borrow_mut().pin(vnode),
            },
            Err(error) => Program { result: i64::from(error.code()), ..Program::default() },
        }
    }

    /// The file behind a program's path. Nothing of it is looked at but its mode: what is in it is VM's to judge.
    async fn program_file(&self, request: &PmExec) -> Result<Rc<Vnode>> {
        let process = Endpoint::from_raw(request.endpoint);
        let path = self.fetch_path(Endpoint::PM, request.address, u64::from(request.length)).await?;
        let vnode = self.find(process, &path, Last::Follow).await?.existing()?;
        let executable = vnode.is_regular() && vnode.mode & ANY_EXECUTE != 0;
        if executable { Ok(vnode) } else { Err(Errno::EACCES) }
    }
}
