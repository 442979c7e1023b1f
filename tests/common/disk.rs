//! Disk images: made, damaged, read back, and judged by the host's own checker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use refault_minixfs::{Access, Attributes, BlockStore as _, MemoryStore, ROOT_INODE, Superblock, Volume};
use tempfile::TempDir;

use super::command::{Said, run};
use super::tool;

/// Bytes in a block of the images made here.
pub const BLOCK: usize = 1024;
/// Bytes in an inode.
const INODE: usize = 64;
/// Where the superblock begins.
pub const SUPERBLOCK: usize = 1024;

/// The demo disk, the same to the byte each time.
static DEMO: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("demo.img");
    refault::mkfs::make_demo_image(&path, false).unwrap();
    std::fs::read(path).unwrap()
});

/// An image in a directory of its own.
pub struct Image {
    directory: TempDir,
    path: PathBuf,
    before: Vec<u8>,
}

impl Image {
    /// An image of these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        std::fs::write(&path, &bytes).unwrap();
        Self { directory, path, before: bytes }
    }

    /// The demo disk.
    pub fn demo() -> Self {
        Self::of(DEMO.clone())
    }

    /// The demo disk with room: an image of the demo's files, `size` bytes large.
    pub fn demo_of_size(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        refault::mkfs::make_image_of(&path, &refault::mkfs::demo_tree(), Some(size), false).unwrap();
        let before = std::fs::read(&path).unwrap();
        Self { directory, path, before }
    }

    /// The demo disk after `damage`.
    pub fn damaged(damage: impl FnOnce(&mut Damage)) -> Self {
        let mut bytes = Damage(DEMO.clone());
        damage(&mut bytes);
        Self::of(bytes.0)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, which holds nothing else.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its bytes now.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// It must be what it was, to the byte.
    pub fn assert_unchanged(&self) {
        let now = self.bytes();
        let changed = now.iter().zip(&self.before).position(|(now, before)| now != before);
        assert_eq!(now.len(), self.before.len(), "the image has another size");
        assert_eq!(changed, None, "the image has changed at this byte");
    }

    /// The contents of a file, read by the host.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        read(self.bytes(), path)
    }

    /// Adds a file to its root, by the host.
    pub fn add(&self, path: &str, contents: &[u8]) {
        let bytes = self.bytes();
        let superblock = Superblock::parse(&bytes[SUPERBLOCK..], bytes.len() as u64).unwrap();
        let size = superblock.block_size();
        let mut volume = Volume::mount(MemoryStore::new(bytes, size), superblock, Access::ReadWrite).unwrap();
        let attributes = Attributes { permissions: 0o644, uid: 0, gid: 0 };
        let name = path.trim_start_matches('/').as_bytes();
        let inode = volume.create(ROOT_INODE, name, attributes).unwrap();
        for (index, piece) in (0..).zip(contents.chunks(size as usize)) {
            let mapping = volume.map_for_write(inode, index).unwrap();
            volume.store_mut().block_zeroed(mapping.zone).unwrap()[..piece.len()].copy_from_slice(piece);
        }
        volume.grow_to(inode, contents.len() as u64).unwrap();
        volume.flush().unwrap();
        std::fs::write(&self.path, volume.into_store().into_bytes()).unwrap();
    }

    /// What the host's checker says, where it is installed; it must find nothing.
    pub fn assert_sound(&self) {
        let Some(said) = self.checked() else { return };
        assert_eq!(said.code, Some(0), "fsck.minix: {}", said.all());
    }

    /// The run of the host's checker.
    fn checked(&self) -> Option<Said> {
        let mut command = Command::new(tool("fsck.minix")?);
        command.arg("-f").arg(&self.path);
        Some(run(command, b""))
    }
}

/// The contents of the file `path` in an image; none if there is no such file.
pub fn read(bytes: Vec<u8>, path: &str) -> Option<Vec<u8>> {
    let superblock = Superblock::parse(bytes.get(SUPERBLOCK..)?, bytes.len() as u64).unwrap();
    let size = superblock.block_size() as usize;
    let mut volume =
        Volume::mount(MemoryStore::new(bytes, size as u32), superblock, Access::ReadOnly).unwrap();
    let names = path.split('/').filter(|name| !name.is_empty());
    let inode =
        names.into_iter().try_fold(ROOT_INODE, |inode, name| volume.lookup(inode, name.as_bytes()).ok())?;
    let length = volume.inode(inode).unwrap().size as usize;
    let mut data = Vec::with_capacity(length);
    for block in 0..length.div_ceil(size) {
        match volume.map(inode, block as u32).unwrap() {
            Some(zone) => data.extend_from_slice(volume.store_mut().block(zone).unwrap()),
            None => data.resize(data.len() + size, 0),
        }
    }
    data.truncate(length);
    Some(data)
}

/// An image being damaged on purpose.
pub struct Damage(pub Vec<u8>);

impl Damage {
    /// Stores a 16-bit field.
    pub fn put16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// Stores a 32-bit field.
    pub fn put32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// A 32-bit field.
    pub fn get32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn get16(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[at], self.0[at + 1]]))
    }

    /// Where the inode of `path` is in the image.
    pub fn inode(&self, path: &str) -> usize {
        let superblock = Superblock::parse(&self.0[SUPERBLOCK..], self.0.len() as u64).unwrap();
        let store = MemoryStore::new(self.0.clone(), BLOCK as u32);
        let mut volume = Volume::mount(store, superblock, Access::ReadOnly).unwrap();
        let names = path.split('/').filter(|name| !name.is_empty());
        let number = names.fold(ROOT_INODE, |inode, name| volume.lookup(inode, name.as_bytes()).unwrap());
        let maps = self.get16(SUPERBLOCK + 6) + self.get16(SUPERBLOCK + 8);
        (2 + maps) * BLOCK + (number as usize - 1) * INODE
    }

    /// Where the `index`-th zone number of `path` is: 0 to 6 direct, 7 indirect, 8 double indirect.
    pub fn zone_field(&self, path: &str, index: usize) -> usize {
        self.inode(path) + 24 + index * 4
    }

    /// Where the contents of the block behind that zone number begin.
    pub fn zone(&self, path: &str, index: usize) -> usize {
        let zone = self.get32(self.zone_field(path, index)) as usize;
        assert!(zone != 0, "{path} has no zone {index}");
        zone * BLOCK
    }
}
