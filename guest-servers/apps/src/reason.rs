//! Errors in words.

use refault_abi::Errno;

/// What an error means to somebody who asked for a file.
pub const fn reason(error: Errno) -> &'static str {
    match error {
        Errno::EPERM => "operation not permitted",
        Errno::ENOENT => "no such file or directory",
        Errno::EIO => "input/output error",
        Errno::ENXIO => "there is no such device",
        Errno::EBADF => "bad file descriptor",
        Errno::ENOMEM => "out of memory",
        Errno::EACCES => "permission denied",
        Errno::EFAULT => "bad address",
        Errno::EBUSY => "busy",
        Errno::EEXIST => "file exists",
        Errno::ENODEV => "no file system is mounted",
        Errno::EXDEV => "on another file system",
        Errno::ENOTDIR => "not a directory",
        Errno::EISDIR => "is a directory",
        Errno::EINVAL => "invalid argument",
        Errno::ENFILE | Errno::EMFILE => "too many open files",
        Errno::EFBIG => "file too large",
        Errno::ENOSPC => "no space left on device",
        Errno::EROFS => "read-only file system",
        Errno::EMLINK => "too many links",
        Errno::ELOOP => "too many symbolic links",
        Errno::ENAMETOOLONG => "name too long",
        Errno::ENOTEMPTY => "directory not empty",
        Errno::ENOSYS | Errno::EBADREQUEST => "not supported",
        _ => "failed",
    }
}
