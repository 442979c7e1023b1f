//! The io_uring engine: requests go to the kernel in batches and the device loop is woken by an event
//! descriptor that the kernel signals.
//!
//! The one thing to hold in mind: a job in flight is owned by the kernel as much as by us. Its slot keeps the
//! list of pieces and the guest memory alive until its completion has been seen. If the ring itself should
//! fail, the slots are leaked, not freed: a leak is harmless, a kernel writing to freed memory is not.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Completion, Engine, Job, Op, Step};

/// An engine on a ring of its own.
pub struct Uring {
    ring: IoUring,
    file: Arc<File>,
    event: EventFd,
    /// Jobs in flight, by token.
    slots: Vec<Option<Job>>,
    in_flight: usize,
    /// Jobs that ended without the kernel.
    failed: Vec<Completion>,
    /// The ring has failed. What it still says is about jobs that are given up.
    dead: bool,
}

impl Uring {
    /// A ring for up to `depth` jobs at once.
    pub fn new(file: Arc<File>, depth: u16) -> io::Result<Self> {
        let ring = IoUring::new(u32::from(depth.max(1)))?;
        let event = EventFd::new(EFD_NONBLOCK)?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        let slots = std::iter::repeat_with(|| None).take(usize::from(depth)).collect();
        Ok(Self { ring, file, event, slots, in_flight: 0, failed: Vec::new(), dead: false })
    }

    /// Ends a job that the kernel does not have.
    fn fail(&mut self, token: u16, error: io::Error) {
        self.failed.push(Completion { token, result: Err(error) });
        let _ = self.event.write(1);
    }

    /// Puts the next system call of the job in slot `token` into the submission queue.
    fn enqueue(&mut self, token: u16) -> io::Result<()> {
        let Some(Some(job)) = self.slots.get(usize::from(token)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let entry = entry(&self.file, job)?.user_data(u64::from(token));
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        // SAFETY: the entry refers to the pieces of a job that stays in its slot, unchanged, until the
        // completion with its token has been seen, and through it to memory that the job keeps mapped. The
        // descriptor is open as long as `self.file`, which outlives the ring's use of it: see `Drop`.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::ErrorKind::QuotaExceeded.into())
    }

    /// Accounts for a completion of the kernel.
    fn completed(&mut self, token: u16, result: i32, done: &mut Vec<Completion>) {
        let Some(slot) = self.slots.get_mut(usize::from(token)) else { return };
        let Some(job) = slot.as_mut() else { return };
        let carried =
            usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
        let result = match job.step(carried) {
            Ok(Step::Again) => match self.enqueue(token) {
                Ok(()) => return,
                Err(e) => Err(e),
            },
            Ok(Step::Done) => Ok(()),
            Err(e) => Err(e),
        };
        if let Some(slot) = self.slots.get_mut(usize::from(token)) {
            *slot = None;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        done.push(Completion { token, result });
    }

    /// Enters the kernel, waiting for `want` completions. If the ring has failed, all jobs fail with it.
    fn enter(&mut self, want: usize) {
        loop {
            match self.ring.submit_and_wait(want) {
                Ok(_) => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Completions have to be taken first. They are there, so the event is signalled.
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => return,
                Err(e) => {
                    tracing::error!(error = %e, "io_uring failed; its requests fail too");
                    self.abandon(&e);
                    return;
                }
            }
        }
    }

    /// Gives up on all jobs without freeing what the kernel may still use.
    fn abandon(&mut self, error: &io::Error) {
        for (token, slot) in (0u16..).zip(&mut self.slots) {
            if let Some(job) = slot.take() {
                std::mem::forget(job);
                let result = Err(io::Error::new(error.kind(), error.to_string()));
                self.failed.push(Completion { token, result });
            }
        }
        self.in_flight = 0;
        self.dead = true;
        let _ = self.event.write(1);
    }
}

impl Engine for Uring {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn submit(&mut self, job: Job) {
        let token = job.token;
        if self.dead {
            return self.fail(token, io::ErrorKind::BrokenPipe.into());
        }
        match self.slots.get_mut(usize::from(token)) {
            Some(slot @ None) => *slot = Some(job),
            _ => return self.fail(token, io::ErrorKind::InvalidInput.into()),
        }
        match self.enqueue(token) {
            Ok(()) => self.in_flight = self.in_flight.saturating_add(1),
            Err(e) => {
                if let Some(slot) = self.slots.get_mut(usize::from(token)) {
                    *slot = None;
                }
                self.fail(token, e);
            }
        }
    }

    fn push(&mut self) {
        if !self.dead && !self.ring.submission().is_empty() {
            self.enter(0);
        }
    }

    fn completion_event(&self) -> &EventFd {
        &self.event
    }

    fn take(&mut self, done: &mut Vec<Completion>) {
        while !self.dead {
            let Some(entry) = self.ring.completion().next() else { break };
            if let Ok(token) = u16::try_from(entry.user_data()) {
                self.completed(token, entry.result(), done);
            }
        }
        // The rest of requests that were carried in part.
        self.push();
        done.append(&mut self.failed);
    }

    fn drain(&mut self, done: &mut Vec<Completion>) {
        self.take(done);
        while self.in_flight > 0 {
            self.enter(1);
            self.take(done);
        }
        done.append(&mut self.failed);
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.drain(&mut Vec::new());
    }
}

/// The kernel's form of a job's next step.
fn entry(file: &File, job: &Job) -> io::Result<squeue::Entry> {
    let fd = Fd(file.as_raw_fd());
    // The kernel would take an offset of all-ones as the file's own position.
    libc::off_t::try_from(job.offset).map_err(io::Error::other)?;
    let iov = job.data.next();
    let count = u32::try_from(iov.len()).map_err(io::Error::other)?;
    Ok(match job.op {
        Op::Read => opcode::Readv::new(fd, iov.as_ptr(), count).offset(job.offset).build(),
        Op::Write { .. } => {
            opcode::Writev::new(fd, iov.as_ptr(), count).offset(job.offset).rw_flags(job.rw_flags()).build()
        }
        Op::Flush => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
    })
}
