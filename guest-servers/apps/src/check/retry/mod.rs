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
use alloc::vec;

use refault_abi::pattern;
use refault_abi::vfs::{SEEK_CUR, SEEK_SET};
use refault_rt::user::{self, Descriptor};

use super::buffer::{Buffer, Mapped};
use super::case::Complaint;
use super::suite::Explain;

/// What a request is like, whatever the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// READ and so on.
    pub name: &'static str,
    /// What its buffers are mappings of.
    pub mapped: Mapped,
    /// Bytes of the buffer that it is given.
    pub bytes: u64,
    /// Bytes of it that are touched.
    pub moved: u64,
    /// Its answer.
    pub answer: u64,
    /// Whether it writes the buffer.
    pub writes_buffer: bool,
    /// Whether the file system moves its bytes in several copies, so that a partial result is possible.
    pub in_pieces: bool,
}

/// One of the eight requests.
pub trait Operation {
    /// What it is like.
    fn shape(&self) -> Shape;
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

/// Puts the pattern of what was there before on so many bytes from `from` on, and the position where the request begins.
pub fn put_before(file: Descriptor, from: u64, bytes: usize, start: u64) -> Result<(), String> {
    let mut before = vec![0; bytes];
    pattern::fill(data::BEFORE, 0, &mut before);
    let count = user::pwrite(file, &before, from).explain("preparing")?;
    crate::ensure!(count == before.len(), "preparing: {count} of {}", before.len());
    put_position(file, start)
}

/// Puts the position where the request begins.
pub fn put_position(file: Descriptor, start: u64) -> Result<(), String> {
    user::lseek(file, start as i64, SEEK_SET).explain("lseek").map(drop)
}

/// The position of a descriptor.
pub fn position_of(descriptor: Descriptor) -> Result<u64, String> {
    user::lseek(descriptor, 0, SEEK_CUR).explain("lseek")
}
