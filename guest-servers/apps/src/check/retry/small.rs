//! GETDENTS, RDLINK, SLINK and STAT: requests that are one copy.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::pattern::FILE_A;
use refault_abi::vfs::{self, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, SEEK_CUR, SEEK_SET};
use refault_abi::{Errno, Result as Answer};
use refault_rt::user::{self, Descriptor};
use zerocopy::IntoBytes;

use super::super::buffer::{Buffer, Contents, Mapped};
use super::super::case::Complaint;
use super::super::raw;
use super::super::suite::Explain;
use super::super::text::text_byte;
use super::data::check_equal;
use super::{Operation, Shape};

/// The directory that is listed.
pub const DIRECTORY: &str = "/dir";
/// The link that is read.
const LONG_LINK: &str = "/long";
/// The link that is made.
const NEW_LINK: &str = "/made";
/// The file of letters that targets are mappings of.
const TEXT: &str = "/text.bin";
/// Bytes of a target.
const TARGET: u64 = 900;

/// GETDENTS of [`DIRECTORY`].
#[derive(Debug)]
pub struct Getdents {
    descriptor: Descriptor,
    mapped: Mapped,
    reference: Vec<u8>,
    next: u64,
}

impl Getdents {
    /// Lists the directory once, for comparison.
    pub fn new() -> Result<Getdents, String> {
        let descriptor = user::open(DIRECTORY, O_RDONLY, 0).explain(DIRECTORY)?;
        let mut reference = vec![0; 4096];
        let count = user::getdents(descriptor, &mut reference).explain("getdents")?;
        reference.truncate(count);
        crate::ensure!(count > 1000, "{DIRECTORY} has only {count} bytes of entries");
        let next = user::lseek(descriptor, 0, SEEK_CUR).explain("lseek")?;
        Ok(Getdents { descriptor, mapped: Mapped::pattern("/a.bin", FILE_A)?, reference, next })
    }
}

impl Operation for Getdents {
    fn shape(&self) -> Shape {
        Shape {
            name: "GETDENTS",
            mapped: self.mapped,
            bytes: 4096,
            moved: self.reference.len() as u64,
            answer: self.reference.len() as u64,
            writes_buffer: true,
            in_pieces: false,
        }
    }
    fn reset(&mut self) -> Result<(), String> {
        user::lseek(self.descriptor, 0, SEEK_SET).explain("lseek").map(drop)
    }
    fn perform(&mut self, address: u64, bytes: u64) -> Answer<u64> {
        raw::on_descriptor(vfs::GETDENTS, self.descriptor, address, bytes)
    }
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint> {
        check_equal(
            "the entries",
            buffer.bytes().get(..self.reference.len()).unwrap_or_default(),
            &self.reference,
        )
    }
    fn position(&self) -> Option<(Descriptor, u64, u64)> {
        Some((self.descriptor, 0, self.next))
    }
}

/// RDLINK of a link with a long target.
#[derive(Debug)]
pub struct Rdlink {
    mapped: Mapped,
}

/// The target of the long link.
fn target() -> String {
    (0..TARGET).map(|offset| char::from(text_byte(offset))).collect()
}

impl Rdlink {
    /// Makes the link.
    pub fn new() -> Result<Rdlink, String> {
        match user::symlink(&target(), LONG_LINK) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(alloc::format!("{LONG_LINK}: {error}")),
        }
        Ok(Rdlink { mapped: Mapped::pattern("/a.bin", FILE_A)? })
    }
}

impl Operation for Rdlink {
    fn shape(&self) -> Shape {
        Shape {
            name: "RDLINK",
            mapped: self.mapped,
            bytes: 1024,
            moved: TARGET,
            answer: TARGET,
            writes_buffer: true,
            in_pieces: false,
        }
    }
    fn reset(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn perform(&mut self, address: u64, bytes: u64) -> Answer<u64> {
        raw::on_path(vfs::READLINK, LONG_LINK, address, bytes)
    }
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint> {
        let seen = buffer.bytes().get(..TARGET as usize).unwrap_or_default();
        check_equal("the target", seen, target().as_bytes())
    }
}

/// SLINK with a target in a mapping of a file of letters.
#[derive(Debug)]
pub struct Slink {
    mapped: Mapped,
}

impl Slink {
    /// Makes the file.
    pub fn new() -> Result<Slink, String> {
        let descriptor = user::open(TEXT, O_RDWR | O_CREAT | O_TRUNC, 0o644).explain(TEXT)?;
        let text: Vec<u8> = (0..8 * 4096).map(text_byte).collect();
        let count = user::write(descriptor, &text).explain(TEXT)?;
        crate::ensure!(count == text.len(), "{TEXT}: {count} bytes");
        Ok(Slink { mapped: Mapped { descriptor, contents: Contents::Text } })
    }
}

impl Operation for Slink {
    fn shape(&self) -> Shape {
        Shape {
            name: "SLINK",
            mapped: self.mapped,
            bytes: TARGET,
            moved: TARGET,
            answer: 0,
            writes_buffer: false,
            in_pieces: false,
        }
    }
    fn reset(&mut self) -> Result<(), String> {
        match user::unlink(NEW_LINK) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(alloc::format!("{NEW_LINK}: {error}")),
        }
    }
    fn perform(&mut self, address: u64, bytes: u64) -> Answer<u64> {
        raw::on_path(vfs::SYMLINK, NEW_LINK, address, bytes)
    }
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint> {
        let mut seen = vec![0; 1024];
        let count = user::readlink(NEW_LINK, &mut seen).explain("reading the link")?;
        let wanted: Vec<u8> = (0..TARGET).map(|index| buffer.original(index)).collect();
        check_equal("the link", seen.get(..count).unwrap_or_default(), &wanted)
    }
    fn verify_undone(&mut self) -> Result<(), Complaint> {
        match user::lstat(NEW_LINK) {
            Err(Errno::ENOENT) => Ok(()),
            other => Err(Complaint::from(alloc::format!("a link was left behind: {other:?}"))),
        }
    }
}

/// STAT of an open file.
#[derive(Debug)]
pub struct Stat {
    descriptor: Descriptor,
    mapped: Mapped,
}

impl Stat {
    /// Opens the files.
    pub fn new() -> Result<Stat, String> {
        let descriptor = user::open("/b.bin", O_RDONLY, 0).explain("/b.bin")?;
        Ok(Stat { descriptor, mapped: Mapped::pattern("/a.bin", FILE_A)? })
    }
}

impl Operation for Stat {
    fn shape(&self) -> Shape {
        Shape {
            name: "STAT",
            mapped: self.mapped,
            bytes: size_of::<vfs::Stat>() as u64,
            moved: size_of::<vfs::Stat>() as u64,
            answer: 0,
            writes_buffer: true,
            in_pieces: false,
        }
    }
    fn reset(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn perform(&mut self, address: u64, _bytes: u64) -> Answer<u64> {
        raw::fstat(self.descriptor, address)
    }
    fn verify(&mut self, buffer: &Buffer) -> Result<(), Complaint> {
        let stat = user::fstat(self.descriptor).explain("fstat")?;
        check_equal("the status", buffer.bytes(), stat.as_bytes())
    }
}
