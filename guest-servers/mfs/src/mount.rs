//! A mounted volume: file pages brought in, written back and cut off.

mod references;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use refault_abi::{Errno, Result, fs};
use refault_minixfs::{Access, Error, FileKind, Inode, ROOT_INODE, SUPERBLOCK_OFFSET, Superblock, Volume};

use crate::blocks::{self, BlockCache};
use crate::error::{errno, mount_errno};
use crate::pages::{self, PageCache};
use crate::system::{Disk, PAGE, PageKey, System};

/// Bytes read to find the superblock: the sectors it is in.
const SUPERBLOCK_READ: usize = 512;

/// Most pages brought in together: a request of 64 KiB at an odd position.
const WINDOW: usize = 17;

/// How much memory the caches may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Metadata buffers.
    pub buffers: usize,
    /// File pages.
    pub pages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { buffers: blocks::BUFFERS, pages: pages::PAGES }
    }
}

impl Limits {
    /// At most so many file pages; 0 for the default.
    pub fn with_pages(pages: u32) -> Self {
        let default = Limits::default();
        match usize::try_from(pages) {
            Ok(pages) if pages > 0 => Limits { pages, ..default },
            _ => default,
        }
    }
}

/// The one file system this server serves.
pub struct Mounted<S: System> {
    /// Metadata.
    pub volume: Volume<BlockCache<S::Disk>>,
    /// By which VFS and VM know it.
    pub device: u64,
    pub(crate) disk: S::Disk,
    pub(crate) pages: PageCache<S::Page>,
    references: BTreeMap<u32, u64>,
}

impl<S: System> Mounted<S> {
    /// Mounts what is on a disk. What is wrong with it goes to the log.
    pub fn new(system: &mut S, mut disk: S::Disk, request: &fs::Mount, limits: Limits) -> Result<Self> {
        let device = request.device;
        let geometry = disk.geometry()?;
        Errno::check(geometry.result)?;
        let mut bytes = [0u8; SUPERBLOCK_READ];
        // A device without the sectors has no superblock either: that is for `parse` to say.
        if geometry.bytes >= SUPERBLOCK_OFFSET.saturating_add(SUPERBLOCK_READ as u64) {
            disk.read(SUPERBLOCK_OFFSET, &mut bytes)?;
        }
        let superblock = Superblock::parse(&bytes, geometry.bytes).map_err(|error| {
            system.log(format_args!("mfs: cannot mount device {device:#x}: {error}"));
            mount_errno(error)
        })?;
        let read_only = request.read_only != 0 || geometry.read_only != 0;
        let mut access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let cache =
            || BlockCache::new(disk.clone(), superblock.block_size(), superblock.zones(), limits.buffers);
        let mut volume = None;
        if request.flags & fs::RECOVER != 0 && !read_only {
            match Volume::recover(cache(), superblock) {
                Ok((recovered, report)) => {
                    system.log(format_args!("mfs: device {device:#x} after a crash: {report}"));
                    volume = Some(recovered);
                }
                Err(error) => {
                    // Writing to it could make it worse.
                    system.log(format_args!("mfs: device {device:#x} is read-only, not mended: {error}"));
                    access = Access::ReadOnly;
                }
            }
        }
        let mut volume = match volume {
            Some(volume) => volume,
            None => Volume::mount(cache(), superblock, access).map_err(|error| {
                system.log(format_args!("mfs: cannot mount device {device:#x}: {error}"));
                errno(error)
            })?,
        };
        volume.keep_order();
        // The machine has no clock that knows the date. Changes are dated with the latest of the root's, so that dates
        // do not run backwards and a run repeats to the byte.
        let root = volume.inode(ROOT_INODE).map_err(errno)?;
        volume.set_time(root.modified.max(root.changed));
        let pages = PageCache::new(limits.pages);
        Ok(Mounted { volume, device, disk, pages, references: BTreeMap::new() })
    }

    /// The code for an error of the library; what is broken goes to the log.
    pub fn told(&self, system: &mut S, error: Error) -> Errno {
        if matches!(error, Error::Corrupt(_) | Error::Io(_)) {
            system.log(format_args!("mfs: device {:#x}: {error}", self.device));
        }
        errno(error)
    }

    /// An inode that has to be a regular file.
    pub fn regular(&mut self, system: &mut S, number: u32) -> Result<Inode> {
        let inode = self.volume.inode(number).map_err(|error| self.told(system, error))?;
        match inode.kind {
            FileKind::Regular => Ok(inode),
            FileKind::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A page of a file of `size` bytes, brought in if it is not there. Zero behind the end of the file and in holes.
    pub fn page(&mut self, system: &mut S, key: PageKey, size: u64) -> Result<&mut pages::Cached<S::Page>> {
        if self.pages.get(key).is_none() {
            self.bring_in(system, key, size)?;
        }
        self.pages.get(key).ok_or(Errno::ENOMEM)
    }

    /// Whether the page is here.
    pub fn is_cached(&self, key: PageKey) -> bool {
        self.pages.contains(key)
    }

    /// Whether a page that is not here is zero all through: nothing of it is on the disk. VM may have it, but it can hold
    /// nothing else there.
    pub fn is_hole(&mut self, system: &mut S, key: PageKey, size: u64) -> Result<bool> {
        if self.is_cached(key) {
            return Ok(false);
        }
        let runs = self.runs(key, size).map_err(|error| self.told(system, error))?;
        Ok(runs.is_empty())
    }

    fn bring_in(&mut self, system: &mut S, key: PageKey, size: u64) -> Result<()> {
        self.make_room(system)?;
        if self.pages.is_elsewhere(key) {
            // Somebody still maps this page, so it is read from there: two frames for it would drift apart.
            if let Some(page) = system.adopt(self.device, key)? {
                self.put(system, key, page, true);
                return Ok(());
            }
            self.pages.not_elsewhere(key);
        }
        let mut page = match system.page() {
            Ok(page) => page,
            Err(error) => {
                // Memory is short: a page of ours is as good as any.
                let victim = self.pages.clean_victim().ok_or(error)?;
                self.evict(system, victim)?;
                system.page()?
            }
        };
        match self.fill(system, key, size, page.as_mut()) {
            Ok(()) => {
                self.put(system, key, page, false);
                Ok(())
            }
            Err(error) => {
                system.release(page, false);
                Err(error)
            }
        }
    }

    pub(crate) fn put(&mut self, system: &mut S, key: PageKey, page: S::Page, announced: bool) {
        if let Some(old) = self.pages.insert(key, page, announced) {
            system.release(old.page, old.announced);
        }
    }

    /// Brings in the pages of `[position, end)` that are missing at its beginning, together. An attempt only: whatever
    /// goes wrong is left for [`Mounted::page`] to meet, so that a bad block costs nobody but its own page.
    pub fn prefetch(&mut self, system: &mut S, number: u32, position: u64, end: u64, size: u64) {
        let window = WINDOW.min(self.pages.limit() / 4);
        let first = position.checked_div(PAGE as u64).unwrap_or(0);
        let behind = end.min(size).div_ceil(PAGE as u64).min(first.saturating_add(window as u64));
        let indices = (first..behind).filter_map(|index| u32::try_from(index).ok());
        let mut missing: Vec<_> = indices.map(|index| PageKey { inode: number, index }).collect();
        missing.retain(|&key| !self.pages.contains(key) && !self.pages.is_elsewhere(key));
        if missing.len() < 2 {
            return;
        }
        let mut taken = Vec::with_capacity(missing.len());
        let fetched = self.fetch(system, &missing, size, &mut taken);
        for (key, page, _) in taken {
            match fetched {
                Ok(()) => self.put(system, key, page, false),
                Err(_) => system.release(page, false),
            }
        }
    }

    fn fetch(
        &mut self,
        system: &mut S,
        missing: &[PageKey],
        size: u64,
        taken: &mut Vec<(PageKey, S::Page, Vec<Run>)>,
    ) -> Result<()> {
        for &key in missing {
            let runs = self.runs(key, size).map_err(errno)?;
            // A hole is not read from anywhere.
            if !runs.is_empty() {
                self.make_room_for(system, taken.len().saturating_add(1))?;
                taken.push((key, system.page()?, runs));
            }
        }
        let mut parts = Vec::new();
        for (_, page, runs) in taken.iter_mut() {
            let mut rest = page.as_mut();
            let mut at = 0usize;
            rest.fill(0);
            for run in runs.iter() {
                let (_, tail) = rest.split_at_mut_checked(run.start.saturating_sub(at)).ok_or(Errno::EIO)?;
                let (part, tail) =
                    tail.split_at_mut_checked(run.end.saturating_sub(run.start)).ok_or(Errno::EIO)?;
                parts.push((run.position, part));
                (rest, at) = (tail, run.end);
            }
        }
        self.disk.read_many(&mut parts)?;
        for (key, page, _) in taken.iter_mut() {
            clear_behind(*key, size, page.as_mut());
        }
        Ok(())
    }

    /// Reads a page's blocks from the disk, neighbouring ones together.
    pub(crate) fn fill(&mut self, system: &mut S, key: PageKey, size: u64, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        let runs = self.runs(key, size).map_err(|error| self.told(system, error))?;
        for run in runs {
            let place = bytes.get_mut(run.start..run.end).ok_or(Errno::EIO)?;
            self.disk.read(run.position, place).inspect_err(|error| {
                system.log(format_args!("mfs: cannot read inode {} at {}: {error}", key.inode, key.offset()));
            })?;
        }
        clear_behind(key, size, bytes);
        Ok(())
    }

    /// Which bytes of a page are where on the disk; holes are left out, what lies behind `size`, and what is damaged behind the end.
    pub(crate) fn runs(&mut self, key: PageKey, size: u64) -> core::result::Result<Vec<Run>, Error> {
        let block_size = self.volume.superblock().block_size() as usize;
        let per_page = (PAGE as u32).checked_div(block_size as u32).unwrap_or(1);
        let first = key.index.checked_mul(per_page).ok_or(Error::FileTooLarge)?;
        let mut runs: Vec<Run> = Vec::new();
        for index in 0..per_page {
            let start = (index as usize).saturating_mul(block_size);
            if key.offset().saturating_add(start as u64) >= size {
                break;
            }
            let zone = match self.volume.map(key.inode, first.saturating_add(index)) {
                Ok(Some(zone)) => zone,
                Ok(None) => continue,
                Err(error) if self.is_behind(key, start, error) => continue,
                Err(error) => return Err(error),
            };
            let position = u64::from(zone).saturating_mul(block_size as u64);
            let end = start.saturating_add(block_size);
            match runs.last_mut() {
                Some(last)
                    if last.end == start
                        && last.position.saturating_add(last.end.saturating_sub(last.start) as u64)
                            == position =>
                {
                    last.end = end;
                }
                _ => runs.push(Run { position, start, end }),
            }
        }
        Ok(runs)
    }

    /// Whether `error` is a damaged pointer behind the end of a file, from byte `start` of a page on: no byte of the file is there, and
    /// what is before it can be written all the same.
    fn is_behind(&mut self, key: PageKey, start: usize, error: Error) -> bool {
        let at = key.offset().saturating_add(start as u64);
        matches!(error, Error::Corrupt(_))
            && self.volume.inode(key.inode).is_ok_and(|inode| at >= u64::from(inode.size))
    }

    /// Sees to it that one more page fits.
    fn make_room(&mut self, system: &mut S) -> Result<()> {
        self.make_room_for(system, 1)
    }

    /// Sees to it that `count` pages more fit, as far as one victim helps.
    fn make_room_for(&mut self, system: &mut S, count: usize) -> Result<()> {
        if self.pages.len().saturating_add(count) <= self.pages.limit() {
            return Ok(());
        }
        if let Some(victim) = self.pages.clean_victim() {
            return self.evict(system, victim);
        }
        let mut result = Err(Errno::ENOMEM);
        // A page whose blocks cannot be written is passed over, and kept for a better day.
        for victim in self.pages.victims() {
            result = self.write_back(system, victim).and_then(|()| self.evict(system, victim));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Drops a clean page.
    fn evict(&mut self, system: &mut S, key: PageKey) -> Result<()> {
        if let Some(cached) = self.pages.remove(key) {
            system.release(cached.page, cached.announced);
        }
        Ok(())
    }

    /// Writes a dirty page to its zones. Blocks that are holes are zero, and stay holes.
    fn write_back(&mut self, system: &mut S, key: PageKey) -> Result<()> {
        let runs = self.runs(key, u64::MAX).map_err(|error| self.told(system, error))?;
        let Some(cached) = self.pages.get(key) else { return Ok(()) };
        for run in runs {
            let bytes = cached.page.as_ref().get(run.start..run.end).ok_or(Errno::EIO)?;
            self.disk.write(run.position, bytes).inspect_err(|error| {
                system.log(format_args!(
                    "mfs: cannot write inode {} at {}: {error}",
                    key.inode,
                    key.offset()
                ));
            })?;
        }
        cached.dirty = false;
        Ok(())
    }

    /// Writes everything back: file pages, then the metadata that points at them. Everything is tried; the first failure is
    /// told.
    pub fn write_all(&mut self, system: &mut S) -> Result<()> {
        let mut result = Ok(());
        for key in self.pages.dirty() {
            result = result.and(self.write_back(system, key));
        }
        let metadata = self.volume.flush().map_err(|error| self.told(system, error));
        result.and(metadata)
    }

    /// Writes everything back, and has the disk make durable what could be written.
    pub fn sync(&mut self, system: &mut S) -> Result<()> {
        let written = self.write_all(system);
        let flushed = self.disk.flush();
        written.and(flushed)
    }

    /// Writes everything back and forgets every clean page and buffer; answers how many pages that were.
    pub fn flush(&mut self, system: &mut S) -> Result<u64> {
        let result = self.sync(system);
        let mut dropped = 0u64;
        for key in self.pages.victims() {
            if self.pages.get(key).is_some_and(|cached| !cached.dirty) {
                self.evict(system, key)?;
                dropped = dropped.saturating_add(1);
            }
        }
        self.volume.store_mut().drop_clean();
        system.clear(self.device);
        result.map(|()| dropped)
    }

    /// Sets a file's size. The page of the new end is brought in first, so that nothing changes if it cannot be.
    pub fn truncate(&mut self, system: &mut S, number: u32, size: u64) -> Result<()> {
        let inode = self.regular(system, number)?;
        let old = u64::from(inode.size);
        self.zero_behind(system, number, size.min(old), old)?;
        let result = self.change(system, |volume| volume.truncate(number, size));
        if size < old {
            self.drop_from(system, number, size);
        }
        result.map(drop)
    }

    /// Makes the bytes behind `end` in its page zero, in memory and, when the page is written back, on the disk.
    /// `size` is what the file has on the disk at the moment.
    pub fn zero_behind(&mut self, system: &mut S, number: u32, end: u64, size: u64) -> Result<()> {
        let Some(key) = page_of(number, end) else { return Err(Errno::EFBIG) };
        let within = usize::try_from(end.saturating_sub(key.offset())).unwrap_or(PAGE);
        if within == 0 || self.volume.access() == Access::ReadOnly {
            return Ok(());
        }
        let cached = self.page(system, key, size)?;
        if let Some(tail) = cached.page.as_mut().get_mut(within..) {
            tail.fill(0);
        }
        cached.dirty = true;
        Ok(())
    }

    /// Drops the pages of a file that lie wholly behind `size`, here and at VM.
    pub fn drop_from(&mut self, system: &mut S, number: u32, size: u64) {
        let first = u32::try_from(size.div_ceil(PAGE as u64)).unwrap_or(u32::MAX);
        let (here, _) = self.pages.from(number, first);
        for key in here {
            if let Some(cached) = self.pages.remove(key) {
                system.release(cached.page, cached.announced);
            }
        }
        let (_, elsewhere) = self.pages.from(number, first);
        for key in elsewhere {
            system.forget(self.device, key);
            self.pages.not_elsewhere(key);
        }
    }

    /// Announces a page to VM. One that is all hole serves one use only: what is nowhere on the disk has no place in a
    /// cache of it, and is made again at the next use.
    pub fn announce(&mut self, system: &mut S, key: PageKey, size: u64) -> Result<()> {
        let device = self.device;
        self.page(system, key, size)?;
        let once = self.runs(key, size).map_err(|error| self.told(system, error))?.is_empty();
        let cached = self.page(system, key, size)?;
        system.announce(device, key, &cached.page, once)?;
        cached.announced = true;
        Ok(())
    }
}

/// Makes the bytes of a page zero that lie behind the end of a file of `size` bytes.
fn clear_behind(key: PageKey, size: u64, bytes: &mut [u8]) {
    let valid = usize::try_from(size.saturating_sub(key.offset())).unwrap_or(usize::MAX);
    if let Some(tail) = bytes.get_mut(valid.min(PAGE)..) {
        tail.fill(0);
    }
}

/// Neighbouring bytes of a page that are neighbours on the disk too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) position: u64,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The page that holds byte `offset` of a file.
pub fn page_of(inode: u32, offset: u64) -> Option<PageKey> {
    let index = offset.checked_div(PAGE as u64)?;
    Some(PageKey { inode, index: u32::try_from(index).ok()? })
}
