//! Opening the file or block device behind a disk.
//!
//! The one thing to hold in mind: an image that cannot be used is left exactly as it was. Nothing is created,
//! truncated or written here, and the file is locked before its size is believed.
//!
//! Two machines must not write one image, nor one write what another reads. The lock that sees to it belongs
//! to the open file (`F_OFD_SETLK`): exclusive for a writer, shared among readers, gone when the last
//! descriptor is closed, however the process ends. Programs that do not ask for locks are not kept out.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Bytes in a sector, the unit of all disk addresses (virtio 1.2, 5.2.6).
pub const SECTOR: u64 = 512;

/// Why an image cannot be a disk. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is nothing by that name.
    #[error("There is no disk image {}; make one with `refault mkfs {} --size 16M`", path.display(), path.display())]
    Missing {
        /// The image asked for.
        path: PathBuf,
    },
    /// It is a directory.
    #[error(
        "The disk image {} is a directory; give a file, or make one from the directory with \
         `refault mkfs IMAGE --from {}`",
        path.display(), path.display()
    )]
    Directory {
        /// The image asked for.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("The disk image {} is a {kind}; only regular files and block devices can be disks", path.display())]
    Unsupported {
        /// The image asked for.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It has no bytes.
    #[error("The disk image {} is empty; a disk needs at least one sector of {SECTOR} bytes", path.display())]
    Empty {
        /// The image asked for.
        path: PathBuf,
    },
    /// Its size is not a number of sectors.
    #[error(
        "The disk image {} has {size} bytes, which is {excess} more than a multiple of {SECTOR}; if it was cut \
         short, copy it again, else extend it with `truncate -s %{SECTOR}`",
        path.display()
    )]
    PartialSector {
        /// The image asked for.
        path: PathBuf,
        /// Its size, bytes.
        size: u64,
        /// Bytes after the last whole sector.
        excess: u64,
    },
    /// It may not be opened at all.
    #[error("No permission to open the disk image {}; check the owner and mode of the file and its directories", path.display())]
    Permission {
        /// The image asked for.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// It could be read but not written, and a writable disk was asked for.
    #[error("The disk image {} is read-only; add readonly=on, or make the file writable", path.display())]
    ReadOnly {
        /// The image asked for.
        path: PathBuf,
    },
    /// Another machine has it.
    #[error(
        "The disk image {} is {}; end that machine, or use readonly=on in both, or a copy",
        path.display(),
        if *.readonly { "being written by another machine" } else { "in use by another machine" }
    )]
    Locked {
        /// The image asked for.
        path: PathBuf,
        /// Whether it was to be opened read-only.
        readonly: bool,
    },
    /// Something else went wrong.
    #[error("Cannot {what} the disk image {}", path.display())]
    Io {
        /// The image asked for.
        path: PathBuf,
        /// What was being done: "open", "lock", "look at" or "measure".
        what: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

/// A backing file, open and locked.
#[derive(Clone, Debug)]
pub struct Image {
    file: Arc<File>,
    sectors: u64,
    readonly: bool,
}

impl Image {
    /// Opens and locks the image at `path`.
    pub fn open(path: &Path, readonly: bool) -> Result<Self, ImageError> {
        let found = std::fs::metadata(path).map_err(|e| cannot_open(path, e))?;
        check_kind(path, found.file_type())?;
        // The superuser may write to a file that nobody is meant to write to. Its mode is still a wish.
        if !readonly && found.file_type().is_file() && found.permissions().mode() & 0o222 == 0 {
            return Err(ImageError::ReadOnly { path: path.to_owned() });
        }
        let file = match open(path, !readonly) {
            Err(e) if !readonly && forbids_writing(&e) && open(path, false).is_ok() => {
                return Err(ImageError::ReadOnly { path: path.to_owned() });
            }
            opened => opened.map_err(|e| cannot_open(path, e))?,
        };
        // The name may have been given to something else since it was looked at.
        let opened = file.metadata().map_err(|e| io_error(path, "look at", e))?;
        check_kind(path, opened.file_type())?;
        lock(path, &file, readonly)?;
        let size = size(&file, &opened).map_err(|e| io_error(path, "measure", e))?;
        if size == 0 {
            return Err(ImageError::Empty { path: path.to_owned() });
        }
        let excess = size % SECTOR;
        if excess != 0 {
            return Err(ImageError::PartialSector { path: path.to_owned(), size, excess });
        }
        Ok(Self { file: Arc::new(file), sectors: size / SECTOR, readonly })
    }

    /// The open file, whose lock lasts as long as anybody holds it.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Size in sectors, at least one.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Whether the disk is to refuse writes.
    pub fn readonly(&self) -> bool {
        self.readonly
    }
}

fn open(path: &Path, write: bool) -> io::Result<File> {
    // Not waiting for the other end, should the name have become that of a pipe. It is without effect on the
    // reading and writing of files, except that io_uring would take it as a wish to fail rather than wait.
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    // SAFETY: changes a flag of a descriptor that is ours; no memory is involved.
    let cleared = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) };
    if cleared < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

fn forbids_writing(error: &io::Error) -> bool {
    use io::ErrorKind::{ExecutableFileBusy, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ExecutableFileBusy)
}

fn cannot_open(path: &Path, source: io::Error) -> ImageError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ImageError::Missing { path },
        io::ErrorKind::PermissionDenied => ImageError::Permission { path, source },
        io::ErrorKind::IsADirectory => ImageError::Directory { path },
        _ => ImageError::Io { path, what: "open", source },
    }
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> ImageError {
    ImageError::Io { path: path.to_owned(), what, source }
}

fn check_kind(path: &Path, found: FileType) -> Result<(), ImageError> {
    let unsupported = |kind| Err(ImageError::Unsupported { path: path.to_owned(), kind });
    if found.is_file() || found.is_block_device() {
        Ok(())
    } else if found.is_dir() {
        Err(ImageError::Directory { path: path.to_owned() })
    } else if found.is_char_device() {
        unsupported("character device")
    } else if found.is_fifo() {
        unsupported("named pipe")
    } else if found.is_socket() {
        unsupported("socket")
    } else {
        unsupported("file of an unknown kind")
    }
}

fn size(mut file: &File, opened: &Metadata) -> io::Result<u64> {
    if opened.is_file() {
        // Once more, now that the lock keeps other machines from changing it.
        return Ok(file.metadata()?.len());
    }
    // The size of a device is where its end is.
    file.seek(SeekFrom::End(0))
}

fn lock(path: &Path, file: &File, readonly: bool) -> Result<(), ImageError> {
    let kind = if readonly { libc::F_RDLCK } else { libc::F_WRLCK };
    let whole = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open and `whole` is a complete `flock` that the kernel only reads.
    let locked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &whole) };
    if locked == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Err(ImageError::Locked { path: path.to_owned(), readonly }),
        _ => Err(io_error(path, "lock", error)),
    }
}
