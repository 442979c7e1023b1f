//! Micro-guests: ELF kernels of a few hundred bytes, made in memory.
//!
//! For tests and for probing what a host can do. The code comes as bytes; this file wraps it into the
//! smallest ELF file with a PVH note, so that a micro-guest goes the same way into a machine as a kernel.

/// Bytes of headers before the code.
const HEADERS: usize = 64 + 2 * 56;
/// The note: three words, "Xen\0", one word.
const NOTE: usize = 20;

/// An ELF kernel whose only segment is `code` at physical address `load`, entered at `entry` by PVH.
pub fn elf(code: &[u8], load: u32, entry: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADERS + NOTE + code.len());
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2_u16, 62] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&1_u32.to_le_bytes());
    for word in [u64::from(entry), 64, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 0, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    let len = code.len() as u64;
    segment(&mut out, 1, 7, (HEADERS + NOTE) as u64, u64::from(load), len);
    segment(&mut out, 4, 4, HEADERS as u64, 0, NOTE as u64);
    for word in [4_u32, 4, 18] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(b"Xen\0");
    out.extend_from_slice(&entry.to_le_bytes());
    out.extend_from_slice(code);
    out
}

fn segment(out: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, address: u64, len: u64) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    for word in [offset, address, address, len, len, 1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}
