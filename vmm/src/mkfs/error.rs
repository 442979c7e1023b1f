//! Why no image was made: what, where, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use refault_minixfs::NAME_MAX;

/// Why no image was made. Nothing has changed on the disk when one of these is returned.
#[derive(Debug, thiserror::Error)]
pub enum MkfsError {
    /// Something is there that would be lost.
    #[error("{} exists and holds {}; choose another name, or pass --force to replace it", path.display(), ByteSize(*bytes).display().iec())]
    Exists {
        /// The image's path.
        path: PathBuf,
        /// Bytes it holds.
        bytes: u64,
    },
    /// A directory, a device, a socket.
    #[error("{} is not a regular file; an image can only replace a regular file", path.display())]
    NotAFile {
        /// The image's path.
        path: PathBuf,
    },
    /// `--from` names something else than a directory.
    #[error("{} is not a directory; --from takes the directory whose contents the image starts with", path.display())]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// A name that does not fit a directory entry.
    #[error("the name of {} has {length} bytes, and the file system allows {NAME_MAX}; rename it or leave it out", path.display())]
    NameTooLong {
        /// The file.
        path: PathBuf,
        /// Bytes of its name.
        length: usize,
    },
    /// A symbolic link's target that does not fit a block.
    #[error("the target of the symbolic link {} has {length} bytes, and the file system allows 1023; leave the link out", path.display())]
    TargetTooLong {
        /// The link.
        path: PathBuf,
        /// Bytes of its target.
        length: usize,
    },
    /// A device, pipe or socket in the directory.
    #[error("{} is {kind}; only regular files, directories and symbolic links can be copied: leave it out", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, with an article.
        kind: &'static str,
    },
    /// A file beyond the format's limit.
    #[error("{} has {}, and a file can have at most {}; leave it out", path.display(), ByteSize(*bytes).display().iec(), ByteSize(refault_minixfs::MAX_FILE_SIZE.into()).display().iec())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// More entries in one directory than its size can count.
    #[error("{} holds {entries} names, too many for one directory of this file system; split it", path.display())]
    DirectoryTooLarge {
        /// The directory.
        path: PathBuf,
        /// How many names it has.
        entries: usize,
    },
    /// The size that was asked for does not hold the contents.
    #[error("a size of {} is too small: the contents and their bookkeeping need at least {}; pass a larger --size, or none", ByteSize(*given).display().iec(), ByteSize(*needed).display().iec())]
    TooSmall {
        /// Bytes asked for.
        given: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The size is beyond the format.
    #[error("a size of {} is more than this file system can have ({}); pass a smaller --size", ByteSize(*given).display().iec(), ByteSize(*limit).display().iec())]
    TooLarge {
        /// Bytes asked for.
        given: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// More files than the format has inodes.
    #[error("{count} files and directories are more than the file system can count ({limit}); copy fewer")]
    TooManyFiles {
        /// How many there are.
        count: u64,
        /// How many there can be.
        limit: u32,
    },
    /// A file was not the same at the end as at the beginning.
    #[error("{} changed while it was being copied; try again when nobody writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system library refused something that had been checked beforehand: a defect of this program.
    #[error("cannot add {} to the image: {source}; this is a defect of refault, please report it", path.display())]
    Volume {
        /// What was being added.
        path: PathBuf,
        /// What the library said.
        source: refault_minixfs::Error,
    },
}

/// Names what was being done, and to what, when the system refused.
pub(super) fn during(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MkfsError + use<> {
    let path = path.to_path_buf();
    move |source| MkfsError::Io { action, path, source }
}
