//! What can go wrong, with enough said that a person can find the place on the disk.
//!
//! Two families are kept apart: what the *caller* asked for cannot be done (no such name, directory not empty), and
//! what the *disk* says cannot be true ([`Error::Corrupt`]) or could not be had ([`Error::Io`]). A server answers
//! EIO for the second family and nothing else for it, so that corruption is never taken for a missing file.

use core::fmt;

use crate::inode::InodeNumber;
use crate::store::IoError;

/// The result of every operation on a volume.
pub type Result<T> = core::result::Result<T, Error>;

/// Why an operation on a volume failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The device did not deliver or take a block.
    Io(IoError),
    /// A structure on the disk contradicts itself or the superblock.
    Corrupt(Corruption),
    /// No such name in the directory.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// A directory was given where none is allowed.
    IsDirectory,
    /// The directory still holds names other than `.` and `..`.
    NotEmpty,
    /// The operation makes no sense for this object or name (`.` as a new name, a directory moved into itself).
    Invalid,
    /// Longer than a directory entry, or a symbolic link, can hold.
    NameTooLong,
    /// No free zone is left.
    NoSpace,
    /// No free inode is left.
    NoInodes,
    /// The link count would not fit its field.
    TooManyLinks,
    /// The offset or size is beyond what the format, or this file system, allows.
    FileTooLarge,
    /// The volume was mounted read-only.
    ReadOnly,
}

/// A structure on the disk that cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corruption {
    /// What is wrong, as a phrase that fits after "corrupt file system: ".
    pub what: &'static str,
    /// Where it was found.
    pub location: Location,
    /// The offending number as read from the disk.
    pub value: u64,
}

/// A place on the disk, in the file system's own terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In this inode.
    Inode(InodeNumber),
    /// In the contents of this block.
    Block(u32),
    /// In a directory: its inode, and the byte offset of the entry.
    Directory {
        /// The directory's inode.
        inode: InodeNumber,
        /// Byte offset of the entry in the directory.
        offset: u32,
    },
    /// In the bitmap of inodes, at this inode.
    InodeMap(InodeNumber),
    /// In the bitmap of zones, at this zone.
    ZoneMap(u32),
}

impl Error {
    /// A corruption, built where it is found.
    pub(crate) fn corrupt(what: &'static str, location: Location, value: impl Into<u64>) -> Self {
        Error::Corrupt(Corruption { what, location, value: value.into() })
    }
}

impl From<IoError> for Error {
    fn from(error: IoError) -> Self {
        Error::Io(error)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Inode(inode) => write!(f, "inode {inode}"),
            Location::Block(block) => write!(f, "block {block}"),
            Location::Directory { inode, offset } => write!(f, "directory inode {inode}, byte {offset}"),
            Location::InodeMap(inode) => write!(f, "inode bitmap, inode {inode}"),
            Location::ZoneMap(zone) => write!(f, "zone bitmap, zone {zone}"),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) at {}", self.what, self.value, self.location)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Io(error) => return write!(f, "{error}"),
            Error::Corrupt(corruption) => return write!(f, "corrupt file system: {corruption}"),
            Error::NotFound => "no such file or directory",
            Error::Exists => "name exists already",
            Error::NotDirectory => "not a directory",
            Error::IsDirectory => "is a directory",
            Error::NotEmpty => "directory not empty",
            Error::Invalid => "not possible for this object",
            Error::NameTooLong => "name too long",
            Error::NoSpace => "no space left in the file system",
            Error::NoInodes => "no inode left in the file system",
            Error::TooManyLinks => "too many links",
            Error::FileTooLarge => "file too large",
            Error::ReadOnly => "read-only file system",
        };
        f.write_str(text)
    }
}

impl core::error::Error for Error {}
