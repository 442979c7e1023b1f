//! What files are like: positions, sizes, holes, names, links, and what a failed write leaves. The host compares the disk with
//! the `@file` lines afterwards, and `fsck.minix` has its say.

pub mod data;
pub mod names;
pub mod sizes;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::pattern;
use refault_abi::vfs::{O_CREAT, O_RDWR, O_TRUNC};
use refault_rt::user::{self, Descriptor};

use super::suite::{Explain, Suite, expect};

/// An empty file, open for reading and writing, with more flags if wanted.
pub fn fresh(path: &str, flags: u32) -> Result<Descriptor, String> {
    user::open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0o644).explain(path)
}

/// Bytes of a pattern.
pub fn bytes(id: u32, from: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    pattern::fill(id, from, &mut bytes);
    bytes
}

/// Everything in a file.
pub fn contents(descriptor: Descriptor) -> Result<Vec<u8>, String> {
    let size = user::fstat(descriptor).explain("fstat")?.size as usize;
    let mut bytes = vec![0; size + 1];
    let mut used = 0;
    loop {
        let place = bytes.get_mut(used..).unwrap_or_default();
        match user::pread(descriptor, place, used as u64).explain("pread")? {
            0 => break,
            count => used += count,
        }
    }
    expect("bytes up to the end", used, size)?;
    bytes.truncate(used);
    Ok(bytes)
}

/// A file must hold exactly this: now, and on the disk when the machine has ended.
pub fn settle(suite: &mut Suite, path: &str, wanted: &[u8]) -> Result<(), String> {
    let descriptor = user::open(path, refault_abi::vfs::O_RDONLY, 0).explain(path)?;
    let seen = contents(descriptor)?;
    user::close(descriptor).explain(path)?;
    super::retry::data::check_equal(path, &seen, wanted).map_err(|complaint| complaint.text)?;
    suite.file(path, wanted);
    Ok(())
}
