//! The top of a new program's stack: the argument vector of [`StartInfo`].

use alloc::vec::Vec;

use refault_abi::info::{Argument, StartInfo};
use refault_abi::layout::STACK_TOP;
use refault_abi::{Errno, Result};
use zerocopy::IntoBytes;

/// Most arguments.
pub const MAX_ARGUMENTS: usize = 128;
/// Most bytes of all strings.
pub const MAX_BYTES: usize = 4096;

/// What goes to the top of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Bytes up to [`STACK_TOP`].
    pub bytes: Vec<u8>,
    /// Address of the first one: the StartInfo, and the first stack pointer (a multiple of 16).
    pub address: u64,
}

/// Lays `words` out below [`STACK_TOP`]: StartInfo, pairs, strings. E2BIG when they are too many or too long.
pub fn layout<'a>(words: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Image> {
    let count = words.clone().count();
    let strings = words.clone().try_fold(0usize, |sum, word| sum.checked_add(word.len()));
    let strings = strings.filter(|bytes| *bytes <= MAX_BYTES).ok_or(Errno::E2BIG)?;
    if count > MAX_ARGUMENTS {
        return Err(Errno::E2BIG);
    }
    // Bounded by the two limits: none of this can overflow.
    let table = size_of::<StartInfo>() + count * size_of::<Argument>();
    let total = (table + strings).next_multiple_of(16);
    let address = STACK_TOP - total as u64;
    let argv = address + size_of::<StartInfo>() as u64;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(StartInfo { argc: count as u64, argv }.as_bytes());
    let mut place = address + table as u64;
    for word in words.clone() {
        bytes.extend_from_slice(Argument { address: place, bytes: word.len() as u64 }.as_bytes());
        place += word.len() as u64;
    }
    for word in words {
        bytes.extend_from_slice(word);
    }
    bytes.resize(total, 0);
    Ok(Image { bytes, address })
}

/// The words of a SPAWN block: strings behind each other, each ended by a NUL.
pub fn words(block: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let ended = block.strip_suffix(&[0]).unwrap_or(block);
    let none = block.is_empty();
    ended.split(|byte| *byte == 0).filter(move |_| !none)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn words_are_where_the_pairs_say() {
        let image = layout(words(b"cat\0/hello\0\0")).unwrap();
        assert_eq!(image.address % 16, 0);
        assert_eq!(image.address + image.bytes.len() as u64, STACK_TOP);
        let long = |at: usize| u64::from_le_bytes(image.bytes[at..at + 8].try_into().unwrap());
        assert_eq!((long(0), long(8)), (3, image.address + 16));
        let word = |index: usize| {
            let at = (long(16 + index * 16) - image.address) as usize;
            &image.bytes[at..at + long(24 + index * 16) as usize]
        };
        assert_eq!((word(0), word(1), word(2)), (&b"cat"[..], &b"/hello"[..], &b""[..]));
    }

    #[test]
    fn limits() {
        assert_eq!(words(b"").count(), 0);
        assert_eq!(words(b"unended").collect::<Vec<_>>(), [b"unended"]);
        assert!(layout(words(&[0; MAX_ARGUMENTS])).is_ok());
        assert_eq!(layout(words(&[0; MAX_ARGUMENTS + 1])), Err(Errno::E2BIG));
        assert_eq!(layout(words(&[b'a'; MAX_BYTES + 1])), Err(Errno::E2BIG));
    }
}
