//! The real machine below VFS: the runtime's messages, grants and copies.

use core::cell::Cell;
use core::marker::PhantomData;

use refault_abi::counters::Counter;
use refault_abi::grant::Tag;
use refault_abi::ipc::senda;
use refault_abi::layout::PAGE;
use refault_abi::message::REPLY;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use refault_rt::grants::{self, Grant};
use refault_rt::ipc::Received;
use refault_rt::kernel::Moved;
use refault_rt::{asyncsend, info, ipc, kernel, server, waits};

use crate::kernel::{Access, CopyError, Fault, Granted, Kernel, Side, UserMemory};

/// The guest's kernel.
#[derive(Debug, Default)]
pub struct GuestKernel {
    last_answer: Cell<Option<(Endpoint, Message)>>,
}

impl GuestKernel {
    /// Receives the next message. An answer that is still to be sent goes out in the same kernel entry: its receiver
    /// waits for it, so that the send half cannot wait.
    pub fn next(&self) -> Received {
        if let Some((to, message)) = self.last_answer.take()
            && let Ok(received) = ipc::reply_receive(to, &message, Endpoint::ANY)
        {
            return received;
        }
        // Nothing was received if the answer could not be sent: its receiver is gone.
        server::next()
    }
}

/// A grant, with the memory of VFS's own that it lends borrowed as long as it is in force.
#[derive(Debug)]
pub struct Lent<'a> {
    // Taken out by whoever revokes it.
    grant: Option<Grant>,
    id: GrantId,
    memory: PhantomData<&'a mut [u8]>,
}

impl Lent<'_> {
    fn of(grant: Result<Grant>) -> Result<Self> {
        let grant = grant?;
        info::count(Counter::VfsGrants, 1);
        Ok(Lent { id: grant.id(), grant: Some(grant), memory: PhantomData })
    }

    fn end(&mut self) -> Option<grants::SoftFault> {
        let grant = self.grant.take()?;
        info::count(Counter::VfsRevokes, 1);
        grant.revoke().fault
    }
}

impl Granted for Lent<'_> {
    fn id(&self) -> GrantId {
        self.id
    }

    fn revoke(mut self) -> Option<Fault> {
        self.end().map(|fault| Fault {
            side: match fault.side {
                grants::Side::Granted => Side::Granted,
                grants::Side::Grantee => Side::Grantee,
                grants::Side::Unknown => Side::Unknown,
            },
            write: fault.access == grants::Access::Write,
            address: fault.address,
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // Whoever drops a grant has decided that a fault does not matter.
        let _ = self.end();
    }
}

/// The outcome of a raw copy. On a fault the own side is touched, which makes it present by an ordinary page fault:
/// VM serves that without VFS.
fn copied(moved: Moved, write: bool, touch: impl FnOnce()) -> core::result::Result<(), CopyError> {
    match moved.result {
        Ok(()) => Ok(()),
        Err(Errno::EFAULT) => {
            touch();
            Err(CopyError::Fault(Fault { side: Side::Granted, write, address: moved.fault }))
        }
        Err(error) => Err(CopyError::Other(error)),
    }
}

impl Kernel for GuestKernel {
    type Grant<'a> = Lent<'a>;
    type Wait = waits::Wait;

    fn waits(&self, client: Endpoint, target: Endpoint, other: Endpoint, why: &'static str) -> waits::Wait {
        waits::declare(client, target, other, why)
    }

    fn send(&self, to: Endpoint, message: &Message) {
        // One that is gone does without it.
        let _ = ipc::send(to, message);
    }

    fn ask_vm(&self, message: &Message) -> Result<Message> {
        ipc::sendrec(Endpoint::VM, message)
    }

    fn post(&self, to: Endpoint, message: &Message) -> Result<()> {
        // Who waits for VFS by SENDREC (only PM does among those that are posted to) waits for the answer to that request,
        // which has no transaction id. An answer to something it asked asynchronously must not be taken for it.
        let awaited = message.kind() == REPLY && message.transaction() == 0;
        let flags = if awaited { senda::NOTIFY_ERR } else { senda::NOTIFY_ERR | senda::NOREPLY };
        asyncsend::send(to, message, flags)
    }

    fn answer(&self, to: Endpoint, message: &Message, waits: bool) {
        let now = if waits { self.last_answer.replace(Some((to, *message))) } else { Some((to, *message)) };
        if let Some((to, message)) = now {
            // A process that does not wait for its answer, or is dead, does without it.
            let _ = ipc::sendnb(to, &message);
        }
    }

    fn grant_user(
        &self,
        grantee: Endpoint,
        memory: &UserMemory,
        cpf_try: bool,
        tag: Tag,
    ) -> Result<Lent<'static>> {
        let grant = Grant::magic(grantee, memory.owner, memory.address, memory.bytes);
        let grant = match memory.access {
            Access::Read => grant.read(),
            Access::Write => grant.write(),
        };
        Lent::of(grant.try_only(cpf_try).tag(tag).make())
    }

    fn lend<'a>(&self, grantee: Endpoint, bytes: &'a [u8]) -> Result<Lent<'a>> {
        Lent::of(Grant::of_bytes(grantee, bytes).make())
    }

    fn lend_mut<'a>(&self, grantee: Endpoint, bytes: &'a mut [u8]) -> Result<Lent<'a>> {
        let address = bytes.as_mut_ptr().expose_provenance() as u64;
        Lent::of(Grant::direct(grantee, address, bytes.len() as u64).write().make())
    }

    fn copy_in(&self, from: Endpoint, address: u64, bytes: &mut [u8]) -> core::result::Result<(), CopyError> {
        let moved = kernel::copy_in(from, address, bytes, true);
        copied(moved, false, || bytes.fill(0))
    }

    fn copy_out(&self, to: Endpoint, address: u64, bytes: &[u8]) -> core::result::Result<(), CopyError> {
        let moved = kernel::copy_out(to, address, bytes, true);
        copied(moved, true, || {
            for byte in bytes.iter().step_by(PAGE as usize).chain(bytes.last()) {
                core::hint::black_box(*byte);
            }
        })
    }

    fn count(&self, counter: Counter) {
        info::count(counter, 1);
    }
}
