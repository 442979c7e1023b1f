use std::vec;
use std::vec::Vec;

use super::*;

/// A segment: flags, address, data, bytes in memory.
type Spec<'a> = (u32, u64, &'a [u8], u64);

/// A program with the given segments.
pub(crate) fn program(entry: u64, segments: &[Spec<'_>]) -> Vec<u8> {
    let mut file = vec![0u8; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..18].copy_from_slice(&2u16.to_le_bytes());
    file[18..20].copy_from_slice(&62u16.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
    let mut offset = 64 + 56 * segments.len();
    for (flags, address, data, bytes) in segments {
        file.extend(1u32.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for field in [offset as u64, *address, *address, data.len() as u64, *bytes, PAGE] {
            file.extend(field.to_le_bytes());
        }
        offset += data.len();
    }
    for (_, _, data, _) in segments {
        file.extend(*data);
    }
    file
}

#[test]
fn segments_come_out() {
    let file = program(TEXT + 1, &[(5, TEXT, b"code", 4), (6, TEXT + PAGE, b"data", 0x3000)]);
    let read = parse(&file).unwrap();
    assert_eq!(read.entry, TEXT + 1);
    assert_eq!(read.segments[0].data(&file), Some(&b"code"[..]));
    assert_eq!(read.segments[0].protection, PROT_READ | PROT_EXEC);
    assert_eq!((read.segments[1].start(), read.segments[1].end()), (TEXT + PAGE, TEXT + 4 * PAGE));
    // The contents need not be there yet, but they have to be in the file.
    let head = &file[..64 + 2 * 56];
    assert_eq!(parse_head(head, file.len() as u64), Some(read.clone()));
    assert_eq!(parse_head(head, file.len() as u64 - 1), None);
    assert_eq!(read.segments[1].file_end(), TEXT + 2 * PAGE);
    assert!(!read.segments[0].is_congruent());
}

#[test]
fn what_would_hurt_is_refused() {
    let code: Spec<'_> = (5, TEXT, b"code", 4);
    let cases: [&[Spec<'_>]; 7] = [
        &[],
        &[(5, TEXT - PAGE, b"low", 3)],
        &[(5, TEXT, b"long", 3)],
        &[(5, TEXT, b"huge", u64::MAX)],
        &[(5, TEXT, b"reaches the mappings", MMAP_START)],
        &[code, (6, TEXT + 8, b"shares a page", 16)],
        &[(4, TEXT, b"entry not executable", 20)],
    ];
    for segments in cases {
        assert_eq!(parse(&program(TEXT, segments)), None, "{segments:?}");
    }
    assert_eq!(parse(&program(TEXT + 4, &[code])), None);
}

#[test]
fn damage_never_hurts() {
    let file = program(TEXT, &[(5, TEXT, b"code", 4), (6, TEXT + PAGE, b"data", 0x3000)]);
    for length in 0..file.len() {
        let _ = parse(&file[..length]);
    }
    for place in 0..file.len() {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut broken = file.clone();
            broken[place] = byte;
            let _ = parse(&broken);
        }
    }
}
