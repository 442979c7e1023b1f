//! Printable bytes that say where they belong, for what must be text: targets of symbolic links.

use refault_abi::pattern::pattern_byte;

/// Pattern id behind the text.
const TEXT: u32 = 0x7e;

/// Byte `offset` of the text: a small letter.
pub const fn text_byte(offset: u64) -> u8 {
    b'a' + pattern_byte(TEXT, offset) % 26
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_vary() {
        assert!((0..4096).all(|offset| text_byte(offset).is_ascii_lowercase()));
        assert!((0..64).any(|offset| text_byte(offset) != text_byte(offset + 4096)));
    }
}
