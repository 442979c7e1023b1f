//! The trap: how a process enters the kernel, and the message-passing primitives behind it.
//!
//! A process never executes a trap instruction of its own. The kernel publishes a page with a stub at
//! [`crate::layout::STUB`], mapped into every process; the stub uses `SYSCALL` where the host runs it
//! and another trap instruction where it does not. The stub is an ordinary function in the C calling
//! convention:
//!
//! ```text
//! struct { i64 result; u64 status; } stub(u64 call, u64 peers, Message *message)
//! ```
//!
//! Inside, the registers are
//!
//! | register | in | out |
//! |---|---|---|
//! | `rax` | call number ([`Call`]) | result: 0, or a negative error |
//! | `rdi` | peers: low half whom to send to, high half whom to receive from | IPC status word ([`Delivery`]) |
//! | `rsi rdx r8 r9 r10 r12 r13 r14` | the message's eight words | the received message |
//! | `rbx rbp r15 rsp` | | preserved |
//! | `rcx r11` | | clobbered |
//!
//! so a message is never fetched from or stored to user memory by the kernel.

/// Call numbers (`rax`). Numbers 1 to 5 and 16 are those of specification 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Call {
    /// Rendezvous; blocks until received.
    Send = 1,
    /// Receive from one endpoint or ANY; blocks.
    Receive = 2,
    /// Send to a peer, then receive from the same peer.
    SendRec = 3,
    /// Set a pending bit; never blocks, no payload.
    Notify = 4,
    /// Send if the peer is receiving now, else ENOTREADY.
    SendNb = 5,
    /// A kernel call: the message is the request, see [`crate::kcall`].
    Kernel = 6,
    /// Send to the low peer, then receive from the high peer: a server's answer and next request in one trap.
    /// The send half never blocks (a server must not wait for a client): an error of it, ENOTREADY included,
    /// ends the call with nothing received. NONE as the low peer sends nothing.
    ReplyReceive = 7,
    /// Receive if something is waiting now, else ENOTREADY.
    ReceiveNb = 8,
    /// Give up the processor.
    Yield = 9,
    /// Register a table of asynchronous sends: first message word its address, second its length.
    SendA = 16,
}

impl Call {
    /// The call with this number.
    pub const fn from_raw(raw: u64) -> Option<Call> {
        Some(match raw {
            1 => Call::Send,
            2 => Call::Receive,
            3 => Call::SendRec,
            4 => Call::Notify,
            5 => Call::SendNb,
            6 => Call::Kernel,
            7 => Call::ReplyReceive,
            8 => Call::ReceiveNb,
            9 => Call::Yield,
            16 => Call::SendA,
            _ => return None,
        })
    }

    /// The call's bit in a trap mask.
    pub const fn mask(self) -> u32 {
        1 << (self as u32)
    }
}

/// Packs the two peers of a call: `send` in the low half, `receive` in the high half.
pub const fn peers(send: crate::Endpoint, receive: crate::Endpoint) -> u64 {
    (send.raw() as u32 as u64) | ((receive.raw() as u32 as u64) << 32)
}

/// The IPC status word of a completed receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Delivery(pub u64);

impl Delivery {
    /// Set when the kernel itself made the message (page faults, for one).
    pub const FROM_KERNEL: u64 = 1 << 8;

    /// The primitive that delivered the message: a [`Call`] number (SEND, SENDREC, NOTIFY, SENDNB, SENDA).
    pub const fn call(self) -> u64 {
        self.0 & 0xff
    }

    /// Whether it was a notification.
    pub const fn is_notify(self) -> bool {
        self.call() == Call::Notify as u64
    }

    /// Whether the kernel made it.
    pub const fn from_kernel(self) -> bool {
        self.0 & Self::FROM_KERNEL != 0
    }
}

/// Message type of a notification. Payload word 0: time stamp (TSC); word 1: pending interrupts or signals.
pub const NOTIFY_TYPE: u16 = 0x1000;

/// Longest asynchronous table: 16 times the number of processes and tasks.
pub const SENDA_MAX: usize = 16 * (5 + crate::endpoint::NR_PROCS);

/// One entry of an asynchronous send table, in the sender's memory. 80 bytes, 8-byte aligned.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C, align(8))]
pub struct AsyncEntry {
    /// [`senda`] flags; the kernel adds DONE.
    pub flags: u32,
    /// Destination endpoint.
    pub destination: i32,
    /// Result, valid when DONE is set.
    pub result: i32,
    /// Not used; zero.
    pub reserved: u32,
    /// What to send.
    pub message: crate::Message,
}

const _: () = assert!(size_of::<AsyncEntry>() == 80);

/// Flags of [`AsyncEntry`].
pub mod senda {
    /// The entry is in use.
    pub const VALID: u32 = 1;
    /// The kernel is done with it.
    pub const DONE: u32 = 2;
    /// Notify the sender when done.
    pub const NOTIFY: u32 = 4;
    /// Must not satisfy the receive half of a SENDREC.
    pub const NOREPLY: u32 = 8;
    /// Notify the sender when done with an error.
    pub const NOTIFY_ERR: u32 = 16;
}
