//! Pipes, and F11: what goes through a pipe is neither lost nor doubled, whatever page is absent on either side.
//!
//! A pipe consumes what it hands out, so an attempt that is repeated must not have consumed anything: the pipe file system
//! copies once, and takes note afterwards.

pub mod faults;
pub mod waiting;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::pattern;
use refault_rt::user::{self, Descriptor};

use super::suite::{Explain, expect};

/// Bytes a pipe holds.
pub const CAPACITY: usize = 64 * 1024;
/// Pattern of what goes through.
pub const STREAM: u32 = 0x70;

/// Both ends.
#[derive(Clone, Copy, Debug)]
pub struct Pipe {
    /// The end that is read.
    pub read: Descriptor,
    /// The end that is written.
    pub write: Descriptor,
}

impl Pipe {
    /// A new one.
    pub fn new() -> Result<Pipe, String> {
        let (read, write) = user::pipe().explain("pipe")?;
        Ok(Pipe { read, write })
    }

    /// Puts bytes of the stream in.
    pub fn put(&self, offset: u64, bytes: usize) -> Result<(), String> {
        let mut buffer = vec![0; bytes];
        pattern::fill(STREAM, offset, &mut buffer);
        expect("bytes put into the pipe", user::write(self.write, &buffer).explain("write")?, bytes)
    }

    /// Takes bytes out, as many as one read gives.
    pub fn take(&self, bytes: usize) -> Result<Vec<u8>, String> {
        let mut buffer = vec![0; bytes];
        let count = user::read(self.read, &mut buffer).explain("read")?;
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Closes both ends.
    pub fn close(self) -> Result<(), String> {
        user::close(self.read).explain("close")?;
        user::close(self.write).explain("close")
    }
}
