//! Requests about everything (SYNC, FLUSH_CACHES), and those of the process manager.

use refault_abi::kcall::Target;
use refault_abi::message::{REPLY, Status};
use refault_abi::vfs::{PM_EXIT, PM_NEW, PM_SHUTDOWN};
use refault_abi::{Endpoint, Errno, Message, Result, fs};

use crate::kernel::Kernel;
use crate::server::Vfs;

impl<K: Kernel> Vfs<K> {
    /// Sends a request without operands to every mount.
    pub(crate) async fn everything(&self, operation: u16) -> Result<u64> {
        let root = self.root().await?;
        self.call(&root.mount, Message::bare(operation)).await?.get::<Status>().check()
    }

    /// Serves the process manager. It is answered asynchronously: it may be waiting for something else, and
    /// nothing here waits for it.
    pub(crate) async fn pm_call(&self, message: &Message) {
        let target = Endpoint::from_raw(message.get::<Target>().endpoint);
        let result = match message.kind() {
            PM_NEW => {
                // The entry also comes into being with a process's first request; a predecessor in its slot
                // must not survive the news either way.
                let predecessor = self.processes.borrow_mut().admit(target);
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
        // Only a full table of undelivered messages or a dead manager can refuse it.
        let _ = self.kernel.post(Endpoint::PM, &message.reply(REPLY, &Status::of(result)));
    }
}
