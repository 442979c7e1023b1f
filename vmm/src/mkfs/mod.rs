//! Making disk images: a MINIX version 3 file system in a file, empty or filled from a directory.
//!
//! The one thing to hold in mind: nothing is seen of an image before all of it is right. It is built in a temporary file
//! beside its final place and renamed at the end, so a run that fails leaves the old file, or nothing.
//!
//! The format itself is `refault-minixfs`, the same code that serves it inside the guest. What this is not: a way to
//! change an existing image, and no faithful backup (owners become root, hard links become copies).

mod demo;
mod error;
mod image;
mod tree;

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub use demo::{demo_file, demo_tree};
pub use error::MkfsError;
pub use tree::{Contents, Kind, Node};

use error::during;
use image::Plan;

/// Size of an image when neither a size nor a directory says otherwise: 16 MiB.
pub const DEFAULT_SIZE: u64 = 16 << 20;

/// What to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the image. Without it: what the directory needs and an eighth more, or [`DEFAULT_SIZE`].
    pub size: Option<u64>,
    /// A directory whose contents the image starts with.
    pub from: Option<PathBuf>,
    /// Replace an existing file that is not empty.
    pub force: bool,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Bytes of the image.
    pub bytes: u64,
    /// Inodes the file system has.
    pub inodes: u32,
    /// Regular files copied.
    pub files: u32,
    /// Directories made, the root not counted.
    pub directories: u32,
    /// Symbolic links made.
    pub links: u32,
    /// Bytes of the regular files.
    pub data_bytes: u64,
    /// Bytes left for new files.
    pub free_bytes: u64,
}

/// Makes an image at `path`.
///
/// # Errors
/// [`MkfsError`], and then nothing at `path` has changed.
pub fn make_image(path: &Path, options: &Options) -> Result<Summary, MkfsError> {
    let root = match &options.from {
        Some(directory) => tree::scan(directory)?,
        None => Node::directory("", Vec::new()),
    };
    let size = match (options.size, &options.from) {
        (None, None) => Some(DEFAULT_SIZE),
        (size, _) => size,
    };
    make_image_of(path, &root, size, options.force)
}

/// Makes the demo disk at `path`: [`demo_tree`], the same to the byte each time.
///
/// # Errors
/// As [`make_image`].
pub fn make_demo_image(path: &Path, force: bool) -> Result<Summary, MkfsError> {
    make_image_of(path, &demo_tree(), None, force)
}

/// Makes an image of a tree described in memory.
///
/// # Errors
/// As [`make_image`].
pub fn make_image_of(path: &Path, root: &Node, size: Option<u64>, force: bool) -> Result<Summary, MkfsError> {
    check_target(path, force)?;
    let plan = Plan::new(root, size)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut names = tempfile::Builder::new();
    // Mode 666 less the umask, as any newly made file; the library's default would be private to the user.
    names.prefix(".refault-mkfs-").permissions(Permissions::from_mode(0o666));
    let write = |file: &File| {
        let summary = image::write(file, path, root, &plan)?;
        // On the disk before the name is, so that a crash cannot leave the name with less than all of it.
        file.sync_all().map_err(during("write", path))?;
        Ok(summary)
    };
    let cannot_create = || during("create a file in", directory);
    let (temporary, summary) = match unnamed_file(directory) {
        Some(file) => {
            let summary = write(&file)?;
            let named = names.make_in(directory, |name| link(&file, name)).map_err(cannot_create())?;
            (named.into_temp_path(), summary)
        }
        None => {
            let named = names.tempfile_in(directory).map_err(cannot_create())?;
            let summary = write(named.as_file())?;
            (named.into_temp_path(), summary)
        }
    };
    temporary.persist(path).map_err(|error| during("rename the finished image to", path)(error.error))?;
    // The rename itself is made durable on a best-effort basis: the image is complete either way.
    if let Ok(parent) = File::open(directory) {
        let _ = parent.sync_all();
    }
    Ok(summary)
}

/// A file in `directory` that has no name yet, so that a signal leaves nothing behind; not every file system has them.
fn unnamed_file(directory: &Path) -> Option<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o666).custom_flags(libc::O_TMPFILE);
    // Without /proc it could not be given a name afterwards.
    options.open(directory).ok().filter(|file| link_source(file).exists())
}

fn link_source(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Gives an unnamed file a name.
fn link(file: &File, name: &Path) -> io::Result<()> {
    let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (from, to) = (c_string(&link_source(file))?, c_string(name)?);
    let here = libc::AT_FDCWD;
    // SAFETY: both names are C strings that outlive the call.
    match unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether something at `path` may be replaced.
fn check_target(path: &Path, force: bool) -> Result<(), MkfsError> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(during("look at", path)(error)),
    };
    if !found.is_file() {
        return Err(MkfsError::NotAFile { path: path.into() });
    }
    if found.len() > 0 && !force {
        return Err(MkfsError::Exists { path: path.into(), bytes: found.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
