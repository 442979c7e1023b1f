//! The thread-pool engine: a few threads that each do one job at a time with ordinary system calls.
//!
//! Works on every host; the price is two thread switches for each request. It is what is used where io_uring is
//! forbidden, as it is in many containers.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Completion, Engine, Job, Op, Step};
use crate::sync::lock;

/// Threads for each disk: enough to keep a disk busy behind one queue without crowding small hosts.
const THREADS: usize = 4;

struct Shared {
    file: Arc<File>,
    board: Mutex<Board>,
    /// A job was posted, or the pool is to end.
    posted: Condvar,
    /// A job has ended.
    ended: Condvar,
    event: EventFd,
}

#[derive(Default)]
struct Board {
    waiting: VecDeque<Job>,
    running: usize,
    done: Vec<Completion>,
    stop: bool,
}

/// An engine of a few threads.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the pool.
    pub fn new(file: Arc<File>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            file,
            board: Mutex::default(),
            posted: Condvar::new(),
            ended: Condvar::new(),
            event: EventFd::new(EFD_NONBLOCK)?,
        });
        // Made before the threads, so that those already running are joined if a later one cannot start.
        let mut pool = Self { shared, workers: Vec::new() };
        for _ in 0..THREADS {
            let shared = pool.shared.clone();
            let worker = Builder::new().name("blk".to_owned()).spawn(move || work(&shared))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }
}

impl Engine for Threads {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn submit(&mut self, job: Job) {
        lock(&self.shared.board).waiting.push_back(job);
        self.shared.posted.notify_one();
    }

    fn push(&mut self) {}

    fn completion_event(&self) -> &EventFd {
        &self.shared.event
    }

    fn take(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut lock(&self.shared.board).done);
    }

    fn drain(&mut self, done: &mut Vec<Completion>) {
        let mut board = lock(&self.shared.board);
        while !board.waiting.is_empty() || board.running > 0 {
            board = self.shared.ended.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
        done.append(&mut board.done);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.shared.board).stop = true;
        self.shared.posted.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so; there is nothing to add.
            let _ = worker.join();
        }
    }
}

/// One worker: does jobs until the pool ends and no job waits.
fn work(shared: &Shared) {
    let mut board = lock(&shared.board);
    loop {
        let Some(mut job) = board.waiting.pop_front() else {
            if board.stop {
                return;
            }
            board = shared.posted.wait(board).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        board.running = board.running.saturating_add(1);
        drop(board);
        let result = run(&shared.file, &mut job);
        let token = job.token;
        // The hold on guest memory ends before anybody learns that the job has.
        drop(job);
        board = lock(&shared.board);
        board.running = board.running.saturating_sub(1);
        board.done.push(Completion { token, result });
        // A full counter means that the loop is being woken already.
        let _ = shared.event.write(1);
        shared.ended.notify_all();
    }
}

/// Does a job to its end.
fn run(file: &File, job: &mut Job) -> io::Result<()> {
    loop {
        let result = match job.op {
            Op::Flush => file.sync_data().map(|()| 0),
            _ => transfer(file, job),
        };
        match job.step(result)? {
            Step::Done => return Ok(()),
            Step::Again => {}
        }
    }
}

/// One system call's worth of a read or write.
fn transfer(file: &File, job: &Job) -> io::Result<usize> {
    let offset = libc::off_t::try_from(job.offset).map_err(io::Error::other)?;
    let iov = job.data.next();
    let count = libc::c_int::try_from(iov.len()).map_err(io::Error::other)?;
    let (fd, flags) = (file.as_raw_fd(), job.rw_flags());
    // SAFETY: `iov` has `count` entries, each of them memory that `job.data` keeps mapped (see `GuestIov`); the
    // kernel checks the rest. Guest memory is not behind any Rust reference.
    let carried = unsafe {
        match job.op {
            Op::Read => libc::preadv2(fd, iov.as_ptr(), count, offset, flags),
            _ => libc::pwritev2(fd, iov.as_ptr(), count, offset, flags),
        }
    };
    usize::try_from(carried).map_err(|_| io::Error::last_os_error())
}
