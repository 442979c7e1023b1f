//! Pipes: PIPE, and reading and writing their ends.
//!
//! The one thing to hold in mind: reading a pipe consumes, so an attempt that the pipe file system says succeeded is the last
//! one. It is one because that server makes one copy, and consumes after it. Waiting is done here: a request that can do nothing
//! now is asleep, holds no lock and no turn, until the pipe has moved or its process is gone.

use alloc::rc::Rc;

use refault_abi::vfs::{O_RDONLY, O_WRONLY};
use refault_abi::{Endpoint, Errno, Message, Result, fs};

use super::data::counted;
use crate::cell::OneShot;
use crate::kernel::{Kernel, UserMemory};
use crate::pipe::{Pipe, PipeEnd};
use crate::process::{Object, OpenFile};
use crate::retry::{self, Frozen, Replay};
use crate::server::Vfs;

/// Most bytes that one request moves: as many as a pipe holds. A user may offer any amount of memory, and after a fault VM makes
/// present what the request is over.
pub(crate) const MOST: u64 = 64 << 10;

impl<K: Kernel> Vfs<K> {
    pub(crate) async fn pipe(&self, user: Endpoint) -> Result<u64> {
        let pipes = &self.mounts.pipes;
        let node: fs::Node = self.call_mount(pipes, Message::bare(fs::NEWPIPE)).await?.get();
        Errno::check(node.result)?;
        // Both ends have a reference.
        let pipe = Pipe::new(self.shelf.found(pipes, &node, 2));
        let (reading, writing) = PipeEnd::both(&pipe, self.shelf.chore_list());
        let open = |end: PipeEnd, flags| Rc::new(OpenFile::new(Object::Pipe(Rc::new(end)), flags));
        let (reading, writing) = (open(reading, O_RDONLY), open(writing, O_WRONLY));
        let installed = self.with_process(user, |process| {
            let reader = process.install(reading)?;
            let descriptor = i32::try_from(reader).map_err(|_| Errno::EMFILE)?;
            match process.install(writing) {
                Ok(writer) => Ok(Ok(reader | writer << 32)),
                // The file is handed out to be dropped where nothing is borrowed.
                Err(error) => process.close(descriptor).map(|file| Err((error, file))),
            }
        })?;
        installed?.map_err(|(error, file)| {
            drop(file);
            error
        })
    }

    pub(crate) async fn read_pipe(&self, end: &PipeEnd, memory: UserMemory) -> Result<u64> {
        let pipe = &end.pipe;
        loop {
            let seen = pipe.moves();
            match self.pass(pipe, fs::READ, memory).await {
                Err(Errno::EAGAIN) => self.sleep(pipe, seen, memory.owner).await?,
                other => return other,
            }
        }
    }

    pub(crate) async fn write_pipe(&self, end: &PipeEnd, memory: UserMemory) -> Result<u64> {
        let pipe = &end.pipe;
        let mut done: u64 = 0;
        loop {
            let seen = pipe.moves();
            let rest = UserMemory {
                address: memory.address.saturating_add(done),
                bytes: memory.bytes.saturating_sub(done),
                ..memory
            };
            match self.pass(pipe, fs::WRITE, rest).await {
                Ok(moved) => {
                    done = done.saturating_add(moved);
                    if done >= memory.bytes {
                        return Ok(done);
                    }
                }
                Err(Errno::EAGAIN) => self.sleep(pipe, seen, memory.owner).await?,
                // What is in the pipe is in the pipe.
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Has the pipe file system move what it can. EAGAIN when that is nothing.
    async fn pass(&self, pipe: &Rc<Pipe>, operation: u16, memory: UserMemory) -> Result<u64> {
        let memory = UserMemory { bytes: memory.bytes.min(MOST), ..memory };
        let frozen =
            Frozen { replay: Replay::CommitAfterCopy, ..Frozen::new(operation, pipe.vnode.inode, memory) };
        let done: fs::Done = retry::transfer(self, &pipe.vnode, &frozen).await?.get();
        let moved = counted(Errno::check(done.result)?, memory.bytes)?;
        if moved > 0 {
            pipe.moved();
        } else if operation == fs::WRITE && memory.bytes > 0 {
            return Err(Errno::EAGAIN);
        }
        Ok(moved)
    }

    /// Waits until the pipe has moved since it had made `seen` moves. ESRCH when the process is gone.
    async fn sleep(&self, pipe: &Rc<Pipe>, seen: u64, user: Endpoint) -> Result<()> {
        if pipe.moves() != seen {
            return Ok(());
        }
        let sleeper = Rc::new(OneShot::new());
        self.with_process(user, |process| process.sleep = Some(Rc::clone(&sleeper)))?;
        pipe.wake_at_move(Rc::clone(&sleeper));
        let idle = self.idle(true);
        sleeper.wait().await;
        self.awake(idle).await;
        self.with_process(user, |process| process.sleep = None)
    }
}
