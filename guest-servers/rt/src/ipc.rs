//! Message passing: typed forms of the kernel's primitives.
//!
//! A message travels in registers, so none of these touches memory of another process, and none can fault
//! beyond the caller's own stack. What may block is said at each function; VM uses only those that do not.

use refault_abi::ipc::{Call, Delivery, peers};
use refault_abi::{Endpoint, Errno, Message, Result, layout};

/// A received message and how it came.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The message; `source` is filled in by the kernel and can be trusted.
    pub message: Message,
    /// Which primitive delivered it, and whether the kernel made it.
    pub delivery: Delivery,
}

/// What the stub returns, in `rax` and `rdx`.
#[repr(C)]
struct Raw {
    result: i64,
    status: u64,
}

/// Enters the kernel through the stub page.
///
/// # Safety
/// Only in a process of the guest, where the kernel has mapped the stub at [`layout::STUB`]; and the call
/// must not make the kernel change memory that Rust believes unchanged (copies are [`crate::kernel`]'s care).
pub(crate) unsafe fn trap(call: Call, peers: u64, message: &mut Message) -> (i64, Delivery) {
    type Stub = unsafe extern "C" fn(u64, u64, *mut Message) -> Raw;
    // SAFETY: the kernel maps a function with exactly this signature there before the process starts.
    let stub: Stub = unsafe { core::mem::transmute::<usize, Stub>(layout::STUB as usize) };
    // SAFETY: `message` is valid for reads and writes; the rest is the caller's promise.
    let raw = unsafe { stub(call as u64, peers, message) };
    (raw.result, Delivery(raw.status))
}

/// A primitive without memory operands.
fn primitive(call: Call, to: Endpoint, from: Endpoint, message: &mut Message) -> Result<Delivery> {
    // SAFETY: message-passing primitives other than SENDA touch no memory but `message`.
    let (result, delivery) = unsafe { trap(call, peers(to, from), message) };
    Errno::check(result).map(|_| delivery)
}

/// Sends and waits until `to` has received it.
pub fn send(to: Endpoint, message: &Message) -> Result<()> {
    primitive(Call::Send, to, Endpoint::NONE, &mut message.clone()).map(drop)
}

/// Sends if `to` is receiving now, else ENOTREADY.
pub fn sendnb(to: Endpoint, message: &Message) -> Result<()> {
    primitive(Call::SendNb, to, Endpoint::NONE, &mut message.clone()).map(drop)
}

/// Waits for a message from `from`, which may be [`Endpoint::ANY`].
pub fn receive(from: Endpoint) -> Result<Received> {
    let mut message = Message::default();
    let delivery = primitive(Call::Receive, Endpoint::NONE, from, &mut message)?;
    Ok(Received { message, delivery })
}

/// A message that is waiting already, else ENOTREADY.
pub fn receivenb(from: Endpoint) -> Result<Received> {
    let mut message = Message::default();
    let delivery = primitive(Call::ReceiveNb, Endpoint::NONE, from, &mut message)?;
    Ok(Received { message, delivery })
}

/// Sends a request and waits for the answer.
pub fn sendrec(to: Endpoint, message: &Message) -> Result<Message> {
    let mut message = *message;
    primitive(Call::SendRec, to, to, &mut message)?;
    Ok(message)
}

/// Sets the pending bit of the caller at `to`. Never blocks.
pub fn notify(to: Endpoint) -> Result<()> {
    primitive(Call::Notify, to, Endpoint::NONE, &mut Message::default()).map(drop)
}

/// Sends an answer to somebody who is receiving now, then waits for the next message from `from`: one kernel
/// entry. An error of the send half, ENOTREADY for one, is returned without receiving anything.
pub fn reply_receive(to: Endpoint, message: &Message, from: Endpoint) -> Result<Received> {
    let mut message = *message;
    let delivery = primitive(Call::ReplyReceive, to, from, &mut message)?;
    Ok(Received { message, delivery })
}

/// Gives up the processor.
pub fn yield_now() {
    // Yield cannot fail for a live caller, and there is nothing to do about it if it did.
    let _ = primitive(Call::Yield, Endpoint::NONE, Endpoint::NONE, &mut Message::default());
}
