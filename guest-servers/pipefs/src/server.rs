//! Dispatch: a request message in, an answer message out. And which pipes there are.

use alloc::collections::BTreeMap;

use refault_abi::bugs::Bug;
use refault_abi::counters::Counter;
use refault_abi::fs::{self, Done, Io, Node, NodeRef};
use refault_abi::message::{Payload, REPLY, Status};
use refault_abi::vfs::Stat;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use zerocopy::IntoBytes;

use crate::pipe::{End, Pipe};
use crate::system::System;

/// Most pipes at a time: 4 MiB of bytes under way.
pub const PIPES: usize = 64;
/// References a new pipe has: one for each end.
const ENDS: u64 = 2;
/// Type and permissions of a pipe, as in `st_mode`.
const MODE: u32 = 0o010_600;
/// What STAT says about the size of a block.
const STAT_BLOCK: u64 = 512;

struct Entry {
    pipe: Pipe,
    references: u64,
}

/// The server.
pub struct Server<S> {
    system: S,
    bug: Option<Bug>,
    pipes: BTreeMap<u64, Entry>,
    /// The next pipe's inode number; numbers are not used twice.
    next: u64,
}

impl<S: System> Server<S> {
    /// A server without pipes; `bug` is the seeded mistake to make.
    pub fn new(system: S, bug: Option<Bug>) -> Self {
        Server { system, bug, pipes: BTreeMap::new(), next: 1 }
    }

    /// What is below.
    pub fn system(&mut self) -> &mut S {
        &mut self.system
    }

    /// Pipes there are.
    pub fn pipes(&self) -> usize {
        self.pipes.len()
    }

    /// Serves one request. Only VFS is served: nobody else knows which pipes there are.
    pub fn handle(&mut self, message: &Message) -> Message {
        if message.sender() != Endpoint::VFS {
            return answer(message, &Status::unit(Err(Errno::EPERM)));
        }
        self.system.count(Counter::PipeRequests, 1);
        let io: Io = message.get();
        let from = message.sender();
        match message.kind() {
            fs::NEWPIPE => answer(message, &self.create().unwrap_or_else(no_node)),
            fs::GETNODE => answer(message, &self.refer(&message.get()).unwrap_or_else(no_node)),
            fs::READ => answer(message, &done(self.read(from, &io))),
            fs::WRITE => answer(message, &done(self.write(from, &io))),
            fs::STAT => answer(message, &Status::unit(self.stat(from, &io))),
            fs::CLOSEPIPE => answer(message, &Status::unit(self.close(&io))),
            fs::PUTNODE => answer(message, &Status::unit(self.put_back(&message.get()))),
            // Nothing here is on a disk.
            fs::SYNC | fs::FLUSH | fs::UNMOUNT => answer(message, &Status::unit(Ok(()))),
            _ => answer(message, &Status::unit(Err(Errno::EBADREQUEST))),
        }
    }

    fn create(&mut self) -> Result<Node> {
        if self.pipes.len() >= PIPES {
            return Err(Errno::ENFILE);
        }
        let inode = self.next;
        self.next = inode.checked_add(1).ok_or(Errno::ENFILE)?;
        let entry = self.pipes.entry(inode).or_insert(Entry { pipe: Pipe::new(), references: ENDS });
        Ok(node(inode, entry))
    }

    fn refer(&mut self, request: &NodeRef) -> Result<Node> {
        let entry = self.entry(request.inode)?;
        entry.references = entry.references.checked_add(request.count).ok_or(Errno::EINVAL)?;
        Ok(node(request.inode, entry))
    }

    fn entry(&mut self, inode: u64) -> Result<&mut Entry> {
        self.pipes.get_mut(&inode).ok_or(Errno::EINVAL)
    }

    /// READ: what there is, up to what is wanted. 0 at the end: nothing there and nobody to write more.
    fn read(&mut self, from: Endpoint, io: &Io) -> Result<(u64, u64)> {
        let bug = self.bug;
        let Some(Entry { pipe, .. }) = self.pipes.get_mut(&io.inode) else { return Err(Errno::EINVAL) };
        let wanted = usize::try_from(io.bytes).unwrap_or(usize::MAX);
        if wanted == 0 || (pipe.is_empty() && !pipe.is_open(End::Writing)) {
            return Ok((0, pipe.len() as u64));
        }
        if pipe.is_empty() {
            return Err(Errno::EAGAIN);
        }
        let bytes = pipe.front(wanted);
        let count = bytes.len();
        let moved = self.system.copy_to(from, GrantId(io.grant), bytes);
        // The mistake: consuming before it is known whether the copy arrived.
        if moved.result.is_ok() || Bug::PipeConsumesFirst.is(bug) {
            pipe.consume(count);
        }
        self.copied(moved.result)?;
        Ok((count as u64, self.entry(io.inode)?.pipe.len() as u64))
    }

    /// WRITE: what there is room for. EAGAIN when that is nothing, EPIPE when nobody will read it.
    fn write(&mut self, from: Endpoint, io: &Io) -> Result<(u64, u64)> {
        let Some(Entry { pipe, .. }) = self.pipes.get_mut(&io.inode) else { return Err(Errno::EINVAL) };
        let wanted = usize::try_from(io.bytes).unwrap_or(usize::MAX);
        if !pipe.is_open(End::Reading) {
            return Err(Errno::EPIPE);
        }
        if wanted == 0 {
            return Ok((0, pipe.len() as u64));
        }
        let count = pipe.room(wanted);
        if count == 0 {
            return Err(Errno::EAGAIN);
        }
        let moved = self.system.copy_from(from, GrantId(io.grant), pipe.back(count));
        if moved.result.is_ok() {
            pipe.add(count);
        }
        self.copied(moved.result)?;
        Ok((count as u64, self.entry(io.inode)?.pipe.len() as u64))
    }

    /// Counts a copy that failed.
    fn copied(&mut self, result: Result<()>) -> Result<()> {
        if result.is_err() {
            self.system.count(Counter::FsCopyFailures, 1);
        }
        result
    }

    fn stat(&mut self, from: Endpoint, io: &Io) -> Result<()> {
        let size = self.entry(io.inode)?.pipe.len() as u64;
        let blocks = size.div_ceil(STAT_BLOCK);
        let stat = Stat { inode: io.inode, mode: MODE, links: 1, size, blocks, ..Stat::default() };
        let moved = self.system.copy_to(from, GrantId(io.grant), stat.as_bytes());
        self.copied(moved.result)
    }

    fn close(&mut self, io: &Io) -> Result<()> {
        let end = match io.position {
            0 => End::Reading,
            1 => End::Writing,
            _ => return Err(Errno::EINVAL),
        };
        self.entry(io.inode)?.pipe.close(end);
        Ok(())
    }

    /// Takes references back; with the last one the pipe is gone, and what was in it.
    fn put_back(&mut self, request: &NodeRef) -> Result<()> {
        let entry = self.entry(request.inode)?;
        entry.references = entry.references.checked_sub(request.count).ok_or(Errno::EINVAL)?;
        if entry.references == 0 {
            self.pipes.remove(&request.inode);
        }
        Ok(())
    }
}

fn node(inode: u64, entry: &Entry) -> Node {
    Node { result: 0, inode, size: entry.pipe.len() as u64, mode: MODE, links: 1, uid: 0, gid: 0 }
}

fn no_node(error: Errno) -> Node {
    Node { result: error.code().into(), ..Node::default() }
}

/// The answer of a transfer: the count and what is in the pipe now. A pipe has no position.
fn done(result: Result<(u64, u64)>) -> Done {
    match result {
        Ok((count, size)) => Done { result: i64::try_from(count).unwrap_or(i64::MAX), position: 0, size },
        Err(error) => Done { result: error.code().into(), ..Done::default() },
    }
}

fn answer<T: Payload>(request: &Message, payload: &T) -> Message {
    request.reply(REPLY, payload)
}
