//! One test for each way in which an image cannot be a disk. Each also checks that the file is as it was.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use tempfile::{NamedTempFile, TempDir};

use super::*;

fn image(len: usize) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&vec![0x5a; len]).unwrap();
    file
}

/// Everything about a file that opening it could change.
fn fingerprint(path: &Path) -> (Vec<u8>, i64, i64, u32, u64) {
    let m = std::fs::metadata(path).unwrap();
    (std::fs::read(path).unwrap(), m.mtime(), m.mtime_nsec(), m.mode(), m.ino())
}

/// Opens and expects failure, without a change to the file.
fn refused(path: &Path, readonly: bool) -> ImageError {
    let before = fingerprint(path);
    let error = Image::open(path, readonly).unwrap_err();
    assert_eq!(fingerprint(path), before, "a failed open changed the file");
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "the message does not name the file: {text}");
    error
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn good_images_open() {
    let file = image(2048);
    let opened = Image::open(file.path(), false).unwrap();
    assert_eq!((opened.sectors(), opened.readonly()), (4, false));
    drop(opened);
    mode(file.path(), 0o444);
    let opened = Image::open(file.path(), true).unwrap();
    assert_eq!((opened.sectors(), opened.readonly()), (4, true));
    // SAFETY: asks for the flags of an open descriptor.
    let flags = unsafe { libc::fcntl(opened.file().as_raw_fd(), libc::F_GETFL) };
    assert_eq!(flags & libc::O_NONBLOCK, 0);
    assert_eq!(flags & libc::O_ACCMODE, libc::O_RDONLY);
}

#[test]
fn missing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("none.img");
    for readonly in [false, true] {
        let error = Image::open(&path, readonly).unwrap_err();
        assert!(matches!(error, ImageError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("mkfs"));
        assert!(!path.exists(), "a failed open made the file");
    }
}

#[test]
fn a_directory() {
    let dir = TempDir::new().unwrap();
    let error = Image::open(dir.path(), false).unwrap_err();
    assert!(matches!(error, ImageError::Directory { .. }), "{error}");
}

#[test]
fn empty() {
    let error = refused(image(0).path(), false);
    assert!(matches!(error, ImageError::Empty { .. }), "{error}");
}

#[test]
fn not_whole_sectors() {
    for (len, want) in [(1, 1), (511, 511), (513, 1), (1000, 488)] {
        let error = refused(image(len).path(), true);
        let ImageError::PartialSector { size, excess, .. } = error else { panic!("{error}") };
        assert_eq!((size, excess), (len as u64, want));
    }
}

#[test]
fn kinds_that_cannot_be_disks() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let pipe = dir.path().join("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: `name` is a terminated string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    for (path, want) in
        [(Path::new("/dev/zero"), "character device"), (&socket, "socket"), (&pipe, "named pipe")]
    {
        let error = Image::open(path, true).unwrap_err();
        let ImageError::Unsupported { kind, .. } = error else { panic!("{error}") };
        assert_eq!(kind, want);
    }
}

#[test]
fn read_only_on_disk_but_not_asked_so() {
    let file = image(512);
    mode(file.path(), 0o444);
    let error = refused(file.path(), false);
    assert!(matches!(error, ImageError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("readonly=on"));
    assert!(Image::open(file.path(), true).is_ok());
}

/// Runs `test` as a user that is not the superuser, for file accesses of this thread only.
fn as_nobody(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let outcome = scope.spawn(|| {
            // SAFETY: changes the calling thread's identity for file accesses, and this thread ends below.
            unsafe { libc::setfsuid(65534) };
            test();
        });
        outcome.join().unwrap();
    });
}

#[test]
fn no_permission() {
    let file = image(512);
    mode(file.path(), 0o200);
    as_nobody(|| {
        for readonly in [false, true] {
            let error = Image::open(file.path(), readonly).unwrap_err();
            assert!(matches!(error, ImageError::Permission { .. }), "{error}");
        }
    });
    // Readable, but writable only for its owner.
    mode(file.path(), 0o644);
    as_nobody(|| {
        // Without privilege the test's user is the owner, and may write.
        // SAFETY: asks for the identity of this process.
        if unsafe { libc::geteuid() } == 0 {
            let error = Image::open(file.path(), false).unwrap_err();
            assert!(matches!(error, ImageError::ReadOnly { .. }), "{error}");
        }
        assert!(Image::open(file.path(), true).is_ok());
    });
}

#[test]
fn two_machines_cannot_both_have_it_if_one_writes() {
    let file = image(512);
    let writer = Image::open(file.path(), false).unwrap();
    for readonly in [false, true] {
        let error = refused(file.path(), readonly);
        assert!(matches!(error, ImageError::Locked { .. }), "{error}");
    }
    // The lock lasts as long as any holder of the file.
    let held = writer.file().clone();
    drop(writer);
    assert!(matches!(refused(file.path(), false), ImageError::Locked { .. }));
    drop(held);

    let readers = [Image::open(file.path(), true).unwrap(), Image::open(file.path(), true).unwrap()];
    assert!(matches!(refused(file.path(), false), ImageError::Locked { readonly: false, .. }));
    drop(readers);
    assert!(Image::open(file.path(), false).is_ok());
}

#[test]
fn the_lock_is_the_kernels_and_so_holds_for_other_processes() {
    let file = image(512);
    let _writer = Image::open(file.path(), false).unwrap();
    let inode = std::fs::metadata(file.path()).unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let line = locks.lines().find(|l| l.contains(&format!(":{inode} ")));
    let line = line.unwrap_or_else(|| panic!("no lock on inode {inode} in\n{locks}"));
    assert!(line.contains("OFDLCK") && line.contains("WRITE"), "{line}");
}
