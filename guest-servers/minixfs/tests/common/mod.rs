//! What the tests share: an image in memory, file data moved through the mapping, and the host's own checker.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use refault_minixfs::{
    Access, Attributes, BlockStore as _, InodeNumber, MemoryStore, Result, Volume, format,
};

/// A volume in memory.
pub type Memory = Volume<MemoryStore>;

/// Ordinary attributes for a new file.
pub const ATTRIBUTES: Attributes = Attributes { permissions: 0o644, uid: 0, gid: 0 };
/// Ordinary attributes for a new directory.
pub const DIRECTORY: Attributes = Attributes { permissions: 0o755, uid: 0, gid: 0 };

/// An empty volume of `blocks` blocks, made by this crate.
pub fn fresh(blocks: u32, inodes: Option<u32>) -> Memory {
    let shape = format::shape(blocks, inodes).unwrap();
    let mut store = MemoryStore::new(vec![0; blocks as usize * 1024], 1024);
    format::write_empty(&mut store, &shape, 0o755, 1_000_000_000).unwrap();
    mount(store.into_bytes())
}

/// Mounts an image.
pub fn mount(bytes: Vec<u8>) -> Memory {
    let superblock = refault_minixfs::Superblock::parse(&bytes[1024..], bytes.len() as u64).unwrap();
    let mut volume =
        Volume::mount(MemoryStore::new(bytes, superblock.block_size()), superblock, Access::ReadWrite)
            .unwrap();
    volume.set_time(1_000_000_001);
    volume
}

/// Writes file data the way a user of the crate has to: map, zero what is fresh, store, then move the end.
pub fn write(volume: &mut Memory, inode: InodeNumber, offset: u64, data: &[u8]) -> Result<()> {
    let size = u64::from(volume.superblock().block_size());
    let old = u64::from(volume.inode(inode)?.size);
    if offset > old {
        // Old bytes behind the end, in the block the end is in, become part of the hole.
        zero_tail(volume, inode, old)?;
    }
    let mut done = 0;
    while done < data.len() {
        let position = offset + done as u64;
        let mapping = volume.map_for_write(inode, (position / size) as u32)?;
        let within = (position % size) as usize;
        let count = (data.len() - done).min(size as usize - within);
        let store = volume.store_mut();
        let block =
            if mapping.fresh { store.block_zeroed(mapping.zone)? } else { store.block_mut(mapping.zone)? };
        block[within..within + count].copy_from_slice(&data[done..done + count]);
        done += count;
        volume.grow_to(inode, position + count as u64)?;
    }
    Ok(())
}

/// Sets the size, zeroing the tail of the last block that stays.
pub fn truncate(volume: &mut Memory, inode: InodeNumber, size: u64) -> Result<()> {
    let old = u64::from(volume.inode(inode)?.size);
    volume.truncate(inode, size)?;
    zero_tail(volume, inode, size.min(old))
}

fn zero_tail(volume: &mut Memory, inode: InodeNumber, end: u64) -> Result<()> {
    let size = u64::from(volume.superblock().block_size());
    if let Some(zone) = volume.map(inode, (end / size) as u32)? {
        volume.store_mut().block_mut(zone)?[(end % size) as usize..].fill(0);
    }
    Ok(())
}

/// Reads a whole file.
pub fn read(volume: &mut Memory, inode: InodeNumber) -> Result<Vec<u8>> {
    let size = volume.superblock().block_size() as usize;
    let length = volume.inode(inode)?.size as usize;
    let mut data = Vec::with_capacity(length);
    for block in 0..length.div_ceil(size) {
        match volume.map(inode, block as u32)? {
            Some(zone) => data.extend_from_slice(volume.store_mut().block(zone)?),
            None => data.resize(data.len() + size, 0),
        }
    }
    data.truncate(length);
    Ok(data)
}

/// The names of a directory, without `.` and `..`.
pub fn list(volume: &mut Memory, directory: InodeNumber) -> Result<Vec<(Vec<u8>, InodeNumber)>> {
    let mut names = Vec::new();
    let mut position = 0;
    while let Some(entry) = volume.next_entry(directory, position)? {
        position = entry.next;
        if !matches!(entry.name(), b"." | b"..") {
            names.push((entry.name().to_vec(), entry.inode));
        }
    }
    Ok(names)
}

/// Finds a program of the file system tools, which some distributions keep out of the ordinary search path.
pub fn tool(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places =
        std::env::split_paths(&path).chain([Path::new("/usr/sbin").into(), Path::new("/sbin").into()]);
    let found = places.map(|place| place.join(name)).find(|place| place.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed, so nothing outside of this crate judged the image");
    }
    found
}

/// Has the host's checker look at an image; it must find nothing.
pub fn fsck(bytes: &[u8]) {
    let Some(program) = tool("fsck.minix") else { return };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let output = Command::new(program).arg("-f").arg(file.path()).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let complains =
        said.lines().any(|line| !line.trim().is_empty() && !line.starts_with("Forcing filesystem check"));
    assert!(output.status.success() && !complains, "fsck.minix ({}) says:\n{said}", output.status);
}
