//! The boot image (cpio "newc"): finding a file in it without copying.
//!
//! The one thing to hold in mind: the archive is bytes from outside; every length in it is checked against
//! what is left. What is not here: unpacking, directories, links. Names may be padded with NULs, which is
//! how the packer aligns file data to pages.

/// Bytes of an entry's header.
const HEADER: usize = 110;
/// Offset of the file size in it.
const FILE_SIZE: usize = 54;
/// Offset of the name's size in it.
const NAME_SIZE: usize = 94;

/// Where a file's data lies in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Offset of the first byte.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

/// Eight hexadecimal digits.
fn hexadecimal(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0usize, |value, digit| {
        let digit = (*digit as char).to_digit(16)?;
        value.checked_mul(16)?.checked_add(digit as usize)
    })
}

fn round4(value: usize) -> Option<usize> {
    Some(value.checked_add(3)? & !3)
}

/// Finds the file `name` in `archive`. `None` when it is not there or the archive is damaged before it.
pub fn find(archive: &[u8], name: &str) -> Option<Found> {
    let mut at = 0usize;
    loop {
        let header = archive.get(at..)?.first_chunk::<HEADER>()?;
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            return None;
        }
        let length = hexadecimal(header.get(FILE_SIZE..FILE_SIZE + 8)?)?;
        let name_length = hexadecimal(header.get(NAME_SIZE..NAME_SIZE + 8)?)?;
        let name_start = at.checked_add(HEADER)?;
        let name_end = name_start.checked_add(name_length)?;
        let stored = archive.get(name_start..name_end)?;
        // Compared with its NUL, so that the many padding NULs behind it are not looked at.
        let (text, rest) = stored.split_at_checked(name.len()).unwrap_or((stored, &[]));
        let offset = round4(name_end)?;
        if text == name.as_bytes() && rest.first() == Some(&0) {
            archive.get(offset..offset.checked_add(length)?)?;
            return Some(Found { offset, length });
        }
        if stored.starts_with(b"TRAILER!!!") {
            return None;
        }
        at = round4(offset.checked_add(length)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(archive: &mut Vec<u8>, name: &str, padding: usize, data: &[u8]) {
        let name_length = name.len() + 1 + padding;
        archive.extend_from_slice(b"070701");
        for (index, value) in
            [0, 0, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name_length, 0].into_iter().enumerate()
        {
            assert!(index < 13);
            archive.extend_from_slice(format!("{value:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.resize(archive.len() + 1 + padding, 0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }

    fn sample() -> Vec<u8> {
        let mut archive = Vec::new();
        entry(&mut archive, "vmx", 0, b"other");
        entry(&mut archive, "vm", 71, b"right one");
        entry(&mut archive, "TRAILER!!!", 0, b"");
        archive
    }

    #[test]
    fn finds_by_whole_name_with_padding() {
        let archive = sample();
        let found = find(&archive, "vm").unwrap();
        assert_eq!(&archive[found.offset..found.offset + found.length], b"right one");
        assert_eq!(find(&archive, "v"), None);
        assert_eq!(find(&archive, "none"), None);
    }

    #[test]
    fn every_truncation_and_damage_ends() {
        let archive = sample();
        for length in 0..archive.len() {
            // Must neither panic nor report data that is not there.
            if let Some(found) = find(&archive[..length], "vm") {
                assert!(found.offset + found.length <= length);
            }
        }
        for at in 0..archive.len() {
            for value in [0, b'f', 0xff] {
                let mut damaged = archive.clone();
                damaged[at] = value;
                if let Some(found) = find(&damaged, "vm") {
                    assert!(found.offset + found.length <= damaged.len());
                }
            }
        }
    }
}
