//! The stub page as a function.

use refault_abi::ipc::{Call, peers};
use refault_abi::message::Payload;
use refault_abi::{Endpoint, Message, layout};

#[repr(C)]
struct Raw {
    result: i64,
    status: u64,
}

/// Executes a trap; result and status.
#[inline(never)]
pub fn trap(call: u64, peers: u64, message: &mut Message) -> (i64, u64) {
    type Stub = unsafe extern "C" fn(u64, u64, *mut Message) -> Raw;
    // SAFETY: the kernel maps this function there.
    let stub: Stub = unsafe { core::mem::transmute::<usize, Stub>(layout::STUB as usize) };
    // SAFETY: the message is valid for reads and writes.
    let raw = unsafe { stub(call, peers, message) };
    (raw.result, raw.status)
}

/// A kernel call; result and the message after it.
pub fn kernel_call<T: Payload>(number: u16, request: &T) -> (i64, Message) {
    let mut message = Message::new(number, request);
    let (result, _) = trap(Call::Kernel as u64, 0, &mut message);
    (result, message)
}

/// A primitive with both peers.
pub fn primitive(call: Call, to: Endpoint, from: Endpoint, message: &mut Message) -> (i64, u64) {
    trap(call as u64, peers(to, from), message)
}
