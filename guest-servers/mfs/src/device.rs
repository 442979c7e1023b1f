//! The disk itself, as bytes, beside the file system that is mounted from it: BREAD, BWRITE, BPEEK.
//!
//! # The one thing to hold in mind
//! There are three copies of what is on a disk: the disk, the metadata buffers, the file pages. They are kept the same thus:
//! - Before anything else, everything dirty is written back. From then on the disk is the truth.
//! - Reading reads the disk.
//! - Writing writes the disk, then makes the caches follow: metadata buffers under the range are dropped; a file page whose
//!   blocks lie in it, or whose blocks or size are others by the new metadata, is read again *into the frame it has*, so
//!   that processes which map it see the change. A page that only VM still has is forgotten there: who maps it keeps a
//!   snapshot, which is what a private mapping promises.
//! - A page of the device is announced to VM for one use only. VM's cache thus never holds one that files are written
//!   behind the back of; a mapping of the device shows the moment of its page-in.
//!
//! The superblock is read at mount. Writing another one changes nothing until the next mount.
//!
//! A failed copy is answered as for files (`transfer.rs`). Bytes that arrived and are not counted (`fs=whole`) are not
//! written, except for those of whole pages before the one that failed: the repetition writes them again.

use alloc::vec;

use refault_abi::counters::Counter;
use refault_abi::fs::{DEVICE_INODE, Done, Io};
use refault_abi::options::FsReply;
use refault_abi::{Errno, Result};
use refault_minixfs::Access;

use crate::follow::Written;
use crate::mount::{Mounted, page_of};
use crate::system::{Disk, PAGE, PageKey, System};
use crate::transfer::{Granted, Progress, refused, signed};

/// Bytes moved between disk and buffer at once.
const WINDOW: u64 = 16 * PAGE as u64;
/// Unit of what a driver moves.
const SECTOR: u64 = 512;

/// The part of a request that one buffer holds: where the buffer begins on the disk, its bytes, and where the requested ones
/// begin and end in it.
struct Window {
    position: u64,
    bytes: usize,
    first: usize,
    last: usize,
}

impl Window {
    /// Of `[position, end)`, on a disk of `size` bytes: the whole pages around it.
    fn new(position: u64, end: u64, size: u64) -> Result<Self> {
        let page = PAGE as u64;
        let start = position.saturating_sub(position.checked_rem(page).unwrap_or(0));
        let end = end.min(start.saturating_add(WINDOW));
        // The last page of a disk may be part of one.
        let bytes = end.next_multiple_of(page).min(size).saturating_sub(start);
        let length = |bytes: u64| usize::try_from(bytes).map_err(|_| Errno::EINVAL);
        Ok(Window {
            position: start,
            bytes: length(bytes)?,
            first: length(position.saturating_sub(start))?,
            last: length(end.saturating_sub(start))?,
        })
    }

    /// Its pages, by the bytes of the request in each.
    fn pieces(&self) -> impl Iterator<Item = (usize, usize)> {
        let last = self.last;
        let next = move |at: usize| at.saturating_add(1).next_multiple_of(PAGE).min(last);
        core::iter::successors(Some((self.first, next(self.first))), move |&(_, end)| Some((end, next(end))))
            .take_while(move |&(start, _)| start < last)
    }
}

/// BREAD. Asks the driver for the size each time; nothing behind the end.
pub fn read<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    mode: FsReply,
    from: Granted,
    io: &Io,
) -> Result<Done> {
    refused(mode)?;
    let size = size(mount)?;
    let end = io.position.saturating_add(io.bytes).min(size);
    let mut progress = Progress::new(mode);
    let mut position = io.position;
    if position < end {
        mount.write_all(system)?;
    }
    let mut buffer = vec![0u8; usize::try_from(WINDOW.min(size)).unwrap_or(PAGE)];
    'request: while position < end {
        let window = Window::new(position, end, size)?;
        let bytes = buffer.get_mut(..window.bytes).ok_or(Errno::EIO)?;
        if let Err(error) = mount.disk.read(window.position, bytes) {
            progress.fail(error);
            break;
        }
        for (first, last) in window.pieces() {
            let piece = bytes.get(first..last).ok_or(Errno::EIO)?;
            let offset = position.saturating_sub(io.position);
            let moved = system.copy_to(from.granter, from.grant, offset, piece);
            if !progress.copied(system, piece.len() as u64, moved) {
                break 'request;
            }
            position = position.saturating_add(piece.len() as u64);
        }
    }
    let moved = progress.result(system)?;
    Ok(Done { result: signed(moved), position: io.position.saturating_add(moved), size })
}

/// BWRITE. ENOSPC at the end, EROFS on a read-only disk or mount.
pub fn write<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    mode: FsReply,
    from: Granted,
    io: &Io,
) -> Result<Done> {
    let size = size(mount)?;
    let end = io.position.saturating_add(io.bytes).min(size);
    if io.bytes == 0 {
        return Ok(Done { result: 0, position: io.position, size });
    }
    if mount.volume.access() == Access::ReadOnly {
        return Err(Errno::EROFS);
    }
    if io.position >= size {
        return Err(Errno::ENOSPC);
    }
    mount.write_all(system)?;
    let before = mount.written_pages(system);
    let mut progress = Progress::new(mode);
    let mut buffer = vec![0u8; usize::try_from(WINDOW.min(size)).unwrap_or(PAGE)];
    let mut position = io.position;
    while position < end {
        let window = Window::new(position, end, size)?;
        let bytes = buffer.get_mut(..window.bytes).ok_or(Errno::EIO)?;
        match fill(mount, system, &mut progress, from, io, &window, bytes) {
            Ok(Some(count)) => position = position.saturating_add(count),
            Ok(None) => break,
            Err(error) => {
                progress.fail(error);
                break;
            }
        }
    }
    // Also what is not counted may have been written.
    mount.follow(system, Written { position: io.position, end }, &before);
    let moved = progress.result(system)?;
    Ok(Done { result: signed(moved), position: io.position.saturating_add(moved), size })
}

/// One window of BWRITE: what is there, the user's bytes over it, and back. Answers how many bytes that were, or nothing when
/// a copy failed.
fn fill<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    progress: &mut Progress,
    from: Granted,
    io: &Io,
    window: &Window,
    bytes: &mut [u8],
) -> Result<Option<u64>> {
    mount.disk.read(window.position, bytes)?;
    let before = progress.counted();
    let mut failed = false;
    for (first, last) in window.pieces() {
        let piece = bytes.get_mut(first..last).ok_or(Errno::EIO)?;
        let length = piece.len() as u64;
        let offset = window.position.saturating_add(first as u64).saturating_sub(io.position);
        let moved = system.copy_from(from.granter, from.grant, offset, piece);
        if !progress.copied(system, length, moved) {
            failed = true;
            break;
        }
    }
    // The sectors that hold what is counted; the rest of the last one is what was there.
    let count = progress.counted().saturating_sub(before);
    let end = (window.first as u64).saturating_add(count);
    let bytes = match usize::try_from(end.next_multiple_of(SECTOR)) {
        Ok(end) if count > 0 => bytes.get(..end.min(bytes.len())).unwrap_or_default(),
        _ => return Ok(None),
    };
    mount.disk.write(window.position, bytes)?;
    Ok((!failed).then_some(count))
}

/// BPEEK: pages of the disk are brought in and announced to VM. Answers how many there were before the end.
pub fn peek<S: System>(mount: &mut Mounted<S>, system: &mut S, io: &Io) -> Result<u64> {
    system.count(Counter::FsPeeks, 1);
    let size = size(mount)?;
    let end = io.position.saturating_add(io.bytes).min(size);
    let mut position = io.position;
    if position < end {
        mount.write_all(system)?;
    }
    let mut announced = 0u64;
    while position < end {
        let inode = u32::try_from(DEVICE_INODE).map_err(|_| Errno::EINVAL)?;
        let key = page_of(inode, position).ok_or(Errno::EFBIG)?;
        let there = usize::try_from(size.saturating_sub(key.offset())).unwrap_or(PAGE).min(PAGE);
        announce(mount, system, key, there)?;
        announced = announced.saturating_add(1);
        position = key.offset().saturating_add(PAGE as u64);
    }
    Ok(announced)
}

/// One page of the disk, of which so many bytes exist, to VM.
fn announce<S: System>(mount: &mut Mounted<S>, system: &mut S, key: PageKey, there: usize) -> Result<()> {
    let mut page = system.page()?;
    let filled = match page.as_mut().split_at_mut_checked(there) {
        Some((bytes, rest)) => {
            rest.fill(0);
            mount.disk.read(key.offset(), bytes)
        }
        None => Err(Errno::EIO),
    };
    let told = filled.and_then(|()| system.announce(mount.device, key, &page, true));
    system.release(page, told.is_ok());
    told
}

/// Bytes of the device, as its driver says.
fn size<S: System>(mount: &mut Mounted<S>) -> Result<u64> {
    let geometry = mount.disk.geometry()?;
    Errno::check(geometry.result)?;
    Ok(geometry.bytes)
}
