//! The disks of tests: what they hold at the start, and whether they are sound at the end.
//!
//! The one thing to hold in mind: guest programs and host must agree on these contents; the programs' half is in
//! `guest-servers/apps`. An image is made once for each run of the command and copied for each machine.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use refault_abi::pattern;
use refault_minixfs::{
    Access, Attributes, BlockStore as _, FileKind, InodeNumber, MemoryStore, ROOT_INODE, Superblock, Volume,
};

use super::DiskKind;
use crate::mkfs::{self, Node};

/// Bytes of the standard disk.
pub const STANDARD_BYTES: u64 = 8 << 20;
/// Bytes of the second disk.
pub const SECOND_BYTES: u64 = 2 << 20;
/// Bytes of `/a.bin` and of `/b.bin`: beyond the seven direct zones, within the single indirect block.
pub const PATTERN_BYTES: u64 = 256 << 10;
/// Pattern of `/odd.bin`, whose last page is partly used.
pub const FILE_ODD: u32 = 3;
/// Bytes of `/odd.bin`.
pub const ODD_BYTES: u64 = (100 << 10) + 333;
/// Pattern of the parts of `/hole.bin` that are there.
pub const FILE_HOLE: u32 = 4;
/// Bytes of `/hole.bin`.
pub const HOLE_BYTES: u64 = 128 << 10;
/// What of `/hole.bin` is there.
pub const HOLE_PARTS: [(u64, u64); 3] = [(0, 4096), (65_536, 69_632), (HOLE_BYTES - 1000, HOLE_BYTES)];
/// Pattern of the second disk's `/c.bin`.
pub const FILE_C: u32 = 5;
/// Bytes of `/c.bin`.
pub const C_BYTES: u64 = 64 << 10;
/// Files in `/dir`.
pub const DIR_ENTRIES: usize = 40;

/// Where the superblock begins.
const SUPERBLOCK: usize = 1024;
/// Bytes of the largest file that is compared: far more than any test writes. A damaged inode may claim 4 GiB of holes.
const CONTENTS_LIMIT: usize = 64 << 20;
/// Directories deep and names wide that a walk follows before it calls an image damaged.
const WALK_LIMIT: usize = 1 << 20;

/// The standard disk's tree, without `/hole.bin`.
fn standard_tree() -> Node {
    let many = (0..DIR_ENTRIES).map(|n| Node::file(&format!("e{n:02}"), format!("e{n:02}"))).collect();
    let deep = Node::directory("sub", vec![Node::file("deep.txt", "Three directories down.\n")]);
    Node::directory(
        "",
        vec![
            Node::file("hello.txt", "Hello from a MINIX file system.\n"),
            Node::file("empty", ""),
            Node::link("greeting", "hello.txt"),
            Node::link("link", "/dir/e07"),
            Node::pattern("a.bin", pattern::FILE_A, PATTERN_BYTES),
            Node::pattern("b.bin", pattern::FILE_B, PATTERN_BYTES),
            Node::pattern("odd.bin", FILE_ODD, ODD_BYTES),
            Node::directory("etc", vec![Node::file("motd", "A disk for tests.\n")]),
            Node::directory("d", vec![deep]),
            Node::directory("dir", many),
        ],
    )
}

fn second_tree() -> Node {
    let text = "The second disk.\n";
    Node::directory("", vec![Node::file("second.txt", text), Node::pattern("c.bin", FILE_C, C_BYTES)])
}

/// Makes an image of this kind.
///
/// # Errors
/// A temporary file could not be written, or the tree does not fit: a mistake in this file.
pub fn image(kind: DiskKind) -> io::Result<Vec<u8>> {
    let (tree, bytes) = match kind {
        DiskKind::Standard => (standard_tree(), STANDARD_BYTES),
        DiskKind::Second => (second_tree(), SECOND_BYTES),
    };
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("disk.img");
    mkfs::make_image_of(&path, &tree, Some(bytes), false).map_err(io::Error::other)?;
    let image = std::fs::read(&path)?;
    match kind {
        DiskKind::Standard => add_hole(image).map_err(io::Error::other),
        DiskKind::Second => Ok(image),
    }
}

/// Adds `/hole.bin`.
fn add_hole(image: Vec<u8>) -> Result<Vec<u8>, String> {
    let why = |error: refault_minixfs::Error| format!("the file with holes: {error:?}");
    let mut volume = mount(image, Access::ReadWrite)?;
    let size = volume.superblock().block_size();
    let attributes = Attributes { permissions: 0o644, uid: 0, gid: 0 };
    let inode = volume.create(ROOT_INODE, b"hole.bin", attributes).map_err(why)?;
    for (start, end) in HOLE_PARTS {
        let first = start / u64::from(size);
        for block in first..end.div_ceil(u64::from(size)) {
            let mapping = volume.map_for_write(inode, block as u32).map_err(why)?;
            let at = block * u64::from(size);
            let bytes = volume
                .store_mut()
                .block_zeroed(mapping.zone)
                .map_err(|error| format!("a block: {error:?}"))?;
            for (offset, byte) in (at..).zip(bytes.iter_mut()) {
                if (start..end).contains(&offset) {
                    *byte = pattern::pattern_byte(FILE_HOLE, offset);
                }
            }
        }
    }
    volume.grow_to(inode, HOLE_BYTES).map_err(why)?;
    volume.flush().map_err(why)?;
    Ok(volume.into_store().into_bytes())
}

fn mount(image: Vec<u8>, access: Access) -> Result<Volume<MemoryStore>, String> {
    let bytes = image.len() as u64;
    let superblock = image
        .get(SUPERBLOCK..)
        .ok_or_else(|| "the image is too short for a superblock".to_owned())
        .and_then(|from| Superblock::parse(from, bytes).map_err(|why| format!("the superblock: {why:?}")))?;
    let size = superblock.block_size();
    Volume::mount(MemoryStore::new(image, size), superblock, access).map_err(|why| format!("{why:?}"))
}

/// An image as the host reads it.
pub struct Reader(Volume<MemoryStore>);

impl Reader {
    /// Reads the image at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is no file system any more.
    pub fn open(path: &Path) -> Result<Self, String> {
        Self::of(std::fs::read(path).map_err(|why| why.to_string())?)
    }

    /// Reads an image that is in memory.
    ///
    /// # Errors
    /// It is no file system any more.
    pub fn of(image: Vec<u8>) -> Result<Self, String> {
        mount(image, Access::ReadOnly).map(Self)
    }

    /// The file system in it.
    pub fn volume(&mut self) -> &mut Volume<MemoryStore> {
        &mut self.0
    }

    /// The contents of a regular file.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn file(&mut self, path: &str) -> Result<Vec<u8>, String> {
        let why = |error| format!("{path}: {error:?}");
        let mut inode = ROOT_INODE;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            inode = self.0.lookup(inode, name.as_bytes()).map_err(why)?;
        }
        self.contents(inode).map_err(|why| format!("{path}: {why}"))
    }

    /// The contents of a file or symbolic link.
    ///
    /// # Errors
    /// It cannot be read, or claims to be larger than anything that a test writes.
    pub fn contents(&mut self, inode: InodeNumber) -> Result<Vec<u8>, String> {
        let size = self.0.inode(inode).map_err(|why| format!("{why:?}"))?.size;
        if size as usize > CONTENTS_LIMIT {
            return Err(format!("{size} bytes are more than any test writes"));
        }
        self.blocks(inode).map_err(|why| format!("{why:?}"))
    }

    fn blocks(&mut self, inode: InodeNumber) -> refault_minixfs::Result<Vec<u8>> {
        let block = self.0.superblock().block_size() as usize;
        let length = self.0.inode(inode)?.size as usize;
        let mut data = Vec::new();
        for index in 0..length.div_ceil(block) {
            match self.0.map(inode, index as u32)? {
                Some(zone) => data.extend_from_slice(self.0.store_mut().block(zone)?),
                None => data.resize(data.len() + block, 0),
            }
        }
        data.truncate(length);
        Ok(data)
    }

    /// Walks all of it: every name leads to an inode, every block can be read, and none belongs to two files.
    ///
    /// # Errors
    /// What is damaged.
    pub fn walk(&mut self) -> Result<(), String> {
        let mut seen = HashSet::new();
        let mut zones = HashSet::new();
        let mut left = vec![(ROOT_INODE, "/".to_owned())];
        while let Some((inode, path)) = left.pop() {
            if !seen.insert(inode) {
                continue;
            }
            if seen.len() > WALK_LIMIT {
                return Err("it has more files than an image of this size can".into());
            }
            self.walk_one(inode, &path, &mut zones, &mut left).map_err(|why| format!("{path}: {why}"))?;
        }
        Ok(())
    }

    fn walk_one(
        &mut self,
        inode: InodeNumber,
        path: &str,
        zones: &mut HashSet<u32>,
        left: &mut Vec<(InodeNumber, String)>,
    ) -> Result<(), String> {
        let why = |error: refault_minixfs::Error| format!("{error:?}");
        let block = self.0.superblock().block_size() as usize;
        let found = self.0.inode(inode).map_err(why)?;
        let kind = FileKind::from_mode(found.mode()).ok_or("an inode of no known kind")?;
        if !matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::SymbolicLink) {
            return Ok(());
        }
        for index in 0..(found.size as usize).div_ceil(block) {
            if let Some(zone) = self.0.map(inode, index as u32).map_err(why)? {
                if !zones.insert(zone) {
                    return Err(format!("block {zone} belongs to another file too"));
                }
                self.0.store_mut().block(zone).map_err(|error| format!("{error:?}"))?;
            }
        }
        if kind != FileKind::Directory {
            return Ok(());
        }
        let mut position = 0;
        while let Some(entry) = self.0.next_entry(inode, position).map_err(why)? {
            position = entry.next;
            if !matches!(entry.name(), b"." | b"..") {
                let name = String::from_utf8_lossy(entry.name());
                left.push((entry.inode, format!("{}/{name}", path.trim_end_matches('/'))));
            }
        }
        Ok(())
    }
}

/// Runs the host's own checker, if it is installed.
fn checker(argument: &std::ffi::OsStr, image: Option<&Path>) -> Option<std::process::Output> {
    let run = |program: &str| Command::new(program).arg(argument).args(image).stdin(Stdio::null()).output();
    // Not every user has /sbin in the search path.
    let output =
        run("fsck.minix").or_else(|_| run("/usr/sbin/fsck.minix")).or_else(|_| run("/sbin/fsck.minix"));
    output.ok()
}

/// Whether [`fsck`] can say anything here. Where it cannot, a walk finds less: it does not look at the maps of what is free.
pub fn has_fsck() -> bool {
    checker("--version".as_ref(), None).is_some()
}

/// What the host's own checker says of an image: `None` where it is not installed.
pub fn fsck(path: &Path) -> Option<Result<(), String>> {
    let output = checker("-f".as_ref(), Some(path))?;
    Some(match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            Err(text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
        }
    })
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
