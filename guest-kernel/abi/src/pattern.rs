//! Contents that say where they belong.
//!
//! Byte `offset` of file `id` is a function of both, mixed over 16-byte cells, so that a byte that is
//! lost, doubled, shifted or from another file is seen from the byte alone with probability 255/256, and
//! from any cell with certainty for all practical purposes.

/// The cell's mix: splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Byte `offset` of the file `id`.
pub const fn pattern_byte(id: u32, offset: u64) -> u8 {
    let cell = mix(((id as u64) << 40) ^ (offset >> 3) ^ 0x5eed_0000_0000_0000);
    (cell >> ((offset & 7) * 8)) as u8
}

/// Fills `buffer` with the bytes of file `id` from `offset` on.
pub fn fill(id: u32, offset: u64, buffer: &mut [u8]) {
    for (index, byte) in buffer.iter_mut().enumerate() {
        *byte = pattern_byte(id, offset.wrapping_add(index as u64));
    }
}

/// Length of the prefix of `buffer` that equals file `id` from `offset` on.
pub fn matching_prefix(id: u32, offset: u64, buffer: &[u8]) -> usize {
    let wrong = buffer
        .iter()
        .enumerate()
        .find(|(index, byte)| **byte != pattern_byte(id, offset.wrapping_add(*index as u64)));
    wrong.map_or(buffer.len(), |(index, _)| index)
}

/// Id of the demo disk's mapped file, `/a.bin`.
pub const FILE_A: u32 = 1;
/// Id of the demo disk's source file, `/b.bin`.
pub const FILE_B: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_and_other_files_are_seen() {
        let mut buffer = [0u8; 256];
        fill(FILE_A, 4096, &mut buffer);
        assert_eq!(matching_prefix(FILE_A, 4096, &buffer), 256);
        for shift in [1u64, 8, 16, 4096] {
            assert!(matching_prefix(FILE_A, 4096 + shift, &buffer) < 16);
        }
        assert!(matching_prefix(FILE_B, 4096, &buffer) < 16);
    }
}
