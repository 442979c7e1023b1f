//! What an image is going to hold: a tree of names, read from a directory or described in memory.
//!
//! Everything that can be refused is refused here, before anything is written. The contents of files stay where they
//! are until the image is written.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use refault_minixfs::{MAX_FILE_SIZE, NAME_MAX};

use super::error::{MkfsError, during};

/// Most bytes of a symbolic link's target: less than a block.
const TARGET_MAX: usize = 1023;
/// Most names in a directory: its size in 64-byte entries has to stay below the largest size, `.` and `..` included.
const ENTRIES_MAX: usize = MAX_FILE_SIZE as usize / 64 - 2;

/// One name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name, 1 to 60 bytes; empty for the root.
    pub name: Vec<u8>,
    /// Permission, set-id and sticky bits.
    pub permissions: u16,
    /// Last modification, in seconds since 1970.
    pub modified: u32,
    /// Where it came from, for messages.
    pub origin: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory and its names.
    Directory(Vec<Node>),
    /// A regular file of this many bytes.
    File(Contents, u64),
    /// A symbolic link and its target.
    Link(Vec<u8>),
}

/// Where a file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// The file at [`Node::origin`].
    Origin,
    /// These.
    Bytes(Vec<u8>),
    /// `refault_abi::pattern` of this file id.
    Pattern(u32),
}

/// The date of everything made in memory: 2026-01-01, so that the same tree makes the same image.
const FIXED_DATE: u32 = 1_767_225_600;

impl Node {
    /// A directory.
    #[must_use]
    pub fn directory(name: &str, entries: Vec<Node>) -> Self {
        Node::made(name, 0o755, Kind::Directory(entries))
    }

    /// A file with these bytes.
    #[must_use]
    pub fn file(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        Node::made(name, 0o644, Kind::File(Contents::Bytes(bytes), length))
    }

    /// A file of `length` bytes, each of which says where it belongs.
    #[must_use]
    pub fn pattern(name: &str, id: u32, length: u64) -> Self {
        Node::made(name, 0o644, Kind::File(Contents::Pattern(id), length))
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(name: &str, target: &str) -> Self {
        Node::made(name, 0o777, Kind::Link(target.as_bytes().to_vec()))
    }

    fn made(name: &str, permissions: u16, kind: Kind) -> Self {
        let name = name.as_bytes().to_vec();
        let origin = PathBuf::from(std::ffi::OsString::from_vec(name.clone()));
        Node { name, permissions, modified: FIXED_DATE, origin, kind }
    }
}

/// Reads the tree below `directory`. Its own name does not count: it becomes the root.
pub(super) fn scan(directory: &Path) -> Result<Node, MkfsError> {
    let metadata = fs::metadata(directory).map_err(during("look at", directory))?;
    if !metadata.is_dir() {
        return Err(MkfsError::NotADirectory { path: directory.into() });
    }
    scan_directory(directory, Vec::new(), &metadata)
}

/// The recursion is as deep as the tree, which the system's longest path bounds.
fn scan_directory(path: &Path, name: Vec<u8>, metadata: &fs::Metadata) -> Result<Node, MkfsError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(during("read the directory", path))? {
        let entry = entry.map_err(during("read the directory", path))?;
        entries.push(scan_entry(&entry.path(), entry.file_name().into_vec())?);
    }
    if entries.len() > ENTRIES_MAX {
        return Err(MkfsError::DirectoryTooLarge { path: path.into(), entries: entries.len() });
    }
    // In the order of names, so that the same directory makes the same image.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(node(path, name, metadata, Kind::Directory(entries)))
}

fn scan_entry(path: &Path, name: Vec<u8>) -> Result<Node, MkfsError> {
    if name.len() > NAME_MAX {
        return Err(MkfsError::NameTooLong { path: path.into(), length: name.len() });
    }
    let metadata = fs::symlink_metadata(path).map_err(during("look at", path))?;
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        return scan_directory(path, name, &metadata);
    } else if file_type.is_file() {
        if metadata.len() > MAX_FILE_SIZE.into() {
            return Err(MkfsError::FileTooLarge { path: path.into(), bytes: metadata.len() });
        }
        Kind::File(Contents::Origin, metadata.len())
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).map_err(during("read the symbolic link", path))?;
        let target = target.as_os_str().as_bytes().to_vec();
        if target.len() > TARGET_MAX {
            return Err(MkfsError::TargetTooLong { path: path.into(), length: target.len() });
        }
        Kind::Link(target)
    } else {
        let kind = if file_type.is_block_device() {
            "a block device"
        } else if file_type.is_char_device() {
            "a character device"
        } else if file_type.is_fifo() {
            "a named pipe"
        } else if file_type.is_socket() {
            "a socket"
        } else {
            "of an unknown kind"
        };
        return Err(MkfsError::Unsupported { path: path.into(), kind });
    };
    Ok(node(path, name, &metadata, kind))
}

fn node(path: &Path, name: Vec<u8>, metadata: &fs::Metadata, kind: Kind) -> Node {
    let permissions = (metadata.mode() & 0o7777) as u16;
    // Dates outside of what the format can say become the nearest it can.
    let modified = metadata.mtime().clamp(0, u32::MAX.into()) as u32;
    Node { name, permissions, modified, origin: path.into(), kind }
}
