//! From what the file system library says to what VFS is told.

use refault_abi::Errno;
use refault_minixfs::{Error, SuperblockError};

/// The code for an error of the library.
pub(crate) fn errno(error: Error) -> Errno {
    match error {
        // A corrupt disk is a broken disk to a program; what exactly is wrong goes to the log.
        Error::Io(_) | Error::Corrupt(_) => Errno::EIO,
        Error::NotFound => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotDirectory => Errno::ENOTDIR,
        Error::IsDirectory => Errno::EISDIR,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::Invalid => Errno::EINVAL,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::NoSpace | Error::NoInodes => Errno::ENOSPC,
        Error::TooManyLinks => Errno::EMLINK,
        Error::FileTooLarge => Errno::EFBIG,
        Error::ReadOnly => Errno::EROFS,
    }
}

/// The code for a device that cannot be mounted: EINVAL for one that holds something else, EIO for one that is
/// corrupt.
pub(crate) fn mount_errno(error: SuperblockError) -> Errno {
    match error {
        SuperblockError::DeviceTooSmall { .. }
        | SuperblockError::NotMinix3 { .. }
        | SuperblockError::OldVersion { .. } => Errno::EINVAL,
        SuperblockError::Field { .. } => Errno::EIO,
    }
}
