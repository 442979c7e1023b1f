use refault_abi::pattern;

use super::*;

fn written(kind: DiskKind) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.img");
    std::fs::write(&path, image(kind).unwrap()).unwrap();
    (directory, path)
}

#[test]
fn the_disks_hold_what_tests_expect() {
    let (_directory, path) = written(DiskKind::Standard);
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.file("/hello.txt").unwrap(), b"Hello from a MINIX file system.\n");
    assert_eq!(reader.file("/dir/e39").unwrap(), b"e39");
    let odd = reader.file("/odd.bin").unwrap();
    assert_eq!(odd.len() as u64, ODD_BYTES);
    assert_eq!(pattern::matching_prefix(FILE_ODD, 0, &odd), odd.len());
    let hole = reader.file("/hole.bin").unwrap();
    assert_eq!(hole.len() as u64, HOLE_BYTES);
    for (offset, byte) in (0..).zip(&hole) {
        let there = HOLE_PARTS.iter().any(|&(start, end)| (start..end).contains(&offset));
        assert_eq!(*byte, if there { pattern::pattern_byte(FILE_HOLE, offset) } else { 0 }, "{offset}");
    }
    let (_directory, path) = written(DiskKind::Second);
    assert_eq!(Reader::open(&path).unwrap().file("c.bin").unwrap().len() as u64, C_BYTES);
}

#[test]
fn fresh_disks_are_sound() {
    for kind in [DiskKind::Standard, DiskKind::Second] {
        let (_directory, path) = written(kind);
        Reader::open(&path).unwrap().walk().unwrap();
        match fsck(&path) {
            Some(said) => assert_eq!(said, Ok(())),
            None => eprintln!("fsck.minix is not installed: only walked"),
        }
    }
}

#[test]
fn a_block_of_two_files_is_found() {
    let mut volume = mount(image(DiskKind::Standard).unwrap(), Access::ReadOnly).unwrap();
    let zones: Vec<u32> = ["a.bin", "b.bin"]
        .map(|name| {
            let inode = volume.lookup(ROOT_INODE, name.as_bytes()).unwrap();
            volume.map(inode, 0).unwrap().unwrap()
        })
        .to_vec();
    let mut bytes = volume.into_store().into_bytes();
    // The zone numbers stand in the inodes, little endian; give the second file the first one's block.
    let (from, to) = (zones[1].to_le_bytes(), zones[0].to_le_bytes());
    let place = bytes.chunks_exact(4).position(|word| word == from).unwrap() * 4;
    bytes[place..place + 4].copy_from_slice(&to);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.img");
    std::fs::write(&path, bytes).unwrap();
    assert!(Reader::open(&path).unwrap().walk().unwrap_err().contains("belongs to another file"));
    if let Some(said) = fsck(&path) {
        assert!(said.is_err());
    }
}

#[test]
fn what_is_not_there_is_an_error() {
    let (_directory, path) = written(DiskKind::Second);
    assert!(Reader::open(&path).unwrap().file("/nonesuch").is_err());
    std::fs::write(&path, vec![0; 5000]).unwrap();
    assert!(Reader::open(&path).is_err());
}
