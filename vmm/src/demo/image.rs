//! Whether a disk image came out of a run unharmed.
//!
//! The demo only reads files. The image must be the same to the byte, or, where the file system has noted that it
//! was mounted, one that the host's own `fsck.minix -f` accepts.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

/// The image after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageCheck {
    /// Whether it is the same to the byte; absent if it could not be read.
    pub identical: Option<bool>,
    /// Whether `fsck.minix -f` accepts it; absent where that program is not installed.
    pub fsck_accepts: Option<bool>,
}

impl ImageCheck {
    /// Looks at `path`, which had the digest `original` before.
    pub fn of(path: &Path, original: u64) -> Self {
        Self { identical: digest(path).ok().map(|now| now == original), fsck_accepts: fsck(path) }
    }

    /// What is wrong, if anything is.
    pub fn problem(&self) -> Option<String> {
        match (self.identical, self.fsck_accepts) {
            (None, _) => Some("its disk image can no longer be read".into()),
            (_, Some(false)) => Some("fsck.minix does not accept its disk image".into()),
            (Some(false), None) => {
                Some("its disk image has changed, and fsck.minix is not installed to judge the change".into())
            }
            _ => None,
        }
    }
}

/// A digest of a file's contents, only comparable within one run of this program.
pub fn digest(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.write(buffer.get(..n).unwrap_or(&buffer)),
        }
    }
}

fn fsck(path: &Path) -> Option<bool> {
    let run = |program: &str| {
        Command::new(program)
            .arg("-f")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    // Not every user has /sbin in the search path.
    let status = run("fsck.minix").or_else(|_| run("/sbin/fsck.minix")).ok()?;
    Some(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let before = digest(&path).unwrap();
        assert_eq!(digest(&path).unwrap(), before);
        let mut bytes = vec![7; 100_000];
        bytes[99_999] = 8;
        std::fs::write(&path, bytes).unwrap();
        assert_ne!(digest(&path).unwrap(), before);
    }

    #[test]
    fn what_counts_as_harm() {
        let check = |identical, fsck_accepts| ImageCheck { identical, fsck_accepts }.problem().is_some();
        assert!(!check(Some(true), None));
        assert!(!check(Some(true), Some(true)));
        assert!(!check(Some(false), Some(true)));
        assert!(check(Some(false), None));
        assert!(check(Some(true), Some(false)));
        assert!(check(None, Some(true)));
    }
}
