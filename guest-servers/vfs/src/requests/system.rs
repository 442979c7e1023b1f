//! Requests about everything (SYNC, FLUSH_CACHES), and those of the process manager.

use alloc::rc::Rc;

use refault_abi::kcall::Target;
use refault_abi::message::{REPLY, Status};
use refault_abi::vfs::{PM_EXEC, PM_EXIT, PM_FORK, PM_NEW, PM_SHUTDOWN, PmExec, PmFork, Program};
use refault_abi::{Endpoint, Errno, Message, Result, cdev, fs};

use crate::kernel::Kernel;
use crate::mount::Mount;
use crate::path::Last;
use crate::server::Vfs;
use crate::vnode::Vnode;

/// Permission bits of which a program has at least one.
const ANY_EXECUTE: u32 = 0o111;

impl<K: Kernel> Vfs<K> {
    /// Sends a request without operands to every mounted disk. The sum of the answers, or the first error.
    pub(crate) async fn everything(&self, operation: u16) -> Result<u64> {
        self.root().await?;
        let mut result = Ok(0_u64);
        for (disk, mount) in self.mounts.disks.iter().enumerate() {
            if self.disk_root(disk).await.is_err() {
                continue;
            }
            let answer = self.write_back(mount, operation).await;
            // The others are asked whatever one says.
            result = result.and_then(|sum| answer.map(|count| sum.saturating_add(count)));
        }
        result
    }

    /// Has a mount write everything back; `operation` is one of those that do.
    pub(crate) async fn write_back(&self, mount: &Rc<Mount>, operation: u16) -> Result<u64> {
        let count = self.call_mount(mount, Message::bare(operation)).await?.get::<Status>().check()?;
        // Nothing has been asked of it since: the next turn begins when this task waits.
        self.shelf.of(mount).iter().for_each(|vnode| vnode.unsaved.save());
        Ok(count)
    }

    /// Serves the process manager. It is answered asynchronously: it may be waiting for something else, and
    /// nothing here waits for it.
    pub(crate) async fn pm_call(self: &Rc<Self>, message: &Message) {
        let _worker = self.worker(true).await;
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
                self.gone(target);
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

    /// A process is gone. Its request, if it has one under way, ends by itself: what it waits for and what nobody promises to
    /// answer is answered here.
    fn gone(self: &Rc<Self>, process: Endpoint) {
        let gone = self.processes.borrow_mut().remove(process);
        if let Some(sleeper) = gone.as_ref().and_then(|process| process.sleep.as_ref()) {
            sleeper.set(());
        }
        drop(gone);
        if self.abandoned(process) {
            let cancel = cdev::Transfer { user: process.raw(), ..cdev::Transfer::default() };
            // A driver that cannot be told answers what nobody waits for, some time.
            let _ = self.kernel.post(Endpoint::TTY, &Message::new(cdev::CANCEL, &cancel));
        }
        self.lost(process);
        self.missing(process);
    }

    /// PM_EXEC: the answer, with the file pinned if it can be a program.
    async fn program(&self, request: &PmExec) -> Program {
        match self.program_file(request).await {
            Ok(vnode) => Program {
                result: 0,
                device: vnode.mount.device,
                inode: vnode.inode,
                size: vnode.size.get(),
                handle: self.pin_file(&vnode),
            },
            Err(error) => Program { result: i64::from(error.code()), ..Program::default() },
        }
    }

    /// The file behind a program's path. Nothing of it is looked at but its mode: what is in it is VM's to judge.
    async fn program_file(&self, request: &PmExec) -> Result<Rc<Vnode>> {
        let _locked = self.lock_of_memory_manager().await;
        let process = Endpoint::from_raw(request.endpoint);
        let path = self.fetch_path(Endpoint::PM, request.address, u64::from(request.length)).await?;
        let vnode = self.find(process, &path, Last::Follow).await?.existing()?;
        self.prepare_program(&vnode, request).await?;
        let executable = vnode.is_regular() && vnode.mode & ANY_EXECUTE != 0;
        if executable { Ok(vnode) } else { Err(Errno::EACCES) }
    }
}
