//! Mending: what a death leaves behind, one thing at a time, and images that lie.

mod common;
#[path = "common/image.rs"]
mod image;
#[path = "common/check.rs"]
mod judge;

use common::{fsck, list, mount, read};
use image::{DIR, FILE, TABLE, get, image, inode_at, put, slot};
use judge::check;
use proptest::prelude::*;
use refault_minixfs::{Error, MemoryStore, ROOT_INODE, Report, Result, Superblock, Volume};

const ZONE_MAP: usize = 3 * 1024;

fn recover(bytes: Vec<u8>) -> Result<(Vec<u8>, Report)> {
    let superblock = Superblock::parse(&bytes[1024..], bytes.len() as u64).unwrap();
    let store = MemoryStore::new(bytes, superblock.block_size());
    let (volume, report) = Volume::recover(store, superblock)?;
    Ok((volume.into_store().into_bytes(), report))
}

/// Spoils the image, mends it, and has it judged by everybody.
fn mended(spoil: impl FnOnce(&mut [u8])) -> (Vec<u8>, Report) {
    let mut bytes = image();
    spoil(&mut bytes);
    let (bytes, report) = recover(bytes).unwrap();
    assert_eq!(check(&bytes), Vec::<String>::new());
    fsck(&bytes);
    assert_eq!(recover(bytes.clone()), Ok((bytes.clone(), Report::default())), "once is enough");
    (bytes, report)
}

#[test]
fn a_sound_volume_is_only_read() {
    let (bytes, report) = mended(|_| {});
    assert!(report.is_clean() && bytes == image());
    assert_eq!(report.to_string(), "nothing was wrong");
}

#[test]
fn bitmaps_and_link_counts_are_counted_anew() {
    let (bytes, report) = mended(|image| {
        image[2 * 1024] = 1;
        image[ZONE_MAP] ^= 0xf0;
        image[ZONE_MAP + 90] = 0xff;
        image[inode_at(FILE) + 2] = 7;
        image[inode_at(DIR) + 2] = 9;
    });
    assert!(bytes == image());
    assert_eq!((report.inode_bits, report.zone_bits, report.links), (5, 12, 2));
}

#[test]
fn names_and_inodes_that_lost_each_other_go() {
    let entry = |image: &[u8], index: usize| get(image, slot(ROOT_INODE, 0)) as usize * 1024 + index * 64;
    // The name of the file is gone; the directory's inode has not been written.
    let (bytes, report) = mended(|image| {
        let at = entry(image, 2);
        image[at..at + 64].fill(0);
        image[inode_at(DIR)..inode_at(DIR) + 64].fill(0);
    });
    // The directory's own file has no name either.
    assert_eq!((report.names, report.inodes), (1, 2));
    let mut volume = mount(bytes);
    assert_eq!(list(&mut volume, ROOT_INODE).unwrap().len(), 1);
    assert_eq!(volume.space().unwrap().free_inodes, 64 - 2);
    // Numbers that no inode has, names that cannot be, an inode that lost its last link.
    let (_, report) = mended(|image| {
        let at = entry(image, 2);
        put(image, at, 65);
        let at = entry(image, 3);
        image[at + 4] = b'/';
        put(image, inode_at(5), get(image, inode_at(5)) & 0xffff);
    });
    assert_eq!((report.names, report.inodes), (3, 4));
}

#[test]
fn numbers_out_of_range_twice_and_behind_the_end_go() {
    let (bytes, report) = mended(|image| {
        put(image, slot(FILE, 2), 5);
        put(image, slot(FILE, 3), u32::MAX);
        // The file within the directory claims a zone of the first, and two behind its end.
        put(image, slot(4, 1), get(image, slot(FILE, 4)));
        put(image, slot(4, 7), 1900);
        let single = get(image, slot(FILE, 7)) as usize * 1024;
        put(image, single + 40, 2048);
    });
    assert_eq!(report.pointers, 5);
    let mut volume = mount(bytes);
    assert_eq!(read(&mut volume, 4).unwrap(), b"inside");
    let data = read(&mut volume, FILE).unwrap();
    assert_eq!((data.len(), data.iter().filter(|&&byte| byte == 0).count()), (300 * 1024, 3 * 1024));
}

#[test]
fn directories_are_made_sane() {
    let first = |image: &[u8]| get(image, slot(DIR, 0)) as usize * 1024;
    let (bytes, report) = mended(|image| {
        let at = first(image);
        put(image, at, 17);
        image[at + 64 + 4] = b'x';
        put(image, inode_at(DIR) + 8, 200);
    });
    assert_eq!((report.directories, bytes == image()), (2, true));
    // A hole ends it, an end that is too near takes nothing that it has to have.
    let (_, report) = mended(|image| put(image, inode_at(DIR) + 8, 5 * 1024));
    assert_eq!((report.directories, report.names), (1, 0));
    let (_, report) = mended(|image| put(image, inode_at(DIR) + 8, 0));
    assert_eq!((report.directories, report.inodes), (1, 1));
    // One without a block is none.
    let (_, report) = mended(|image| put(image, slot(DIR, 0), 0));
    assert_eq!((report.names, report.inodes), (1, 2));
    // Its own ancestor below it: one name is enough for a directory, and the root has none.
    for target in [DIR, ROOT_INODE] {
        let (_, report) = mended(|image| {
            let at = first(image) + 128;
            put(image, at, target);
        });
        assert_eq!((report.names, report.inodes), (1, 1));
    }
}

#[test]
fn without_a_root_there_is_nothing_to_mend() {
    for spoil in
        [|image: &mut [u8]| image[inode_at(1) + 1] = 0x81, |image: &mut [u8]| put(image, slot(1, 0), 0)]
    {
        let mut bytes = image();
        spoil(&mut bytes);
        assert!(matches!(recover(bytes), Err(Error::Corrupt(_))));
    }
}

#[test]
fn trees_that_point_at_themselves_end() {
    let (_, report) = mended(|image| {
        let (top, middle, bottom) = (2040u32, 2041u32, 2042u32);
        put(image, inode_at(FILE) + 8, 0x7fff_ffff);
        put(image, slot(FILE, 9), top);
        for index in 0..256 {
            put(image, top as usize * 1024 + index * 4, middle);
            put(image, middle as usize * 1024 + index * 4, bottom);
            put(image, bottom as usize * 1024 + index * 4, top);
        }
    });
    // The others of each 256, and all of the last.
    assert_eq!(report.pointers, 255 + 255 + 256);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever stands there: it ends, and what it answers is either an error or a sound volume.
    #[test]
    fn random_damage_is_mended(
        damage in prop::collection::vec((0usize..80 * 1024, any::<u8>()), 1..200),
        crossings in prop::collection::vec((1u32..8, 0usize..10, 8u32..2048), 0..20),
    ) {
        let mut bytes = image();
        for (number, index, zone) in crossings {
            put(&mut bytes, slot(number, index), zone);
            put(&mut bytes, zone as usize * 1024 + index * 4, zone ^ 1);
        }
        for (at, value) in damage {
            // Half of it in the first inodes, where every number is followed; none in the superblock, which nobody mends.
            let at = if at % 2 == 0 { TABLE + at % 512 } else { 2048 + at };
            bytes[at] = value;
        }
        match recover(bytes) {
            Ok((bytes, _)) => {
                let mut wrong = check(&bytes);
                // A name that stands twice is an oddity, and stays.
                wrong.retain(|what| !what.contains("the name"));
                prop_assert!(wrong.is_empty(), "{wrong:#?}");
                let (again, report) = recover(bytes.clone()).unwrap();
                prop_assert!(report.is_clean() && again == bytes, "{report}");
            }
            Err(error) => prop_assert!(matches!(error, Error::Corrupt(_)), "{error:?}"),
        }
    }
}
