//! Requests to VM and VFS.

use refault_abi::ipc::senda;
use refault_abi::kcall::Target;
use refault_abi::message::{Payload, REPLY, Status};
use refault_abi::pm::{self, Killed};
use refault_abi::{Endpoint, Errno, Message, Result};
use refault_rt::{asyncsend, diag, ipc, kernel, waits};

use super::{Errand, Pm};

/// Status of the machine when a server ended that cannot be restarted: EX_SOFTWARE of sysexits.h.
const SERVER_DIED: i64 = 70;

/// A request that names a process.
pub fn target(endpoint: Endpoint) -> Target {
    Target { endpoint: endpoint.raw(), reserved: 0 }
}

/// A server without which nothing goes on is gone: nothing is written back, because it may be the one that would do it.
pub fn machine_over(server: Endpoint, status: i64) {
    diag!("pm: server {} ended with status {status}", server.raw());
    // Does not return unless it is denied, which it is not.
    let _ = kernel::shutdown(SERVER_DIED);
}

impl Pm {
    /// A request that VM answers at once, with a plain status.
    pub(super) fn ask_vm<T: Payload>(&mut self, request: u16, payload: &T) -> Result<u64> {
        let mut answer = ipc::sendrec(Endpoint::VM, &Message::new(request, payload))?;
        loop {
            match answer.kind() {
                REPLY if answer.transaction() == 0 => return answer.get::<Status>().check(),
                // Made by the kernel in VM's name, or by VM's panic.
                pm::EXIT => break,
                pm::KILLED if answer.get::<Killed>().endpoint == Endpoint::VM.raw() => break,
                _ => self.mail.push_back(answer),
            }
            answer = ipc::receive(Endpoint::VM)?.message;
        }
        machine_over(Endpoint::VM, 0);
        Err(Errno::EIO)
    }

    /// A message of VM's that came while another was awaited.
    pub(super) fn take_mail(&mut self, message: &Message) {
        match message.kind() {
            REPLY => self.go_on(message),
            pm::KILLED => self.killed(&message.get()),
            _ => {}
        }
    }

    /// A request whose answer PM does not wait for.
    pub(super) fn ask_later<T: Payload>(
        &mut self,
        server: Endpoint,
        request: u16,
        payload: &T,
        errand: Errand,
    ) {
        let (subject, reason) = errand.purpose();
        let wait = waits::declare(subject, server, Endpoint::NONE, reason);
        let id = self.errands.add(server, (errand, wait));
        self.post(server, Message::new(request, payload).with_transaction(id));
    }

    /// Sends without waiting, now or later.
    pub(super) fn post(&mut self, to: Endpoint, message: Message) {
        self.backlog.push_back((to, message));
        self.flush_backlog();
    }

    /// Hands as much of the backlog over as fits, and looks after what could not be delivered.
    pub(super) fn flush_backlog(&mut self) {
        while let Some((to, message)) = self.backlog.pop_front() {
            match asyncsend::send(to, &message, senda::NOREPLY) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => {
                    self.backlog.push_front((to, message));
                    break;
                }
                Err(_) => machine_over(to, 0),
            }
        }
        while let Some(failed) = asyncsend::take_failed() {
            // VFS, VM or RS: none of them is ever restarted.
            machine_over(failed.destination, 0);
        }
    }
}
