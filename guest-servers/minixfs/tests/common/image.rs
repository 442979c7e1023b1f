//! An image with something of everything in it, and its fields by their places in the bytes, so that tests can spoil them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use refault_minixfs::ROOT_INODE;

use super::common::{ATTRIBUTES, DIRECTORY, fresh, write};

/// The file that uses double indirection.
pub const FILE: u32 = 2;
/// The directory, with a file in it.
pub const DIR: u32 = 3;
/// The symbolic link.
pub const LINK: u32 = 5;
/// Where the inode table begins.
pub const TABLE: usize = 4 * 1024;

/// An image with a file that uses double indirection, a directory with a file in it, and a symbolic link.
pub fn image() -> Vec<u8> {
    let mut volume = fresh(2048, Some(64));
    let file = volume.create(ROOT_INODE, b"file", ATTRIBUTES).unwrap();
    write(&mut volume, file, 0, &vec![1; 300 * 1024]).unwrap();
    let directory = volume.mkdir(ROOT_INODE, b"dir", DIRECTORY).unwrap();
    let inner = volume.create(directory, b"inner", ATTRIBUTES).unwrap();
    write(&mut volume, inner, 0, b"inside").unwrap();
    volume.symlink(ROOT_INODE, b"link", b"dir/inner", ATTRIBUTES).unwrap();
    assert_eq!((file, directory), (FILE, DIR));
    volume.into_store().into_bytes()
}

/// Where an inode begins.
pub fn inode_at(number: u32) -> usize {
    TABLE + (number as usize - 1) * 64
}

/// Where a zone slot of an inode is.
pub fn slot(number: u32, index: usize) -> usize {
    inode_at(number) + 24 + index * 4
}

/// Stores a number.
pub fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The number at a place.
pub fn get(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
}
