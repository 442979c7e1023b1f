//! The 64-byte message.
//!
//! A message is eight machine words and travels in registers (see [`crate::ipc`]): the kernel never
//! touches user memory to deliver one, so message passing cannot fault. A request is a plain structure
//! of at most 56 bytes put behind a type number.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Endpoint, Errno, Result};

/// Bytes a request may use.
pub const PAYLOAD_BYTES: usize = 56;

/// One message. 64 bytes, 8-byte aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Message {
    /// Sender's endpoint, filled in by the kernel.
    pub source: i32,
    /// Request type, low 16 bits; transaction id, high 16 bits.
    pub mtype: u32,
    /// The request.
    pub payload: [u64; PAYLOAD_BYTES / 8],
}

const _: () = assert!(size_of::<Message>() == 64);

/// A request or reply structure: plain data of at most [`PAYLOAD_BYTES`].
pub trait Payload: FromBytes + IntoBytes + Immutable + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + Copy> Payload for T {}

impl Message {
    /// A message of type `mtype` around `payload`.
    pub fn new<T: Payload>(mtype: u16, payload: &T) -> Message {
        const { assert!(size_of::<T>() <= PAYLOAD_BYTES) };
        let mut message = Message { source: 0, mtype: u32::from(mtype), payload: [0; PAYLOAD_BYTES / 8] };
        let bytes = payload.as_bytes();
        // The assertion above keeps the range inside the payload.
        if let Some(place) = message.payload.as_mut_bytes().get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        message
    }

    /// A message that is only a type.
    pub fn bare(mtype: u16) -> Message {
        Message { source: 0, mtype: u32::from(mtype), payload: [0; PAYLOAD_BYTES / 8] }
    }

    /// The reply `mtype` of this request with the same transaction id.
    pub fn reply<T: Payload>(&self, mtype: u16, payload: &T) -> Message {
        Message::new(mtype, payload).with_transaction(self.transaction())
    }

    /// The payload read as `T`. Every bit pattern is a `T`, so this cannot fail; whether the numbers
    /// make sense is the receiver's to check.
    pub fn get<T: Payload>(&self) -> T {
        const { assert!(size_of::<T>() <= PAYLOAD_BYTES) };
        match T::read_from_prefix(self.payload.as_bytes()) {
            Ok((value, _)) => value,
            // Not reachable: the size is asserted at compile time and reads need no alignment.
            Err(_) => T::new_zeroed(),
        }
    }

    /// The type without the transaction id.
    pub const fn kind(&self) -> u16 {
        self.mtype as u16
    }

    /// The transaction id, 0 for none.
    pub const fn transaction(&self) -> u16 {
        (self.mtype >> 16) as u16
    }

    /// The same message with a transaction id.
    pub const fn with_transaction(mut self, transaction: u16) -> Message {
        self.mtype = (self.mtype & 0xffff) | ((transaction as u32) << 16);
        self
    }

    /// Who sent it.
    pub const fn sender(&self) -> Endpoint {
        Endpoint::from_raw(self.source)
    }
}

/// A reply that is a result code or count, used by every server for requests that answer nothing else.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// Zero or a count, or a negative error.
    pub result: i64,
}

impl Status {
    /// From a result with a count.
    pub fn of(result: Result<u64>) -> Status {
        Status { result: crate::errno::raw_count(result) }
    }

    /// From a result without a value.
    pub fn unit(result: Result<()>) -> Status {
        Status { result: i64::from(crate::errno::raw_unit(result)) }
    }

    /// Back to a result.
    pub const fn check(self) -> Result<u64> {
        Errno::check(self.result)
    }
}

/// The message type of every plain reply.
pub const REPLY: u16 = 0x0001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_round_trip_and_transaction() {
        let message = Message::new(0xA13, &Status { result: -14 }).with_transaction(0xB07);
        assert_eq!(message.kind(), 0xA13);
        assert_eq!(message.transaction(), 0xB07);
        assert_eq!(message.get::<Status>().check(), Err(Errno::EFAULT));
        assert_eq!(message.reply(REPLY, &Status { result: 3 }).transaction(), 0xB07);
    }
}
