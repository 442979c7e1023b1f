//! Laboratories that are real: sessions of machines on this host's KVM, each with the guest's program of campaigns and the standard
//! disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::guest_image;
use crate::inject::mechanism::Wanted;
use crate::snapshot::session::SessionError;
use crate::snapshot::{Ran, Run, Session};
use crate::suite::DiskKind;
use crate::suite::disk;
use crate::vm::Config;
use crate::vm::config::Disk;

use super::lab::{Laboratories, Laboratory};

/// The guest's program.
const PROGRAM: &str = "sys_exercise";

/// This host.
pub struct Host {
    wanted: Wanted,
    image: PathBuf,
    _directory: tempfile::TempDir,
}

impl Host {
    /// Makes the disk that all sessions begin with.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(wanted: Wanted) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let image = directory.path().join("disk.img");
        std::fs::write(&image, disk::image(DiskKind::Standard)?)?;
        Ok(Self { wanted, image, _directory: directory })
    }
}

impl Laboratories for Host {
    type Lab = Session;

    async fn open(&self, words: &str) -> io::Result<Session> {
        let config = Config {
            image: Some(Arc::from(guest_image::BOOT_IMAGE)),
            command_line: words.to_owned(),
            program: vec![PROGRAM.to_owned()],
            disks: vec![Disk::new(&self.image)],
            mechanism: self.wanted,
            ..Config::new(guest_image::KERNEL)
        };
        Session::boot(config).await.map_err(failed)
    }
}

impl Laboratory for Session {
    async fn run(&mut self, run: Run) -> io::Result<Ran> {
        Session::run(self, run).await.map_err(failed)
    }

    fn mechanism(&self) -> String {
        Session::mechanism(self).to_owned()
    }
}

fn failed(why: SessionError) -> io::Error {
    io::Error::other(why)
}
