//! Images that lie: every field that is followed, made wrong, must end in a defined error and never in a panic or an
//! endless walk.

mod common;
#[path = "common/image.rs"]
mod image;

use common::{ATTRIBUTES, DIRECTORY, Memory, list, mount, read, truncate};
use image::{DIR, FILE, LINK, TABLE, get, image, inode_at, put, slot};
use proptest::prelude::*;
use refault_minixfs::{
    Access, BlockStore, Error, Inode, IoError, Location, MemoryStore, ROOT_INODE, Superblock, Volume,
};

fn what<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Corrupt(corruption)) => corruption.what,
        other => panic!("expected corruption, got {other:?}"),
    }
}

/// Mounts the image after `spoil` has changed it.
fn spoiled(spoil: impl FnOnce(&mut [u8])) -> Memory {
    let mut bytes = image();
    spoil(&mut bytes);
    mount(bytes)
}

#[test]
fn zone_numbers_out_of_range() {
    for bad in [1, 7, 2048, u32::MAX] {
        let mut volume = spoiled(|image| put(image, slot(FILE, 0), bad));
        assert_eq!(what(volume.map(FILE, 0)), "zone number out of range");
        assert_eq!(what(volume.map_for_write(FILE, 0)), "zone number out of range");
        assert_eq!(what(volume.truncate(FILE, 0)), "zone number out of range");
        assert!(volume.map(FILE, 1).unwrap().is_some(), "its neighbours are as good as before");

        let mut volume = spoiled(|image| put(image, slot(FILE, 7), bad));
        assert_eq!(what(volume.map(FILE, 7)), "zone number out of range");

        // One number inside the single indirect block, one inside the second level of the double one.
        let mut volume = spoiled(|image| put(image, get(image, slot(FILE, 7)) as usize * 1024 + 8, bad));
        match volume.map(FILE, 9) {
            Err(Error::Corrupt(corruption)) => assert!(matches!(corruption.location, Location::Block(_))),
            other => panic!("{other:?}"),
        }
        let mut volume = spoiled(|image| {
            let outer = get(image, slot(FILE, 8)) as usize * 1024;
            put(image, get(image, outer) as usize * 1024, bad);
        });
        assert_eq!(what(volume.map(FILE, 263)), "zone number out of range");
        assert!(volume.map(FILE, 264).unwrap().is_some());
    }
}

#[test]
fn inodes_that_cannot_be() {
    let mut volume = spoiled(|image| image[inode_at(FILE) + 1] = 0);
    assert_eq!(what(volume.inode(FILE)), "unknown kind of file");
    let mut volume = spoiled(|image| put(image, inode_at(FILE) + 8, 0x8000_0000));
    assert_eq!(what(volume.inode(FILE)), "size larger than any file here");
    let mut volume = spoiled(|image| image[inode_at(FILE) + 2..inode_at(FILE) + 4].fill(0));
    assert_eq!(what(volume.lookup(ROOT_INODE, b"file")), "a directory refers to an inode without links");
    let mut volume = spoiled(|image| image[2048] &= !(1 << FILE));
    assert_eq!(what(volume.lookup(ROOT_INODE, b"file")), "a free inode is referred to");
    let mut volume = spoiled(|_| {});
    for number in [0, 65, u32::MAX] {
        assert_eq!(what(volume.inode(number)), "inode number out of range");
    }
}

#[test]
fn the_root_has_to_be_a_directory() {
    for spoil in [|image: &mut [u8]| image[inode_at(1) + 1] = 0x81, |image: &mut [u8]| image[2048] = 1] {
        let mut bytes = image();
        spoil(&mut bytes);
        let superblock = Superblock::parse(&bytes[1024..], bytes.len() as u64).unwrap();
        let mounted = Volume::mount(MemoryStore::new(bytes, 1024), superblock, Access::ReadWrite);
        assert!(matches!(mounted, Err(Error::Corrupt(_))));
    }
}

#[test]
fn directories_that_cannot_be() {
    let entry = |image: &[u8], index: usize| get(image, slot(ROOT_INODE, 0)) as usize * 1024 + index * 64;
    let mut volume = spoiled(|image| put(image, inode_at(1) + 8, 0x7fff_ffc0));
    assert_eq!(what(volume.lookup(ROOT_INODE, b"nothing")), "impossible size of a directory");
    let mut volume = spoiled(|image| put(image, inode_at(1) + 8, 130));
    assert_eq!(what(volume.next_entry(ROOT_INODE, 0)), "impossible size of a directory");
    let mut volume = spoiled(|image| put(image, inode_at(1) + 8, 64 * 1024));
    assert_eq!(what(volume.lookup(ROOT_INODE, b"nothing")), "hole in a directory");
    assert!(volume.lookup(ROOT_INODE, b"file").is_ok(), "what stands before the hole is found");
    let mut volume = spoiled(|image| put(image, entry(image, 2), 65));
    assert_eq!(what(volume.lookup(ROOT_INODE, b"file")), "inode number out of range");
    assert_eq!(what(list(&mut volume, ROOT_INODE)), "inode number out of range");
    let mut volume = spoiled(|image| image[entry(image, 2) + 4] = 0);
    assert_eq!(what(list(&mut volume, ROOT_INODE)), "impossible name for inode");
    let mut volume = spoiled(|image| image[entry(image, 2) + 4] = b'/');
    assert_eq!(what(list(&mut volume, ROOT_INODE)), "impossible name for inode");
    let mut volume = spoiled(|_| {});
    assert_eq!(volume.next_entry(ROOT_INODE, 3), Err(Error::Invalid));
    assert_eq!(volume.next_entry(ROOT_INODE, u32::MAX / 64 * 64), Ok(None));
    assert_eq!(volume.next_entry(FILE, 0), Err(Error::NotDirectory));
}

#[test]
fn directories_in_a_circle() {
    // `dir` says that it is its own parent; moving something below it asks for its ancestors.
    let mut volume = spoiled(|image| {
        let entries = get(image, slot(DIR, 0)) as usize * 1024;
        put(image, entries + 64, DIR);
    });
    let other = volume.mkdir(ROOT_INODE, b"other", DIRECTORY).unwrap();
    assert_ne!(other, DIR);
    assert_eq!(what(volume.rename(ROOT_INODE, b"other", DIR, b"moved")), "directories in a circle");
    // A directory that contains itself under another name cannot be removed through that name.
    let mut volume = spoiled(|image| {
        let entries = get(image, slot(DIR, 0)) as usize * 1024;
        put(image, entries + 128, DIR);
    });
    assert_eq!(what(volume.rmdir(DIR, b"inner")), "a directory inside itself");
}

#[test]
fn symbolic_links_that_cannot_be() {
    let mut buffer = [0; 2000];
    for size in [0, 1025, 0x7fff_ffff] {
        let mut volume = spoiled(|image| put(image, inode_at(LINK) + 8, size));
        assert_eq!(what(volume.readlink(LINK, &mut buffer)), "impossible size of a symbolic link");
    }
    let mut volume = spoiled(|image| put(image, slot(LINK, 0), 0));
    assert_eq!(what(volume.readlink(LINK, &mut buffer)), "symbolic link without contents");
}

#[test]
fn trees_that_point_at_themselves_end() {
    // The double indirect block is its own child, and so on down.
    let mut volume = spoiled(|image| {
        let outer = get(image, slot(FILE, 8));
        put(image, outer as usize * 1024, outer);
    });
    assert!(volume.map(FILE, 263).is_ok(), "a self reference is a zone like any other to a reader");
    assert_eq!(what(volume.truncate(FILE, 0)), "zone freed that is free");

    // A triple indirect block whose 256 children are one block, whose 256 children are one block: 16 million paths.
    let mut volume = spoiled(|image| {
        let (top, middle, bottom) = (2040u32, 2041u32, 2042u32);
        put(image, slot(FILE, 9), top);
        for index in 0..256 {
            put(image, top as usize * 1024 + index * 4, middle);
            put(image, middle as usize * 1024 + index * 4, bottom);
            put(image, bottom as usize * 1024 + index * 4, 2043);
        }
        // Mark them as used.
        let first_data_zone = usize::from(image[1034]);
        for zone in 2040..2044usize {
            let bit = zone - first_data_zone + 1;
            image[3 * 1024 + bit / 8] |= 1 << (bit % 8);
        }
    });
    assert_eq!(what(volume.truncate(FILE, 0)), "zone freed that is free");
}

#[test]
fn two_files_with_one_zone() {
    let mut volume = spoiled(|image| {
        let theirs = get(image, slot(DIR, 0));
        put(image, slot(FILE, 3), theirs);
    });
    // Cutting the file frees the directory's block; the directory's own removal finds that out.
    volume.truncate(FILE, 0).unwrap();
    assert_eq!(what(volume.create(DIR, b"new", ATTRIBUTES)), "a free zone is referred to");

    // A zone of a file that is free in the map is not written to.
    let mut volume = spoiled(|image| image[3 * 1024 + 1..4 * 1024].fill(0));
    assert_eq!(what(volume.map_for_write(FILE, 100)), "a free zone is referred to");
}

/// A store in which some blocks cannot be read.
struct Broken {
    inner: MemoryStore,
    bad: u32,
}

impl BlockStore for Broken {
    fn block(&mut self, number: u32) -> Result<&[u8], IoError> {
        if number == self.bad { Err(IoError { block: number }) } else { self.inner.block(number) }
    }
    fn block_mut(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        if number == self.bad { Err(IoError { block: number }) } else { self.inner.block_mut(number) }
    }
    fn block_zeroed(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        if number == self.bad { Err(IoError { block: number }) } else { self.inner.block_zeroed(number) }
    }
    fn forget(&mut self, _number: u32) {}
    fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

#[test]
fn any_unreadable_block_is_an_error_and_no_more() {
    let bytes = image();
    let superblock = Superblock::parse(&bytes[1024..], bytes.len() as u64).unwrap();
    for bad in 2..400 {
        let store = Broken { inner: MemoryStore::new(bytes.clone(), 1024), bad };
        let mut volume = match Volume::mount(store, superblock, Access::ReadWrite) {
            Ok(volume) => volume,
            Err(error) => {
                assert_eq!(error, Error::Io(IoError { block: bad }));
                continue;
            }
        };
        let mut failed = None;
        for block in [0, 7, 263, 299] {
            failed = failed.or(volume.map(FILE, block).err());
        }
        failed = failed.or(volume.lookup(DIR, b"inner").err());
        failed = failed.or(volume.mkdir(DIR, b"new", DIRECTORY).err());
        failed = failed.or(volume.truncate(FILE, 0).err());
        assert!(matches!(failed, None | Some(Error::Io(IoError { .. }))), "block {bad}: {failed:?}");
    }
}

/// Does everything once with whatever the image holds. The answers do not matter, only that there are some.
fn exercise(mut volume: Memory) {
    let inodes = volume.superblock().inodes().min(16);
    let _ = volume.space();
    for number in 0..=inodes + 1 {
        let _: Result<Inode, Error> = volume.inode(number);
        let _ = list(&mut volume, number);
        if volume.inode(number).is_ok_and(|inode| inode.size < 1 << 21) {
            let _ = read(&mut volume, number);
        }
        let _ = volume.readlink(number, &mut [0; 100]);
        for block in [0, 7, 263, 65_799, u32::MAX] {
            let _ = volume.map(number, block);
        }
        let _ = volume.mkdir(number, b"new", DIRECTORY);
        let _ = volume.rename(ROOT_INODE, b"file", number, b"moved");
        let _ = volume.map_for_write(number, 264);
    }
    let _ = volume.rmdir(ROOT_INODE, b"dir");
    let _ = volume.unlink(ROOT_INODE, b"link").map(|removed| volume.reclaim(removed.inode));
    for number in 0..=inodes {
        let _ = truncate(&mut volume, number, 3000);
        let _ = volume.reclaim(number);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Random damage where it matters: inodes, bitmaps, directory and indirect blocks, and the superblock itself.
    #[test]
    fn random_damage_never_panics(damage in prop::collection::vec((0usize..80 * 1024, any::<u8>()), 1..200)) {
        let mut bytes = image();
        for (at, value) in damage {
            // Half of it in the first inodes, where every number is followed.
            let at = if at % 2 == 0 { TABLE + at % 512 } else { 1024 + at };
            bytes[at] = value;
        }
        if let Ok(superblock) = Superblock::parse(&bytes[1024..], bytes.len() as u64) {
            let store = MemoryStore::new(bytes, superblock.block_size());
            if let Ok(volume) = Volume::mount(store, superblock, Access::ReadWrite) {
                exercise(volume);
            }
        }
    }

    /// Zone numbers that are in range, but somebody else's: the kind of damage that checks of range do not see.
    #[test]
    fn crossed_zones_never_panic(crossings in prop::collection::vec((2u32..8, 0usize..10, 8u32..2048), 1..20)) {
        let mut bytes = image();
        for (number, index, zone) in crossings {
            put(&mut bytes, slot(number, index), zone);
            put(&mut bytes, zone as usize * 1024 + index * 4, zone ^ 1);
        }
        exercise(mount(bytes));
    }
}
