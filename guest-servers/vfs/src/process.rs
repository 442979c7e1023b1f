//! Processes as VFS knows them: descriptors and the current directory.
//!
//! The one thing to hold in mind: a slot belongs to one incarnation of a process. An endpoint of another generation
//! finds nothing, and a newcomer in a slot starts with nothing of its predecessor's. It knows nothing of requests.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

use refault_abi::endpoint::NR_PROCS;
use refault_abi::vfs::{O_ACCMODE, O_APPEND, O_RDONLY, O_WRONLY};
use refault_abi::{Endpoint, Errno, Result};

use crate::cell::{OneShot, TaskLock};
use crate::device::Device;
use crate::pipe::PipeEnd;
use crate::vnode::Vnode;

/// Descriptors a process may have.
pub const OPEN_MAX: usize = 64;

/// What an open file leads to.
#[derive(Clone, Debug)]
pub enum Object {
    /// A device that is read and written without a position.
    Device(Device),
    /// A file, a directory or a disk.
    Vnode(Rc<Vnode>),
    /// An end of a pipe.
    Pipe(Rc<PipeEnd>),
}

/// An open file: what descriptors share.
#[derive(Debug)]
pub struct OpenFile {
    /// Where it leads.
    pub object: Object,
    /// O_* flags it was opened with.
    pub flags: u32,
    /// Next byte to read or write; for a directory the file system's cookie. Moves under the lock only.
    pub position: Cell<u64>,
    /// Orders operations that use the position. Page-ins do not take it.
    pub lock: TaskLock,
}

impl OpenFile {
    /// Opened at the beginning.
    pub fn new(object: Object, flags: u32) -> OpenFile {
        OpenFile { object, flags, position: Cell::new(0), lock: TaskLock::default() }
    }

    /// EBADF unless it was opened for reading.
    pub fn check_readable(&self) -> Result<()> {
        if self.flags & O_ACCMODE == O_WRONLY { Err(Errno::EBADF) } else { Ok(()) }
    }

    /// EBADF unless it was opened for writing.
    pub fn check_writable(&self) -> Result<()> {
        if self.flags & O_ACCMODE == O_RDONLY { Err(Errno::EBADF) } else { Ok(()) }
    }

    /// Whether every write goes to the end.
    pub fn appends(&self) -> bool {
        self.flags & O_APPEND != 0
    }

    /// The file or directory behind it, or `otherwise`.
    pub fn vnode(&self, otherwise: Errno) -> Result<&Rc<Vnode>> {
        match &self.object {
            Object::Vnode(vnode) => Ok(vnode),
            Object::Device(_) | Object::Pipe(_) => Err(otherwise),
        }
    }
}

/// One process.
#[derive(Debug)]
pub struct Process {
    endpoint: Endpoint,
    descriptors: Vec<Option<Rc<OpenFile>>>,
    /// Current directory; the root while it has not moved.
    pub directory: Option<Rc<Vnode>>,
    /// A request of its is being served.
    pub busy: bool,
    /// Wakes that request where it waits for something that may never happen.
    pub sleep: Option<Rc<OneShot<()>>>,
}

impl Process {
    /// A new process: descriptors 0 to 2 are `terminal`.
    fn new(endpoint: Endpoint, terminal: &Rc<OpenFile>) -> Process {
        let descriptors = (0..3).map(|_| Some(Rc::clone(terminal))).collect();
        Process { endpoint, descriptors, directory: None, busy: false, sleep: None }
    }

    /// The open file behind a descriptor.
    pub fn open_file(&self, descriptor: i32) -> Result<Rc<OpenFile>> {
        let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        self.descriptors.get(index).and_then(Option::as_ref).cloned().ok_or(Errno::EBADF)
    }

    /// Gives the open file the lowest free descriptor.
    pub fn install(&mut self, file: Rc<OpenFile>) -> Result<u64> {
        let index = self.descriptors.iter().position(Option::is_none).unwrap_or(self.descriptors.len());
        if index >= OPEN_MAX {
            return Err(Errno::EMFILE);
        }
        match self.descriptors.get_mut(index) {
            Some(free) => *free = Some(file),
            None => self.descriptors.push(Some(file)),
        }
        Ok(index as u64)
    }

    /// Makes `wanted` another descriptor of the same open file, or, for -1, the lowest free one. What `wanted` was before is
    /// returned, to be dropped where nothing is borrowed.
    pub fn duplicate(&mut self, descriptor: i32, wanted: i32) -> Result<(u64, Option<Rc<OpenFile>>)> {
        let file = self.open_file(descriptor)?;
        if wanted == -1 {
            return Ok((self.install(file)?, None));
        }
        let index = usize::try_from(wanted).ok().filter(|index| *index < OPEN_MAX).ok_or(Errno::EBADF)?;
        if self.descriptors.len() <= index {
            self.descriptors.resize(index + 1, None);
        }
        let before = self.descriptors.get_mut(index).and_then(|place| place.replace(file));
        Ok((index as u64, before))
    }

    /// Frees a descriptor.
    pub fn close(&mut self, descriptor: i32) -> Result<Rc<OpenFile>> {
        let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        self.descriptors.get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)
    }
}

/// All processes, by slot.
#[derive(Debug)]
pub struct Processes {
    slots: Vec<Option<Process>>,
    terminal: Rc<OpenFile>,
}

impl Processes {
    /// Nobody yet; `terminal` is what everybody's first descriptors lead to.
    pub fn new(terminal: OpenFile) -> Processes {
        Processes { slots: (0..NR_PROCS).map(|_| None).collect(), terminal: Rc::new(terminal) }
    }

    /// The process, made now if this is the first that is heard of it. A predecessor in its slot is returned, to be
    /// dropped where nothing is borrowed.
    pub fn admit(&mut self, endpoint: Endpoint) -> Result<Option<Process>> {
        let slot = endpoint.index().and_then(|index| self.slots.get_mut(index)).ok_or(Errno::ESRCH)?;
        match slot {
            Some(process) if process.endpoint == endpoint => Ok(None),
            _ => Ok(slot.replace(Process::new(endpoint, &self.terminal))),
        }
    }

    /// Makes `child` a process that has the parent's descriptors and directory. A predecessor in its slot is returned, to be
    /// dropped where nothing is borrowed.
    pub fn fork(&mut self, parent: Endpoint, child: Endpoint) -> Result<Option<Process>> {
        let (descriptors, directory) = match self.get(parent) {
            Ok(parent) => (parent.descriptors.clone(), parent.directory.clone()),
            // It has never asked for anything: what it has is what everybody begins with.
            Err(_) => return self.admit(child),
        };
        let slot = child.index().and_then(|index| self.slots.get_mut(index)).ok_or(Errno::ESRCH)?;
        Ok(slot.replace(Process { endpoint: child, descriptors, directory, busy: false, sleep: None }))
    }

    /// The process.
    pub fn get(&mut self, endpoint: Endpoint) -> Result<&mut Process> {
        let slot = endpoint.index().and_then(|index| self.slots.get_mut(index)).ok_or(Errno::ESRCH)?;
        slot.as_mut().filter(|process| process.endpoint == endpoint).ok_or(Errno::ESRCH)
    }

    /// Wakes every request that sleeps, so that it looks again.
    pub fn wake_everybody(&self) {
        let sleepers = self.slots.iter().flatten().filter_map(|process| process.sleep.as_ref());
        sleepers.for_each(|sleeper| sleeper.set(()));
    }

    /// Forgets the process.
    pub fn remove(&mut self, endpoint: Endpoint) -> Option<Process> {
        let slot = endpoint.index().and_then(|index| self.slots.get_mut(index))?;
        slot.take_if(|process| process.endpoint == endpoint)
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
