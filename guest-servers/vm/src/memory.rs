//! The memory of all processes: making pages present, sharing and copying them, taking them away.
//!
//! The one thing to hold in mind: nothing here waits. A page that only a file system can provide comes out as
//! [`Outcome::Missing`]; the caller has it brought in and asks again. Reference counts: one per page-table entry
//! that maps a frame, one for the cache.

use alloc::vec::Vec;

use refault_abi::bugs::Bug;
use refault_abi::kcall::privilege;
use refault_abi::layout::{PAGE, page_floor, pte};
use refault_abi::vm::{PROT_EXEC, PROT_WRITE};
use refault_abi::{Errno, Result};

use crate::cache::{Cache, Key};
use crate::files::{FileId, Files};
use crate::frames::Frames;
use crate::poison::Poisoned;
use crate::process::Process;
use crate::quarantine::Quarantine;
use crate::ram::Ram;
use crate::regions::{Backing, Refused as RegionRefused, Region};
use crate::tables;

/// Most frames kept for servers: 4 MiB, as much as a file system's cache.
const RESERVE: u64 = 1024;
/// At most one part in so many of all frames is kept.
const RESERVE_PART: u64 = 16;
/// Most cached pages thrown out at once.
const EVICTED: usize = 64;

/// An access to make possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// It writes.
    pub write: bool,
    /// It fetches an instruction.
    pub fetch: bool,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, in this frame.
    Ready {
        /// GPA of the frame.
        frame: u64,
        /// How it got there.
        how: How,
    },
    /// The file system has to announce it first.
    Missing {
        /// The file.
        file: FileId,
        /// Offset of the page in it.
        offset: u64,
    },
    /// It cannot be there.
    Refused(Refusal),
}

/// How a page got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was there, with the right access: if an access faulted all the same, the second stage did it.
    Already,
    /// Zero-filled.
    Fresh,
    /// From the cache.
    Cached,
    /// From the cache, for this time only, shared or copied.
    OneShot,
    /// Copied, because it was shared. The old translation is no longer true.
    Copied,
    /// Made writable where it is.
    Upgraded,
}

/// Why a page cannot be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No region, or not with this access.
    Invalid,
    /// Behind the end of the file.
    PastEnd,
    /// No frame left.
    NoMemory,
    /// What it held is lost.
    Poisoned,
}

impl Refusal {
    /// The code for requests.
    pub const fn errno(self) -> Errno {
        match self {
            Refusal::Invalid | Refusal::PastEnd | Refusal::Poisoned => Errno::EFAULT,
            Refusal::NoMemory => Errno::ENOMEM,
        }
    }
}

impl From<tables::NoMemory> for Refusal {
    fn from(_: tables::NoMemory) -> Refusal {
        Refusal::NoMemory
    }
}

/// What an unmapping leaves to do.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "pinned files and stale translations"]
pub struct Unmapped {
    /// VFS handles that are no longer needed.
    pub handles: Vec<u64>,
    /// Whether translations went away.
    pub flush: bool,
}

/// All memory.
#[derive(Debug)]
pub struct Memory<'m, R> {
    /// RAM.
    pub ram: R,
    /// Frames.
    pub frames: Frames<'m>,
    /// File pages.
    pub cache: Cache,
    /// Files that regions refer to.
    pub files: Files,
    /// Memory of the dead that a device may still be writing to.
    pub quarantine: Quarantine,
    /// Frames out of use for good.
    pub poisoned: Poisoned,
    /// The mistake to make.
    pub bug: Option<Bug>,
    /// Whether entries may carry the no-execute bit.
    no_execute: bool,
}

impl<'m, R: Ram> Memory<'m, R> {
    /// Over RAM and its frames.
    pub fn new(ram: R, frames: Frames<'m>, no_execute: bool, bug: Option<Bug>) -> Memory<'m, R> {
        let (cache, files, quarantine) = (Cache::new(), Files::new(), Quarantine::new());
        Memory { ram, frames, cache, files, quarantine, poisoned: Poisoned::new(), bug, no_execute }
    }

    /// A frame; cached pages that nobody maps make room.
    pub fn allocate(&mut self) -> core::result::Result<u64, Refusal> {
        if self.frames.free() == 0 {
            self.evict();
        }
        self.frames.allocate().ok_or(Refusal::NoMemory)
    }

    /// A frame for a process. Programs leave the last [`RESERVE`]d ones to the servers, which could not serve anybody
    /// without: only who takes the memory feels that there is no more.
    pub fn allocate_for(&mut self, process: &Process) -> core::result::Result<u64, Refusal> {
        if matches!(process.privilege, privilege::USER | privilege::TEST) {
            let reserve = (self.frames.total() / RESERVE_PART).min(RESERVE);
            while self.frames.free() <= reserve {
                if !self.evict() {
                    return Err(Refusal::NoMemory);
                }
            }
        }
        self.allocate()
    }

    /// Throws out cached pages that only the cache holds, those not used for longest first; whether there were any.
    fn evict(&mut self) -> bool {
        let mut gone = Vec::new();
        let frames = &self.frames;
        self.cache.remove_oldest(
            EVICTED,
            |page| frames.references(page.frame) == 1,
            |page| gone.push(page.frame),
        );
        for frame in &gone {
            self.frames.release(*frame);
        }
        !gone.is_empty()
    }

    /// An empty address space.
    pub fn create_root(&mut self) -> core::result::Result<u64, Refusal> {
        let root = self.allocate()?;
        self.ram.zero_page(root);
        Ok(root)
    }

    /// The entry for a frame under a region's protection.
    fn entry(&self, frame: u64, protection: u32, writable: bool) -> u64 {
        let mut entry = frame | pte::PRESENT | pte::USER;
        if writable && protection & PROT_WRITE != 0 {
            entry |= pte::WRITABLE;
        }
        if self.no_execute && protection & PROT_EXEC == 0 {
            entry |= pte::NO_EXECUTE;
        }
        entry
    }

    /// Maps an entry whose frame's reference is handed over; it is dropped when there is no table for it.
    pub fn map(&mut self, root: u64, address: u64, entry: u64) -> core::result::Result<u64, Refusal> {
        // The three tables on the way are the most that can be missing.
        if self.frames.free() < 3 {
            self.evict();
        }
        let done = tables::set(&mut self.ram, &mut self.frames, root, address, entry);
        if done.is_err() {
            self.frames.release(entry & pte::ADDRESS);
        }
        Ok(done?)
    }

    /// Maps a frame of its own with the region's protection.
    pub fn map_frame(
        &mut self,
        root: u64,
        address: u64,
        frame: u64,
        protection: u32,
    ) -> core::result::Result<(), Refusal> {
        self.map(root, address, self.entry(frame, protection, true)).map(drop)
    }

    /// Makes the page around `address` present for `access`. `asked`: the file system has been asked for this page, on behalf of
    /// whoever wants it now; only then a page that serves once may be used, and the end of the file is where it is known to be.
    pub fn resolve(&mut self, process: &Process, address: u64, access: Access, asked: bool) -> Outcome {
        self.try_resolve(process, page_floor(address), access, asked).unwrap_or_else(Outcome::Refused)
    }

    fn try_resolve(
        &mut self,
        process: &Process,
        address: u64,
        access: Access,
        asked: bool,
    ) -> core::result::Result<Outcome, Refusal> {
        let region = *process.regions.find(address).ok_or(Refusal::Invalid)?;
        let needed = if access.fetch { PROT_EXEC } else { 0 } | if access.write { PROT_WRITE } else { 0 };
        // Without the no-execute bit the processor lets every page be executed.
        let enforced = if self.no_execute { needed } else { needed & !PROT_EXEC };
        if region.protection == 0 || region.protection & enforced != enforced {
            return Err(Refusal::Invalid);
        }
        let present = tables::lookup(&self.ram, process.root, address);
        if present != 0 {
            let frame = present & pte::ADDRESS;
            if self.poisoned.contains(frame) {
                return Err(Refusal::Poisoned);
            }
            if !access.write || present & pte::WRITABLE != 0 {
                return Ok(Outcome::Ready { frame, how: How::Already });
            }
            return self.make_writable(process, address, &region, frame);
        }
        match region.backing {
            Backing::Physical { .. } => Err(Refusal::Invalid),
            Backing::Anonymous => {
                let frame = self.allocate_for(process)?;
                self.ram.zero_page(frame);
                self.map_frame(process.root, address, frame, region.protection)?;
                Ok(Outcome::Ready { frame, how: How::Fresh })
            }
            Backing::File { file, offset, limit } => {
                let offset = offset.saturating_add(address - region.start);
                self.map_file_page(process, address, &region, (file, offset, limit), access.write, asked)
            }
        }
    }

    /// Maps a page of a file, if the cache has it: `limit` is where the file counts as over.
    fn map_file_page(
        &mut self,
        process: &Process,
        address: u64,
        region: &Region,
        (file, offset, limit): (FileId, u64, u64),
        write: bool,
        asked: bool,
    ) -> core::result::Result<Outcome, Refusal> {
        let info = *self.files.get(file).ok_or(Refusal::Invalid)?;
        let left = info.size.min(limit).saturating_sub(offset);
        let key = Key { device: info.device, inode: info.inode, offset };
        let cached = self.cache.get(key).filter(|page| left > 0 && (asked || !page.once));
        let Some(page) = cached else {
            return if left == 0 && asked {
                Err(Refusal::PastEnd)
            } else {
                Ok(Outcome::Missing { file, offset })
            };
        };
        self.cache.touch(key);
        // The process's own reference first: making room must not take the page away.
        self.frames.acquire(page.frame);
        let outcome = if write || left < PAGE {
            self.map_copy(process, address, region, page.frame, left)?
        } else {
            let entry = self.entry(page.frame, region.protection, false);
            self.map(process.root, address, entry)?;
            Outcome::Ready { frame: page.frame, how: How::Cached }
        };
        match outcome {
            Outcome::Ready { frame, .. } if page.once => {
                self.forget(key);
                Ok(Outcome::Ready { frame, how: How::OneShot })
            }
            outcome => Ok(outcome),
        }
    }

    /// Maps a copy of `source`, of which the first `valid` bytes count; the caller's reference to `source` is used up.
    fn map_copy(
        &mut self,
        process: &Process,
        address: u64,
        region: &Region,
        source: u64,
        valid: u64,
    ) -> core::result::Result<Outcome, Refusal> {
        let copied = self.allocate_for(process);
        if let Ok(frame) = copied {
            self.ram.copy_page(source, frame);
            if valid < PAGE && !Bug::TailNotCleared.is(self.bug) {
                self.ram.zero(frame + valid, PAGE - valid);
            }
        }
        self.frames.release(source);
        let frame = copied?;
        self.map_frame(process.root, address, frame, region.protection)?;
        Ok(Outcome::Ready { frame, how: How::Copied })
    }

    /// A present page is to be written for the first time.
    fn make_writable(
        &mut self,
        process: &Process,
        address: u64,
        region: &Region,
        frame: u64,
    ) -> core::result::Result<Outcome, Refusal> {
        if self.frames.references(frame) == 1 {
            self.map_frame(process.root, address, frame, region.protection)?;
            return Ok(Outcome::Ready { frame, how: How::Upgraded });
        }
        // The entry keeps its reference until the copy has taken its place: there may be no frame for it.
        self.frames.acquire(frame);
        let outcome = self.map_copy(process, address, region, frame, PAGE)?;
        self.frames.release(frame);
        Ok(outcome)
    }

    /// Adds a region. EINVAL when it overlaps, ENOMEM when there are too many.
    pub fn add_region(&mut self, process: &mut Process, region: Region) -> Result<()> {
        process.regions.insert(region).map_err(|refused| match refused {
            RegionRefused::Invalid => Errno::EINVAL,
            RegionRefused::Full => Errno::ENOMEM,
        })
    }

    /// Takes `[start, end)`, page aligned, out of an address space.
    pub fn unmap(&mut self, process: &mut Process, start: u64, end: u64) -> Result<Unmapped> {
        let mut gone = Vec::new();
        let before = process.files();
        process.regions.remove(start, end, |region| gone.push(region)).map_err(|_| Errno::ENOMEM)?;
        let mut unmapped = Unmapped::default();
        for region in &gone {
            unmapped.flush |= tables::clear(
                &mut self.ram,
                process.root,
                region.start,
                region.end,
                |frames, entry| frames.release(entry & pte::ADDRESS),
                &mut self.frames,
            );
        }
        let used = process.files();
        for file in before.into_iter().filter(|file| !used.contains(file)) {
            unmapped.handles.extend(self.files.release(file));
        }
        Ok(unmapped)
    }

    /// Frees everything of an address space, its tables included.
    pub fn destroy(&mut self, process: &mut Process) -> Unmapped {
        let unmapped = self.unmap(process, 0, page_floor(u64::MAX)).unwrap_or_default();
        tables::destroy(&mut self.ram, &mut self.frames, process.root);
        process.root = 0;
        unmapped
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
