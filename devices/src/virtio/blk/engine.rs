//! Block engines: how a request to a backing file is carried out without making the device loop wait.
//!
//! An [`Engine`] is given [`Job`]s and signals an event descriptor when some are done. Two work on files: [`uring`]
//! (io_uring) and [`threads`] (a small pool doing `preadv` and `pwritev`). Data goes between file and guest
//! memory directly; there is no buffer in between. A third, [`overlay`], works on an image in memory which it never
//! changes.
//!
//! The one thing to hold in mind: from [`Engine::submit`] until its completion is taken, a job's guest memory
//! may be read or written at any time by the kernel. [`GuestIov`] keeps that memory mapped, and whoever owns an
//! engine drains it before the guest may use the memory for something else.
//!
//! Errors are completions: submitting cannot fail, so a caller has one place where requests end.

use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use libc::iovec;
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::GuestRam;

pub mod overlay;
mod probe;
#[cfg(test)]
mod tests;
pub mod threads;
pub mod uring;

pub use probe::{ProbeError, probe_uring};

/// Most pieces of memory that one system call takes (`IOV_MAX` on Linux).
const IOV_MAX: usize = 1024;

/// Which engine to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring if a trial shows that it works on this host, else threads.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// The thread pool.
    Threads,
}

/// Not the name of an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("There is no block engine {0:?}; use engine=uring, engine=threads or engine=auto")]
pub struct UnknownEngine(pub String);

impl FromStr for EngineChoice {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        match name {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "threads" => Ok(Self::Threads),
            _ => Err(UnknownEngine(name.to_owned())),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Threads => "threads",
        })
    }
}

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// io_uring was asked for and does not work here.
    #[error("io_uring does not work on this host; use engine=threads")]
    Uring(#[source] ProbeError),
    /// The ring for this disk could not be made, although a trial worked.
    #[error("Cannot make an io_uring for the disk; use engine=threads")]
    Ring(#[source] io::Error),
    /// Descriptors have run out.
    #[error("Cannot make the timer of a disk's late answers")]
    Timer(#[source] io::Error),
    /// Descriptors have run out.
    #[error("Cannot make the event of a disk in memory")]
    Overlay(#[source] io::Error),
    /// Threads or descriptors have run out.
    #[error("Cannot start the block engine's threads")]
    Threads(#[source] io::Error),
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// From file to guest memory.
    Read,
    /// From guest memory to file.
    Write {
        /// Complete only when the data is on stable storage: for a driver that does not know of flushes.
        durable: bool,
    },
    /// All completed writes to stable storage (`fdatasync`).
    Flush,
}

/// One request to a file.
pub struct Job {
    /// The caller's name for it, unique among jobs in flight and below the depth the engine was made with.
    pub token: u16,
    /// What to do.
    pub op: Op,
    /// Byte offset in the file.
    pub offset: u64,
    /// Memory; empty for a flush.
    pub data: GuestIov,
}

/// A job that has ended.
#[derive(Debug)]
pub struct Completion {
    /// The job's name.
    pub token: u16,
    /// All bytes were carried, or not.
    pub result: io::Result<()>,
}

/// Carries out jobs on one file. See the [module documentation](self).
pub trait Engine: Send {
    /// The engine's name, as accepted by [`EngineChoice`].
    fn name(&self) -> &'static str;

    /// Takes a job. It may not begin before [`Engine::push`].
    fn submit(&mut self, job: Job);

    /// Lets all submitted jobs begin.
    fn push(&mut self);

    /// Whether all jobs have ended when [`Engine::push`] returns. Such an engine signals nothing; its completions are taken at once.
    fn synchronous(&self) -> bool {
        false
    }

    /// Signalled when there may be completions to take.
    fn completion_event(&self) -> &EventFd;

    /// Appends the jobs that have ended to `done`. Does not wait.
    fn take(&mut self, done: &mut Vec<Completion>);

    /// Waits until no job is left, appending all to `done`. On return no guest memory is in use.
    fn drain(&mut self, done: &mut Vec<Completion>);
}

/// Starts an engine on `file` for up to `depth` jobs at once.
pub fn start(choice: EngineChoice, file: Arc<File>, depth: u16) -> Result<Box<dyn Engine>, EngineError> {
    let uring = |file| -> Result<Box<dyn Engine>, EngineError> {
        probe_uring().map_err(EngineError::Uring)?;
        Ok(Box::new(uring::Uring::new(file, depth).map_err(EngineError::Ring)?))
    };
    let threads = |file| -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(threads::Threads::new(file).map_err(EngineError::Threads)?))
    };
    match choice {
        EngineChoice::Uring => uring(file),
        EngineChoice::Threads => threads(file),
        EngineChoice::Auto => uring(file.clone()).or_else(|error| {
            tracing::info!(%error, "disk uses engine=threads");
            threads(file)
        }),
    }
}

/// Host addresses of guest memory, with a hold on the mapping they are in.
pub struct GuestIov {
    /// The pieces still to be carried; the first may have been begun.
    iov: Vec<iovec>,
    /// Pieces at the front of `iov` that are done.
    done: usize,
    _ram: GuestRam,
}

// SAFETY: the pointers are into `_ram`, which is itself `Send` and `Sync` and outlives them, and guest memory
// is never accessed through references, so that no thread relies on its contents staying as they are.
unsafe impl Send for GuestIov {}

impl GuestIov {
    /// Pieces of memory, all of them mapped by `ram`.
    pub(super) fn new(iov: Vec<iovec>, ram: GuestRam) -> Self {
        Self { iov, done: 0, _ram: ram }
    }

    /// No memory.
    pub fn none(ram: GuestRam) -> Self {
        Self::new(Vec::new(), ram)
    }

    /// Bytes still to be carried.
    pub fn len(&self) -> u64 {
        self.left().iter().fold(0, |sum, v| sum.saturating_add(v.iov_len as u64))
    }

    /// Whether no byte is left to be carried.
    pub fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    /// Leaves out all but the first `len` bytes that are still to be carried.
    pub(super) fn truncate(&mut self, len: u64) {
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        let mut kept = self.done;
        for piece in self.iov.iter_mut().skip(self.done) {
            if left == 0 {
                break;
            }
            piece.iov_len = piece.iov_len.min(left);
            left = left.saturating_sub(piece.iov_len);
            kept = kept.saturating_add(1);
        }
        self.iov.truncate(kept);
    }

    fn left(&self) -> &[iovec] {
        self.iov.get(self.done..).unwrap_or_default()
    }

    /// The pieces for the next system call.
    fn next(&self) -> &[iovec] {
        let left = self.left();
        left.get(..IOV_MAX).unwrap_or(left)
    }

    /// Records that `count` bytes were carried.
    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.iov.get_mut(self.done) {
            match piece.iov_len.checked_sub(count) {
                Some(left) if left > 0 => {
                    piece.iov_base = piece.iov_base.cast::<u8>().wrapping_add(count).cast();
                    piece.iov_len = left;
                    return;
                }
                _ => count = count.saturating_sub(piece.iov_len),
            }
            self.done = self.done.saturating_add(1);
        }
    }
}

/// What to do after a transfer that returned.
enum Step {
    /// The job is complete.
    Done,
    /// Not all was carried: do it again from where it stands.
    Again,
}

impl Job {
    /// Accounts for a system call that carried `result` bytes or failed.
    fn step(&mut self, result: io::Result<usize>) -> io::Result<Step> {
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Step::Again),
            Err(e) => Err(e),
            Ok(_) if self.op == Op::Flush => Ok(Step::Done),
            // The file has become shorter than it was when it was opened.
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.data.advance(count);
                let carried = u64::try_from(count).map_err(io::Error::other)?;
                self.offset = self.offset.saturating_add(carried);
                Ok(if self.data.is_empty() { Step::Done } else { Step::Again })
            }
        }
    }

    fn rw_flags(&self) -> i32 {
        match self.op {
            Op::Write { durable: true } => libc::RWF_DSYNC,
            _ => 0,
        }
    }
}
