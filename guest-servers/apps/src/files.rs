//! Whole transfers between descriptors, and complaints that name the file.

use alloc::vec;

use refault_rt::user::{self, Descriptor};
use refault_rt::{Errno, Result};

use crate::reason::reason;

/// Bytes moved at a time.
const CHUNK: usize = 16 * 1024;

/// Which side of a copy failed.
#[derive(Clone, Copy, Debug)]
pub enum Failed {
    /// The source.
    Reading(Errno),
    /// The destination.
    Writing(Errno),
}

/// Says on descriptor 2 what went wrong with a file.
pub fn complain(program: &str, path: &str, error: Errno) {
    refault_rt::eprintln!("{program}: {path}: {} ({error})", reason(error));
}

/// Hands every byte of a file on, in pieces.
pub fn for_each_piece(
    descriptor: Descriptor,
    mut action: impl FnMut(&[u8]) -> Result<()>,
) -> core::result::Result<(), Failed> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = user::read(descriptor, &mut buffer).map_err(Failed::Reading)?;
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            return Ok(());
        }
        action(piece).map_err(Failed::Writing)?;
    }
}

/// Writes all of it.
pub fn write_all(descriptor: Descriptor, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match user::write(descriptor, bytes)? {
            0 => return Err(Errno::EIO),
            count => bytes = bytes.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}
