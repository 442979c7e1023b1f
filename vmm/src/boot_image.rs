//! Packing a boot image: a cpio archive ("newc" format) whose files' data are page aligned.
//!
//! Aligned, so that the guest can map or run a file from where it lies. The format pads a file's data to four bytes only,
//! but a name may end in more than one NUL: the name field is made long enough that the data behind it begins on a page.
//! Any cpio reads the result.
//!
//! Used by the build script and by tests; it must not use anything of this crate.

/// Alignment of file data, in bytes.
pub const ALIGN: usize = 4096;
/// Bytes of a member's header.
const HEADER: usize = 110;
/// Regular file, readable and executable.
const MODE: u32 = 0o100_555;
const TRAILER: &str = "TRAILER!!!";

/// The archive of `files`, (name, contents) in order. Fails if a file is larger than the format can say.
pub fn pack(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for (index, (name, data)) in files.iter().enumerate() {
        let size = u32::try_from(data.len()).map_err(|_| format!("{name} is larger than 4 GiB"))?;
        let unpadded = out.len() + HEADER + name.len() + 1;
        let name_len = name.len() + 1 + (unpadded.next_multiple_of(ALIGN) - unpadded);
        header(&mut out, index as u32 + 1, MODE, size, name_len);
        out.extend_from_slice(name.as_bytes());
        out.resize(out.len() + name_len - name.len(), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    header(&mut out, 0, 0, 0, TRAILER.len() + 1);
    out.extend_from_slice(TRAILER.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(out)
}

fn header(out: &mut Vec<u8>, inode: u32, mode: u32, size: u32, name_len: usize) {
    let links = 1;
    let fields =
        [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_len as u32, 0].map(|f| format!("{f:08x}"));
    out.extend_from_slice(b"070701");
    out.extend_from_slice(fields.concat().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let files =
            [("vm".to_owned(), vec![1; 5000]), ("bin/cat".to_owned(), vec![2; 3]), ("x".to_owned(), vec![])];
        pack(&files).unwrap()
    }

    /// A reader that knows nothing of the alignment.
    fn members(archive: &[u8]) -> Vec<(String, usize, usize)> {
        let field = |at: usize, n: usize| {
            let text = std::str::from_utf8(&archive[at + 6 + 8 * n..][..8]).unwrap();
            usize::from_str_radix(text, 16).unwrap()
        };
        let (mut at, mut found) = (0, Vec::new());
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let (size, name_len) = (field(at, 6), field(at, 11));
            let name = &archive[at + HEADER..at + HEADER + name_len];
            let name = String::from_utf8(name.split(|&b| b == 0).next().unwrap().to_vec()).unwrap();
            let data = (at + HEADER + name_len).next_multiple_of(4);
            if name == TRAILER {
                return found;
            }
            found.push((name, data, size));
            at = (data + size).next_multiple_of(4);
        }
    }

    #[test]
    fn data_begins_on_pages_and_any_reader_finds_it() {
        let archive = sample();
        let found = members(&archive);
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["vm", "bin/cat", "x"]);
        assert!(found.iter().all(|(_, data, _)| data % ALIGN == 0));
        assert_eq!(&archive[found[1].1..][..found[1].2], &[2, 2, 2]);
        assert_eq!(found[0].2, 5000);
    }
}
