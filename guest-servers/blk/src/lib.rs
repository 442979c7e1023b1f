//! The virtio block driver's logic: the ring, the device's registers, requests in parts.
//!
//! The one thing to hold in mind: data never passes through this driver. The device moves it between the disk
//! and the requester's own pages, whose physical addresses the kernel answers for the requester's grant.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod device;
pub mod order;
pub mod poll;
pub mod request;
pub mod ring;
