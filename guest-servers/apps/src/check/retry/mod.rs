//! The eight requests that VFS repeats, and their tests F1 to F14.
//!
//! The one thing to hold in mind: each case performs *one* request on a buffer with absent pages, and asserts what came out
//! (count, bytes, position) and how (faults, repeats, requests at the file system), all measured around exactly that request.

pub mod blocks;
pub mod data;
pub mod positions;
pub mod small;
pub mod special;

use alloc::string::String;

use refault_rt::user::{self, Descriptor};

use super::buffer::{Buffer, Mapped};
use super::case::Complaint;
use super::suite::Explain;

/// One of the eight requests.
pub trait Operation {
    /// READ and so on.
    fn name(&self) -> &'static str;
    /// What its buffers are mappings of.
    fn mapped(&self) -> Mapped;
    /// Bytes of the buffer that it is given.
    fn bytes(&self) -> u64;
    /// Bytes of it that are touched.
    fn moved(&self) -> u64;
    /// Its answer.
    fn answer(&self) -> u64 {
        self.moved()
    }
    /// Whether it writes the buffer.
    fn writes_buffer(&self) -> bool;
    /// Whether the file system moves its bytes in several copies, so that a partial result is possible.
    fn in_pieces(&self) -> bool;
    /// Puts everything into the state before the request.
    fn reset(&mut self) -> Result<(), String>;
    /// The same for a request that the file system is going to refuse, as it would refuse requests for preparing it.
    fn rewind(&mut self) -> Result<(), String> {
        self.reset()
    }
    /// The request on the first `bytes` of a buffer.
    fn perform(&mut self, address: u64, bytes: u64) -> refault_abi::Result<u64>;
    /// Whether what the whole request should have done is done.
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint>;
    /// Whether the request has done nothing.
    fn verify_undone(&mut self) -> Result<(), Complaint> {
        Ok(())
    }
    /// Descriptor with a position, the position before, and the position after.
    fn position(&self) -> Option<(Descriptor, u64, u64)> {
        None
    }
}

/// The position of a descriptor.
pub fn position_of(descriptor: Descriptor) -> Result<u64, String> {
    user::lseek(descriptor, 0, refault_abi::vfs::SEEK_CUR).explain("lseek")
}
