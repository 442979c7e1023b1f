//! Operations one by one: boundaries of the zone tree, full disks, names, and images of the host's `mkfs.minix`.

mod common;

use common::{ATTRIBUTES, DIRECTORY, fresh, fsck, list, mount, read, tool, truncate, write};
use refault_minixfs::{Access, Error, FileKind, MemoryStore, ROOT_INODE, Superblock, Volume};

#[test]
fn an_empty_volume_passes_the_checker() {
    for (blocks, inodes) in [(10, None), (64, None), (1440, None), (10_240, Some(17)), (70_000, None)] {
        let mut volume = fresh(blocks, inodes);
        let space = volume.space().unwrap();
        assert_eq!(space.free_inodes, volume.superblock().inodes() - 1);
        assert_eq!(space.free_zones, volume.superblock().data_zones() - 1);
        fsck(volume.into_store().bytes());
    }
}

#[test]
fn shape_is_that_of_mkfs_minix() {
    let Some(program) = tool("mkfs.minix") else { return };
    for blocks in [64, 1440, 10_240, 100_000] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(u64::from(blocks) * 1024).unwrap();
        assert!(
            std::process::Command::new(&program)
                .arg("-3")
                .arg(file.path())
                .output()
                .unwrap()
                .status
                .success()
        );
        let image = std::fs::read(file.path()).unwrap();
        let theirs = Superblock::parse(&image[1024..], image.len() as u64).unwrap();
        assert_eq!(theirs, refault_minixfs::format::shape(blocks, None).unwrap(), "{blocks} blocks");

        // Superblock, bitmaps and the root's contents are the same to the byte; the root's inode but for its times.
        let ours = fresh(blocks, None).into_store().into_bytes();
        let table = 1024 * (2 + theirs.first_data_zone() as usize - 2 - (theirs.inodes() as usize / 16));
        assert_eq!(image[1024..table], ours[1024..table], "{blocks} blocks: superblock and bitmaps");
        assert_eq!(image[table..table + 12], ours[table..table + 12], "{blocks} blocks: root inode");
        assert_eq!(image[table + 24..], ours[table + 24..], "{blocks} blocks: the rest");

        let mut volume = mount(image);
        let file = volume.create(ROOT_INODE, b"made here", ATTRIBUTES).unwrap();
        write(&mut volume, file, 5000, b"data behind a hole").unwrap();
        fsck(volume.into_store().bytes());
    }
}

#[test]
fn every_level_of_indirection_holds_and_frees() {
    let mut volume = fresh(4096, None);
    let before = volume.space().unwrap().free_zones;
    let file = volume.create(ROOT_INODE, b"sparse", ATTRIBUTES).unwrap();
    // The last of each level and the first of the next; the last possible block of the format.
    let blocks = [0u32, 6, 7, 262, 263, 518, 519, 65_798, 65_799, 2_097_150];
    for &block in &blocks {
        assert_eq!(volume.map(file, block), Ok(None));
        write(&mut volume, file, u64::from(block) * 1024 + 3, &block.to_le_bytes()).unwrap();
    }
    fsck(volume.store_mut().bytes());
    for &block in &blocks {
        let zone = volume.map(file, block).unwrap().expect("mapped");
        let at = zone as usize * 1024;
        assert_eq!(volume.store_mut().bytes()[at + 3..at + 7], block.to_le_bytes());
    }
    for hole in [1, 5, 8, 261, 264, 520, 65_797, 65_800, 2_097_149] {
        assert_eq!(volume.map(file, hole), Ok(None), "block {hole}");
    }
    // From the end: each cut frees its block and the indirect blocks only it used.
    let mut free = volume.space().unwrap().free_zones;
    for &block in blocks.iter().rev() {
        truncate(&mut volume, file, u64::from(block) * 1024).unwrap();
        assert_eq!(volume.map(file, block), Ok(None));
        let now = volume.space().unwrap().free_zones;
        assert!(now > free, "cutting block {block} frees something");
        free = now;
        fsck(volume.store_mut().bytes());
    }
    assert_eq!(free, before);
}

#[test]
fn no_file_goes_beyond_the_format() {
    let mut volume = fresh(4096, None);
    let file = volume.create(ROOT_INODE, b"big", ATTRIBUTES).unwrap();
    assert_eq!(volume.truncate(file, 0x8000_0000), Err(Error::FileTooLarge));
    assert_eq!(volume.grow_to(file, u64::MAX), Err(Error::FileTooLarge));
    assert_eq!(volume.truncate(file, 0x7fff_ffff).unwrap().size, 0x7fff_ffff);
    assert_eq!(volume.map(file, u32::MAX), Err(Error::FileTooLarge));
    assert_eq!(volume.map_for_write(file, u32::MAX), Err(Error::FileTooLarge));
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let mut volume = fresh(64, None);
    let file = volume.create(ROOT_INODE, b"filler", ATTRIBUTES).unwrap();
    let mut offset = 0;
    while write(&mut volume, file, offset, &[7; 1024]).is_ok() {
        offset += 1024;
    }
    assert_eq!(volume.map_for_write(file, 60), Err(Error::NoSpace));
    let inodes = volume.space().unwrap().free_inodes;
    assert_eq!(volume.mkdir(ROOT_INODE, b"dir", DIRECTORY), Err(Error::NoSpace));
    assert_eq!(volume.symlink(ROOT_INODE, b"link", b"target", ATTRIBUTES), Err(Error::NoSpace));
    assert_eq!(volume.space().unwrap().free_inodes, inodes);
    // Names still fit into the root's block, so empty files do too, until the inodes or the block run out.
    let mut made = 0;
    while volume.create(ROOT_INODE, format!("f{made}").as_bytes(), ATTRIBUTES).is_ok() {
        made += 1;
    }
    assert_eq!(made, 13, "16 entries, less `.`, `..` and the filler");
    assert_eq!(volume.create(ROOT_INODE, b"one more", ATTRIBUTES), Err(Error::NoSpace));
    fsck(volume.store_mut().bytes());
    assert_eq!(read(&mut volume, file).unwrap(), vec![7; offset as usize]);
}

#[test]
fn inodes_run_out() {
    let mut volume = fresh(200, Some(16));
    for n in 0..15 {
        volume.create(ROOT_INODE, format!("f{n}").as_bytes(), ATTRIBUTES).unwrap();
    }
    assert_eq!(volume.create(ROOT_INODE, b"more", ATTRIBUTES), Err(Error::NoInodes));
    fsck(volume.into_store().bytes());
}

#[test]
fn names_are_checked() {
    let mut volume = fresh(200, None);
    let longest = [b'n'; 60];
    let file = volume.create(ROOT_INODE, &longest, ATTRIBUTES).unwrap();
    assert_eq!(volume.lookup(ROOT_INODE, &longest), Ok(file));
    assert_eq!(volume.lookup(ROOT_INODE, &longest[1..]), Err(Error::NotFound));
    assert_eq!(volume.create(ROOT_INODE, &[b'n'; 61], ATTRIBUTES), Err(Error::NameTooLong));
    assert_eq!(volume.create(ROOT_INODE, b"", ATTRIBUTES), Err(Error::Invalid));
    assert_eq!(volume.create(ROOT_INODE, b"a/b", ATTRIBUTES), Err(Error::Invalid));
    assert_eq!(volume.create(ROOT_INODE, b"a\0b", ATTRIBUTES), Err(Error::Invalid));
    assert_eq!(volume.create(ROOT_INODE, b".", ATTRIBUTES), Err(Error::Exists));
    assert_eq!(volume.create(file, b"below a file", ATTRIBUTES), Err(Error::NotDirectory));
    fsck(volume.into_store().bytes());
}

#[test]
fn symbolic_links() {
    let mut volume = fresh(200, None);
    let link = volume.symlink(ROOT_INODE, b"link", b"dir/target", ATTRIBUTES).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(volume.readlink(link, &mut buffer), Ok(10));
    assert_eq!(&buffer[..10], b"dir/target");
    assert_eq!(volume.readlink(link, &mut buffer[..3]), Ok(10));
    assert_eq!(volume.readlink(ROOT_INODE, &mut buffer), Err(Error::Invalid));
    assert_eq!(volume.symlink(ROOT_INODE, b"x", b"", ATTRIBUTES), Err(Error::Invalid));
    assert_eq!(volume.symlink(ROOT_INODE, b"x", &[b'x'; 1024], ATTRIBUTES), Err(Error::NameTooLong));
    volume.symlink(ROOT_INODE, b"x", &[b'x'; 1023], ATTRIBUTES).unwrap();
    fsck(volume.into_store().bytes());
}

#[test]
fn directories_count_their_links() {
    let mut volume = fresh(400, None);
    let a = volume.mkdir(ROOT_INODE, b"a", DIRECTORY).unwrap();
    let b = volume.mkdir(a, b"b", DIRECTORY).unwrap();
    assert_eq!(volume.inode(ROOT_INODE).unwrap().links, 3);
    assert_eq!(volume.inode(a).unwrap().links, 3);
    assert_eq!(volume.lookup(b, b".."), Ok(a));
    assert_eq!(volume.rmdir(ROOT_INODE, b"a"), Err(Error::NotEmpty));
    assert_eq!(volume.unlink(ROOT_INODE, b"a"), Err(Error::IsDirectory));
    assert_eq!(volume.rmdir(a, b"."), Err(Error::Invalid));
    assert_eq!(volume.rmdir(a, b".."), Err(Error::NotEmpty));
    let removed = volume.rmdir(a, b"b").unwrap();
    assert_eq!(removed.links, 0);
    assert_eq!(
        volume.create(b, b"late", ATTRIBUTES),
        Err(Error::NotFound),
        "nothing new in a removed directory"
    );
    volume.reclaim(removed.inode).unwrap();
    assert_eq!(volume.inode(a).unwrap().links, 2);
    assert_eq!(volume.link(a, ROOT_INODE, b"again"), Err(Error::IsDirectory));
    fsck(volume.into_store().bytes());
}

#[test]
fn an_open_file_outlives_its_name() {
    let mut volume = fresh(400, None);
    let file = volume.create(ROOT_INODE, b"f", ATTRIBUTES).unwrap();
    write(&mut volume, file, 0, b"still here").unwrap();
    assert_eq!(volume.reclaim(file), Err(Error::Invalid), "it has a name");
    let removed = volume.unlink(ROOT_INODE, b"f").unwrap();
    assert_eq!((removed.inode, removed.links), (file, 0));
    assert_eq!(read(&mut volume, file).unwrap(), b"still here");
    volume.reclaim(file).unwrap();
    assert!(matches!(volume.inode(file), Err(Error::Corrupt(_))));
    fsck(volume.into_store().bytes());
}

#[test]
fn directories_move_and_never_below_themselves() {
    let mut volume = fresh(400, None);
    let a = volume.mkdir(ROOT_INODE, b"a", DIRECTORY).unwrap();
    let b = volume.mkdir(a, b"b", DIRECTORY).unwrap();
    let c = volume.mkdir(b, b"c", DIRECTORY).unwrap();
    assert_eq!(volume.rename(ROOT_INODE, b"a", c, b"a"), Err(Error::Invalid));
    assert_eq!(volume.rename(ROOT_INODE, b"a", a, b"a"), Err(Error::Invalid));
    assert_eq!(volume.rename(b, b"c", ROOT_INODE, b"c"), Ok(None));
    assert_eq!(volume.lookup(c, b".."), Ok(ROOT_INODE));
    assert_eq!(volume.inode(b).unwrap().links, 2);
    let d = volume.mkdir(ROOT_INODE, b"d", DIRECTORY).unwrap();
    let removed = volume.rename(ROOT_INODE, b"c", ROOT_INODE, b"d").unwrap().expect("replaced");
    assert_eq!(removed.inode, d);
    volume.reclaim(d).unwrap();
    let file = volume.create(ROOT_INODE, b"file", ATTRIBUTES).unwrap();
    assert_eq!(volume.rename(ROOT_INODE, b"file", ROOT_INODE, b"d"), Err(Error::IsDirectory));
    assert_eq!(volume.rename(ROOT_INODE, b"d", ROOT_INODE, b"file"), Err(Error::NotDirectory));
    volume.link(file, ROOT_INODE, b"hard").unwrap();
    assert_eq!(
        volume.rename(ROOT_INODE, b"file", ROOT_INODE, b"hard"),
        Ok(None),
        "the same file: nothing happens"
    );
    let mut names: Vec<_> =
        list(&mut volume, ROOT_INODE).unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, [&b"a"[..], b"d", b"file", b"hard"]);
    fsck(volume.into_store().bytes());
}

#[test]
fn a_read_only_volume_stays_as_it_is() {
    let bytes = fresh(100, None).into_store().into_bytes();
    let superblock = Superblock::parse(&bytes[1024..], bytes.len() as u64).unwrap();
    let mut volume =
        Volume::mount(MemoryStore::new(bytes.clone(), 1024), superblock, Access::ReadOnly).unwrap();
    assert_eq!(volume.create(ROOT_INODE, b"f", ATTRIBUTES), Err(Error::ReadOnly));
    assert_eq!(volume.unlink(ROOT_INODE, b"f").err(), Some(Error::ReadOnly));
    assert_eq!(volume.truncate(ROOT_INODE, 0), Err(Error::ReadOnly));
    assert_eq!(volume.rename(ROOT_INODE, b"f", ROOT_INODE, b"g").err(), Some(Error::ReadOnly));
    assert_eq!(volume.inode(ROOT_INODE).unwrap().kind, FileKind::Directory);
    assert_eq!(volume.into_store().bytes(), bytes);
}

#[test]
fn larger_blocks_are_read() {
    // No tool here makes these, so the image is built by hand: the library's own layout with 4096-byte blocks.
    let block = 4096usize;
    let mut image = vec![0u8; 64 * block];
    image[1024..1028].copy_from_slice(&64u32.to_le_bytes());
    image[1030..1032].copy_from_slice(&1u16.to_le_bytes());
    image[1032..1034].copy_from_slice(&1u16.to_le_bytes());
    image[1034..1036].copy_from_slice(&5u16.to_le_bytes());
    image[1040..1044].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    image[1044..1048].copy_from_slice(&64u32.to_le_bytes());
    image[1048..1050].copy_from_slice(&0x4d5au16.to_le_bytes());
    image[1052..1054].copy_from_slice(&4096u16.to_le_bytes());
    image[2 * block] = 3;
    image[3 * block] = 3;
    let inode = 4 * block;
    image[inode..inode + 2].copy_from_slice(&0o040_755u16.to_le_bytes());
    image[inode + 2] = 2;
    image[inode + 8] = 128;
    image[inode + 24] = 5;
    image[5 * block] = 1;
    image[5 * block + 4] = b'.';
    image[5 * block + 64] = 1;
    image[5 * block + 68..5 * block + 70].copy_from_slice(b"..");
    let mut volume = mount(image);
    let file = volume.create(ROOT_INODE, b"f", ATTRIBUTES).unwrap();
    write(&mut volume, file, 0, &[9; 4096 * 9]).unwrap();
    // With 1024 numbers in an indirect block, single indirection ends at block 1030.
    write(&mut volume, file, 1031 * 4096, b"double").unwrap();
    let data = read(&mut volume, file).unwrap();
    assert_eq!(data.len(), 1031 * 4096 + 6);
    assert!(data[..4096 * 9].iter().all(|&byte| byte == 9) && data.ends_with(b"double"));
}
