//! Workload 9: one file, everything that can be done to its bytes, and a model of them in memory. After the idea of fsx, which has
//! found more faults in file systems than any other program of its size.
//!
//! The one thing to hold in mind: sizes and places are odd on purpose, and every answer, byte, position and size is compared. A
//! request that ends in a defined error may have done part of its work: then each byte is either old or new, and the model takes over
//! which.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::vfs::{O_APPEND, O_CREAT, O_RDWR, O_TRUNC, SEEK_CUR, SEEK_END, SEEK_SET};
use refault_rt::user::{self, Descriptor};

use super::gauges::Gauges;
use super::random::Random;
use super::trouble::{Defined, Step, Trouble, same, same_bytes, whole};
use super::window::Window;
use crate::check::area::Area;

/// Bytes of the file at most.
const MAX: u64 = 64 << 10;
/// Bytes of a transfer at most.
const TRANSFER: u64 = 4 * PAGE;

/// The file and its model.
pub struct Fsx {
    path: String,
    descriptor: Descriptor,
    appending: Descriptor,
    model: Vec<u8>,
    window: Window,
    random: Random,
    fills: u32,
}

impl Fsx {
    /// Makes the file anew.
    pub fn new(path: &str, seed: u32, client: u32, since: &Gauges) -> Result<Fsx, Trouble> {
        let descriptor = user::open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644).defined(since, path)?;
        let appending = user::open(path, O_RDWR | O_APPEND, 0).defined(since, path)?;
        Ok(Fsx {
            path: path.into(),
            descriptor,
            appending,
            model: Vec::new(),
            window: Window::new(0, TRANSFER + PAGE)?,
            random: Random::new(seed, client),
            fills: client << 20,
        })
    }

    /// Closes the file, and takes its name away.
    pub fn end(self, since: &Gauges) -> Step {
        user::close(self.descriptor).defined(since, "close")?;
        user::close(self.appending).defined(since, "close")?;
        user::unlink(&self.path).defined(since, "unlink")
    }

    fn size(&self) -> u64 {
        self.model.len() as u64
    }

    /// One operation, whichever comes.
    pub fn step(&mut self, since: &Gauges) -> Step {
        let choice = self.random.below(20);
        let at = self.random.size(0, MAX - TRANSFER);
        let bytes = self.random.size(1, TRANSFER);
        let size = self.random.size(0, MAX);
        let (done, what) = match choice {
            0..=2 => (self.read(since, at, bytes, true), "read"),
            3..=5 => (self.write(since, at, bytes, Way::Position), "write"),
            6..=7 => (self.read(since, at, bytes, false), "pread"),
            8..=9 => (self.write(since, at, bytes, Way::Offset), "pwrite"),
            10..=12 => (self.write(since, self.size(), bytes, Way::Append), "append"),
            13..=14 => (self.truncate(since, size), "truncate"),
            15..=16 => (self.map(), "map"),
            17 => (user::fsync(self.descriptor).defined(since, "fsync"), "fsync"),
            18 => (user::flush_caches().map(drop).defined(since, "flush_caches"), "flush"),
            _ => (self.reopen(since), "reopen"),
        };
        done.map_err(|trouble| match trouble {
            Trouble::Wrong(mut complaint) => {
                complaint.text = format!("{what} of {bytes} at {at} of {}: {}", self.size(), complaint.text);
                Trouble::Wrong(complaint)
            }
            rejected => rejected,
        })
    }

    /// The whole file, as it is.
    pub fn compare(&mut self, since: &Gauges) -> Step {
        let mut seen = vec![0; self.model.len() + 1];
        let count = user::pread(self.descriptor, &mut seen, 0).defined(since, "reading all of it")?;
        same_bytes("all of it", seen.get(..count).unwrap_or_default(), &self.model)
    }

    fn fresh(&mut self) -> u64 {
        self.fills = self.fills.wrapping_add(1);
        self.window.fill(0x1000_0000 | self.fills);
        self.random.below(PAGE)
    }

    fn read(&mut self, since: &Gauges, at: u64, bytes: u64, by_position: bool) -> Step {
        let skip = self.fresh();
        let place = self.window.address() + skip;
        let end = (at + bytes).min(self.size()).max(at.min(self.size()));
        let wanted = self.model.get(at.min(end) as usize..end as usize).unwrap_or_default();
        let answer = if by_position {
            user::lseek(self.descriptor, at as i64, SEEK_SET).defined(since, "lseek")?;
            // SAFETY: the range is in the window, which nobody has borrowed.
            unsafe { user::read_raw(self.descriptor, place, bytes) }
        } else {
            // SAFETY: as above.
            unsafe { user::pread_raw(self.descriptor, place, bytes, at) }
        };
        let answer = answer.defined(since, "the request");
        if by_position {
            let moved = if answer.is_ok() { wanted.len() as u64 } else { 0 };
            let position = user::lseek(self.descriptor, 0, SEEK_CUR).defined(since, "lseek")?;
            same("the position", position, at + moved)?;
        }
        whole("bytes read", answer?, wanted.len() as u64)?;
        self.window.holds_at("what was read", skip, wanted)
    }

    fn write(&mut self, since: &Gauges, at: u64, bytes: u64, way: Way) -> Step {
        let bytes = bytes.min(MAX.saturating_sub(at));
        if bytes == 0 {
            return Ok(());
        }
        let skip = self.fresh();
        let place = self.window.address() + skip;
        let new: Vec<u8> =
            self.window.given().get(skip as usize..(skip + bytes) as usize).unwrap_or_default().to_vec();
        let descriptor = if way == Way::Append { self.appending } else { self.descriptor };
        let answer = match way {
            Way::Append => user::write_raw(descriptor, place, bytes),
            Way::Position => {
                user::lseek(descriptor, at as i64, SEEK_SET).defined(since, "lseek")?;
                user::write_raw(descriptor, place, bytes)
            }
            Way::Offset => user::pwrite(descriptor, &new, at).map(|count| count as u64),
        };
        let end = (at + bytes) as usize;
        let mut wanted = self.model.clone();
        if wanted.len() < end {
            wanted.resize(end, 0);
        }
        if let Some(range) = wanted.get_mut(at as usize..end) {
            range.copy_from_slice(&new);
        }
        let answer = match answer.defined(since, "the request") {
            Ok(answer) => answer,
            Err(trouble) => {
                self.adopt(since, &wanted)?;
                return Err(trouble);
            }
        };
        whole("bytes written", answer, bytes)?;
        self.model = wanted;
        if way != Way::Offset {
            let position = user::lseek(descriptor, 0, SEEK_CUR).defined(since, "lseek")?;
            same("the position", position, end as u64)?;
        }
        self.check_size(since)?;
        self.window.holds("the memory written from", &[])
    }

    /// After a failed write: each byte is old or new, as far as the file goes.
    fn adopt(&mut self, since: &Gauges, wanted: &[u8]) -> Step {
        let mut seen = vec![0; wanted.len() + 1];
        let count = user::pread(self.descriptor, &mut seen, 0).defined(since, "after a failed write")?;
        seen.truncate(count);
        if count < self.model.len() || count > wanted.len() {
            return Err(format!("after a failed write: {count} bytes").into());
        }
        for (index, byte) in seen.iter().enumerate() {
            let old = self.model.get(index).copied().unwrap_or(0);
            if *byte != old && wanted.get(index) != Some(byte) {
                return Err(Trouble::corrupt(format!("after a failed write: byte {index}")));
            }
        }
        self.model = seen;
        Ok(())
    }

    fn truncate(&mut self, since: &Gauges, size: u64) -> Step {
        user::ftruncate(self.descriptor, size).defined(since, "the request")?;
        self.model.resize(size as usize, 0);
        self.check_size(since)
    }

    fn check_size(&self, since: &Gauges) -> Step {
        let size = user::fstat(self.descriptor).defined(since, "fstat")?.size;
        same("the size", size, self.size())?;
        let end = user::lseek(self.descriptor, 0, SEEK_END).defined(since, "lseek")?;
        same("the end", end, self.size())
    }

    /// Every byte of the file, through a private mapping.
    fn map(&self) -> Step {
        if self.model.is_empty() {
            return Ok(());
        }
        let pages = self.size().div_ceil(PAGE);
        let area = Area::of_file(self.descriptor, pages).map_err(Trouble::from)?;
        let wrong = area.first_wrong(|at| self.model.get(at as usize).copied().unwrap_or(0));
        area.unmap().map_err(Trouble::from)?;
        match wrong {
            None => Ok(()),
            Some(at) => Err(Trouble::corrupt(format!("byte {at} of the mapping is wrong"))),
        }
    }

    fn reopen(&mut self, since: &Gauges) -> Step {
        user::close(self.descriptor).defined(since, "close")?;
        self.descriptor = user::open(&self.path, O_RDWR, 0).defined(since, "open")?;
        self.check_size(since)
    }
}

/// How a write says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Position,
    Offset,
    Append,
}
