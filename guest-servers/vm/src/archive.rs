//! The boot image: a cpio archive in the "newc" format.
//!
//! The image comes from whoever started the machine; a broken one ends the walk, never the server.

/// A file of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path, without a leading `./` or `/`.
    pub name: &'a str,
    /// Its contents.
    pub data: &'a [u8],
}

/// Bytes of a header: magic and 13 fields of 8 hexadecimal digits.
const HEADER: usize = 110;

/// The members of an archive, up to the trailer or the first thing that makes no sense.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    image: &'a [u8],
    at: usize,
}

/// Walks `image`.
pub const fn members(image: &[u8]) -> Members<'_> {
    Members { image, at: 0 }
}

/// The regular file called `name`.
pub fn find<'a>(image: &'a [u8], name: &str) -> Option<&'a [u8]> {
    members(image).find(|member| member.name == name).map(|member| member.data)
}

/// Field `index` behind the magic.
fn field(header: &[u8], index: usize) -> Option<usize> {
    let start = 6 + index * 8;
    let digits = core::str::from_utf8(header.get(start..start + 8)?).ok()?;
    usize::from_str_radix(digits, 16).ok()
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        loop {
            let header = self.image.get(self.at..self.at.checked_add(HEADER)?)?;
            if !matches!(header.get(..6)?, b"070701" | b"070702") {
                return None;
            }
            let mode = field(header, 1)?;
            let data_bytes = field(header, 6)?;
            let name_bytes = field(header, 11)?;
            let name_start = self.at.checked_add(HEADER)?;
            let name_end = name_start.checked_add(name_bytes)?;
            let data_start = name_end.checked_next_multiple_of(4)?;
            let data_end = data_start.checked_add(data_bytes)?;
            let name = self.image.get(name_start..name_end)?;
            let data = self.image.get(data_start..data_end)?;
            let name = name.split(|byte| *byte == 0).next()?;
            let name = core::str::from_utf8(name).ok()?;
            if name == "TRAILER!!!" {
                return None;
            }
            self.at = data_end.checked_next_multiple_of(4)?;
            if mode & 0o170_000 == 0o100_000 {
                let name = name.strip_prefix("./").unwrap_or(name);
                return Some(Member { name: name.trim_start_matches('/'), data });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use super::*;

    fn put(image: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
        let mut fields = [0u32; 13];
        fields[1] = mode;
        fields[6] = data.len() as u32;
        fields[11] = name.len() as u32 + 1;
        image.extend(b"070701");
        for field in fields {
            image.extend(format!("{field:08x}").bytes());
        }
        image.extend(name.bytes());
        image.push(0);
        image.resize(image.len().next_multiple_of(4), 0);
        image.extend(data);
        image.resize(image.len().next_multiple_of(4), 0);
    }

    fn sample() -> Vec<u8> {
        let mut image = Vec::new();
        put(&mut image, "bin", 0o040755, b"");
        put(&mut image, "./pm", 0o100755, b"first");
        put(&mut image, "bin/cat", 0o100755, b"second!");
        put(&mut image, "TRAILER!!!", 0, b"");
        image
    }

    #[test]
    fn regular_files_are_found() {
        let image = sample();
        assert_eq!(find(&image, "pm"), Some(&b"first"[..]));
        assert_eq!(find(&image, "bin/cat"), Some(&b"second!"[..]));
        assert_eq!(find(&image, "bin"), None);
        assert_eq!(members(&image).count(), 2);
    }

    #[test]
    fn broken_images_end_the_walk() {
        let image = sample();
        for length in 0..image.len() {
            let _ = members(&image[..length]).count();
        }
        for place in 0..image.len() {
            for byte in [0, b'f', b'z', 0xff] {
                let mut broken = image.clone();
                broken[place] = byte;
                assert!(members(&broken).count() <= 4);
            }
        }
    }
}
