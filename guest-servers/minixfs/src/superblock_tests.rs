//! Every field of the superblock, made wrong one at a time.

extern crate std;

use std::string::ToString;
use std::vec::Vec;

use super::*;

const DEVICE: u64 = 1440 * 1024;

/// What `mkfs.minix -3` writes for a device of 1440 KiB.
fn good() -> Vec<u8> {
    let mut bytes = std::vec![0u8; 1024];
    bytes[0..4].copy_from_slice(&480u32.to_le_bytes());
    bytes[6..8].copy_from_slice(&1u16.to_le_bytes());
    bytes[8..10].copy_from_slice(&1u16.to_le_bytes());
    bytes[10..12].copy_from_slice(&34u16.to_le_bytes());
    bytes[16..20].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    bytes[20..24].copy_from_slice(&1440u32.to_le_bytes());
    bytes[24..26].copy_from_slice(&0x4d5au16.to_le_bytes());
    bytes[28..30].copy_from_slice(&1024u16.to_le_bytes());
    bytes
}

fn with(offset: usize, value: &[u8]) -> Result<Superblock, SuperblockError> {
    let mut bytes = good();
    bytes[offset..offset + value.len()].copy_from_slice(value);
    Superblock::parse(&bytes, DEVICE)
}

fn field_of(result: Result<Superblock, SuperblockError>) -> &'static str {
    match result {
        Err(SuperblockError::Field { field, .. }) => field,
        other => panic!("expected a bad field, got {other:?}"),
    }
}

#[test]
fn a_good_one_is_read() {
    let superblock = Superblock::parse(&good(), DEVICE).unwrap();
    assert_eq!(superblock.inodes(), 480);
    assert_eq!(superblock.zones(), 1440);
    assert_eq!(superblock.first_data_zone(), 34);
    assert_eq!(superblock.block_size(), 1024);
    assert_eq!(superblock.data_zones(), 1406);
    assert_eq!((superblock.zmap_start(), superblock.table_start()), (3, 4));
}

#[test]
fn each_field_is_checked() {
    assert_eq!(field_of(with(0, &0u32.to_le_bytes())), "number of inodes");
    assert_eq!(field_of(with(0, &8192u32.to_le_bytes())), "inode bitmap blocks");
    assert_eq!(field_of(with(0, &u32::MAX.to_le_bytes())), "inode bitmap blocks");
    assert_eq!(field_of(with(0, &512u32.to_le_bytes())), "first data zone");
    assert_eq!(field_of(with(6, &0u16.to_le_bytes())), "inode bitmap blocks");
    assert_eq!(field_of(with(6, &u16::MAX.to_le_bytes())), "first data zone");
    assert_eq!(field_of(with(8, &0u16.to_le_bytes())), "zone bitmap blocks");
    assert_eq!(field_of(with(8, &u16::MAX.to_le_bytes())), "first data zone");
    assert_eq!(field_of(with(10, &0u16.to_le_bytes())), "first data zone");
    assert_eq!(field_of(with(10, &33u16.to_le_bytes())), "first data zone");
    assert_eq!(field_of(with(10, &1440u16.to_le_bytes())), "number of zones");
    assert_eq!(field_of(with(12, &1u16.to_le_bytes())), "log2 of the zone size");
    assert_eq!(field_of(with(16, &0u32.to_le_bytes())), "largest file size");
    assert_eq!(field_of(with(20, &1441u32.to_le_bytes())), "number of zones");
    assert_eq!(field_of(with(20, &u32::MAX.to_le_bytes())), "number of zones");
    assert_eq!(field_of(with(20, &34u32.to_le_bytes())), "number of zones");
    assert_eq!(field_of(with(28, &0u16.to_le_bytes())), "block size");
    assert_eq!(field_of(with(28, &512u16.to_le_bytes())), "block size");
    assert_eq!(field_of(with(28, &8192u16.to_le_bytes())), "block size");
}

#[test]
fn other_file_systems_are_told_apart() {
    assert_eq!(with(24, &0xef53u16.to_le_bytes()), Err(SuperblockError::NotMinix3 { found: 0xef53 }));
    let mut old = std::vec![0u8; 1024];
    old[16..18].copy_from_slice(&0x2478u16.to_le_bytes());
    assert_eq!(Superblock::parse(&old, DEVICE), Err(SuperblockError::OldVersion { magic: 0x2478 }));
    assert!(SuperblockError::NotMinix3 { found: 0 }.to_string().contains("not a MINIX version 3"));
}

#[test]
fn small_devices_and_short_reads_are_refused() {
    for size in [0, 512, 1024, 1055] {
        assert_eq!(Superblock::parse(&good(), size), Err(SuperblockError::DeviceTooSmall { bytes: size }));
    }
    assert!(matches!(Superblock::parse(&good()[..31], DEVICE), Err(SuperblockError::DeviceTooSmall { .. })));
    assert!(matches!(Superblock::parse(&[], DEVICE), Err(SuperblockError::DeviceTooSmall { .. })));
}

#[test]
fn a_size_beyond_the_format_is_cut_to_it() {
    assert_eq!(with(16, &u32::MAX.to_le_bytes()).unwrap().max_file_size(), MAX_FILE_SIZE);
}

proptest::proptest! {
    /// Whatever stands there: an answer, and one the rest of the crate can rely on.
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), size: u64) {
        let mut bytes = bytes;
        if bytes.len() > 30 {
            bytes[24..26].copy_from_slice(&MAGIC_V3.to_le_bytes());
            bytes[28..30].copy_from_slice(&[0, 4]);
            bytes[12..14].fill(0);
        }
        if let Ok(superblock) = Superblock::parse(&bytes, size) {
            assert!(superblock.first_data_zone() < superblock.zones());
            assert!(u64::from(superblock.zones()) * u64::from(superblock.block_size()) <= size);
            assert!(superblock.table_start() < superblock.first_data_zone());
        }
    }
}
