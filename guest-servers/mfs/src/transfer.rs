//! Requests that move bytes to or from a user, and what is answered when a copy fails.
//!
//! A copy fails because a page of the user is not there. Ways to answer, chosen on the command line:
//! - `whole`: the request fails with the copy's error, whatever had moved;
//! - `partial`: the count so far if there is one, else the error. The kernel says exactly how far a failed copy got, so
//!   the count includes those bytes;
//! - `swallow`: as if the copy had succeeded. Wrong on purpose: it shows that the mark, not the answer, is what counts;
//! - `restart`, `efault`: every read is answered with that error and no copy made; the rest is as with `partial`. Wrong on
//!   purpose: VFS must let neither the one nor, unmarked, the other make it repeat anything.
//!
//! The one thing to hold in mind: VFS repeats the whole request when the grant is marked, so whatever an attempt leaves
//! behind must be what the next one overwrites, or nothing. A failed write gives back the zones it took behind the end
//! of the file, and leaves zeros in the page it was filling.

use alloc::vec;

use refault_abi::counters::Counter;
use refault_abi::fs::{Done, Io};
use refault_abi::options::FsReply;
use refault_abi::vfs::{Dirent, Stat};
use refault_abi::{Endpoint, Errno, GrantId, Result};
use refault_rt::kernel::Moved;
use zerocopy::IntoBytes;

use crate::mount::{Mounted, page_of};
use crate::system::{PAGE, PageKey, System};

/// Granted memory of a request.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// Who made the grant.
    pub granter: Endpoint,
    /// Its name.
    pub grant: GrantId,
}

/// What has moved so far, and how it ends.
pub(crate) struct Progress {
    mode: FsReply,
    done: u64,
    failure: Option<Errno>,
    /// The failure is a copy's, and not the disk's.
    by_copy: bool,
}

impl Progress {
    pub(crate) fn new(mode: FsReply) -> Self {
        Progress { mode, done: 0, failure: None, by_copy: false }
    }

    /// Takes a copy of `asked` bytes into account. False when the transfer ends here.
    pub(crate) fn copied<S: System>(&mut self, system: &mut S, asked: u64, moved: Moved) -> bool {
        let Err(error) = moved.result else {
            self.done = self.done.saturating_add(asked);
            return true;
        };
        system.count(Counter::FsCopyFailures, 1);
        if self.mode == FsReply::Swallow {
            self.done = self.done.saturating_add(asked);
            return true;
        }
        self.done = self.done.saturating_add(moved.bytes.min(asked));
        self.by_copy = true;
        self.fail(error);
        false
    }

    pub(crate) fn fail(&mut self, error: Errno) {
        self.failure = Some(error);
    }

    /// How many bytes the answer will own up to.
    pub(crate) fn counted(&self) -> u64 {
        if self.by_copy && self.mode == FsReply::Whole { 0 } else { self.done }
    }

    pub(crate) fn result<S: System>(&self, system: &mut S) -> Result<u64> {
        match self.failure {
            None => Ok(self.done),
            Some(error) if self.counted() == 0 => Err(error),
            Some(_) => {
                system.count(Counter::FsPartialResults, 1);
                Ok(self.counted())
            }
        }
    }
}

/// The two modes in which a read is answered without having been made.
pub(crate) fn refused(mode: FsReply) -> Result<()> {
    match mode {
        FsReply::Restart => Err(Errno::ERESTART),
        FsReply::Efault => Err(Errno::EFAULT),
        FsReply::Whole | FsReply::Partial | FsReply::Swallow => Ok(()),
    }
}

/// READ of a regular file.
pub fn read<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    mode: FsReply,
    from: Granted,
    io: &Io,
    number: u32,
) -> Result<Done> {
    refused(mode)?;
    let size = u64::from(mount.regular(system, number)?.size);
    let end = io.position.saturating_add(io.bytes).min(size);
    let mut progress = Progress::new(mode);
    let mut position = io.position;
    while position < end {
        let (key, within, count) = piece(number, position, end)?;
        let offset = position.saturating_sub(io.position);
        let moved = match lend(mount, system, key, (position, end), size) {
            Ok(Some(page)) => {
                let bytes = page.get(within..within.saturating_add(count)).ok_or(Errno::EIO)?;
                system.copy_to(from.granter, from.grant, offset, bytes)
            }
            // A hole needs no memory here.
            Ok(None) => system.zero(from.granter, from.grant, offset, count as u64),
            Err(error) => {
                progress.fail(error);
                break;
            }
        };
        if !progress.copied(system, count as u64, moved) {
            break;
        }
        position = position.saturating_add(count as u64);
    }
    let moved = progress.result(system)?;
    Ok(Done { result: signed(moved), position: io.position.saturating_add(moved), size })
}

/// The page of a file that a read of `(position, end)` goes on with, or nothing for one that is all hole.
fn lend<'m, S: System>(
    mount: &'m mut Mounted<S>,
    system: &mut S,
    key: PageKey,
    (position, end): (u64, u64),
    size: u64,
) -> Result<Option<&'m [u8]>> {
    if !mount.is_cached(key) {
        if mount.is_hole(system, key, size)? {
            return Ok(None);
        }
        mount.prefetch(system, key.inode, position, end, size);
    }
    mount.page(system, key, size).map(|cached| Some(cached.page.as_ref()))
}

/// WRITE of a regular file.
pub fn write<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    mode: FsReply,
    from: Granted,
    io: &Io,
    number: u32,
) -> Result<Done> {
    let old = u64::from(mount.regular(system, number)?.size);
    let limit = u64::from(mount.volume.superblock().max_file_size());
    let end = io.position.checked_add(io.bytes).ok_or(Errno::EFBIG)?.min(limit);
    if io.bytes == 0 {
        return Ok(Done { result: 0, position: io.position, size: old });
    }
    if io.position >= limit {
        return Err(Errno::EFBIG);
    }
    if io.position > old {
        // The rest of the last block becomes part of a hole, whatever the disk holds there.
        mount.zero_behind(system, number, old, old)?;
    }
    let mut progress = Progress::new(mode);
    let mut position = io.position;
    while position < end {
        let (key, within, asked) = piece(number, position, end)?;
        let count = match reserve(mount, system, number, position, asked, old) {
            Ok(count) => count,
            Err(error) => {
                progress.fail(error);
                break;
            }
        };
        let cached = match mount.page(system, key, old) {
            Ok(cached) => cached,
            Err(error) => {
                progress.fail(error);
                break;
            }
        };
        // Bytes may arrive even if the copy fails, and zones may have been holes.
        cached.dirty = true;
        let place = cached.page.as_mut().get_mut(within..within.saturating_add(count)).ok_or(Errno::EIO)?;
        let moved = system.copy_from(from.granter, from.grant, position.saturating_sub(io.position), place);
        if !progress.copied(system, count as u64, moved) {
            break;
        }
        position = position.saturating_add(count as u64);
    }
    let stored = progress.counted();
    let mut size = old;
    if stored > 0 {
        let end = io.position.saturating_add(stored);
        let grown = mount.change(system, |volume| volume.grow_to(number, end))?;
        size = grown.size.into();
    }
    if progress.failure.is_some() && end > size {
        // What was taken or filled behind the end of the file goes back.
        mount.zero_behind(system, number, size, size)?;
        mount.drop_from(system, number, size);
        mount.change(system, |volume| volume.trim(number))?;
    }
    let moved = progress.result(system)?;
    Ok(Done { result: signed(moved), position: io.position.saturating_add(moved), size })
}

/// Sees to it that the blocks of `[position, position + asked)`, which lie in one page, have zones; answers how many of
/// the bytes have, which are fewer only when the disk is full.
fn reserve<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    number: u32,
    position: u64,
    asked: usize,
    size: u64,
) -> Result<usize> {
    // The page first, while holes are still holes: what the disk holds in a zone just taken is somebody's old data.
    let (key, ..) = piece(number, position, position.saturating_add(1))?;
    mount.page(system, key, size)?;
    let block_size = u64::from(mount.volume.superblock().block_size());
    let end = position.saturating_add(asked as u64);
    let mut at = position;
    while at < end {
        let block =
            at.checked_div(block_size).and_then(|block| u32::try_from(block).ok()).ok_or(Errno::EFBIG)?;
        match mount.change(system, |volume| volume.map_for_write(number, block)) {
            // Before anything else is written, this page has to be: the zone holds somebody's old data until then.
            Ok(mapping) if mapping.fresh => mount.page(system, key, size)?.dirty = true,
            Ok(_) => {}
            Err(error) => {
                let reserved = usize::try_from(at.saturating_sub(position)).unwrap_or(0);
                return if reserved > 0 { Ok(reserved) } else { Err(error) };
            }
        }
        at = u64::from(block).saturating_add(1).saturating_mul(block_size);
    }
    Ok(asked)
}

/// PEEK: the pages of a range are brought in and announced to VM. Answers how many there were before the end of the
/// file: none for a range behind it.
pub fn peek<S: System>(mount: &mut Mounted<S>, system: &mut S, io: &Io, number: u32) -> Result<u64> {
    let size = u64::from(mount.regular(system, number)?.size);
    let end = io.position.saturating_add(io.bytes).min(size);
    system.count(Counter::FsPeeks, 1);
    let mut position = io.position;
    let mut announced = 0u64;
    while position < end {
        let (key, _, count) = piece(number, position, end)?;
        if !mount.is_cached(key) {
            mount.prefetch(system, number, position, end, size);
        }
        mount.announce(system, key, size)?;
        announced = announced.saturating_add(1);
        position = position.saturating_add(count as u64);
    }
    Ok(announced)
}

/// STAT.
pub fn stat<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    mode: FsReply,
    from: Granted,
    number: u32,
) -> Result<()> {
    let inode = mount.volume.inode(number).map_err(|error| mount.told(system, error))?;
    let block_size = mount.volume.superblock().block_size();
    // As if there were no holes: counting zones would read every indirect block.
    let blocks = inode.size.div_ceil(block_size).saturating_mul(block_size / 512);
    let stat = Stat {
        device: mount.device,
        inode: number.into(),
        mode: inode.mode().into(),
        links: inode.links.into(),
        uid: inode.uid.into(),
        gid: inode.gid.into(),
        size: inode.size.into(),
        blocks: blocks.into(),
        atime: inode.accessed.into(),
        mtime: inode.modified.into(),
        ctime: inode.changed.into(),
    };
    whole(system, mode, from, stat.as_bytes())
}

/// GETDENTS: whole entries, as many as fit into the user's memory and a page.
pub fn getdents<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    mode: FsReply,
    from: Granted,
    io: &Io,
    number: u32,
) -> Result<Done> {
    let room = usize::try_from(io.bytes).unwrap_or(PAGE).min(PAGE);
    let mut buffer = vec![0u8; room];
    let mut used = 0usize;
    // A position no directory can have is behind the end of all.
    let mut position = u32::try_from(io.position).map_err(|_| Errno::EINVAL)?;
    let size = mount.volume.inode(number).map_err(|error| mount.told(system, error))?.size.into();
    while let Some(entry) =
        mount.volume.next_entry(number, position).map_err(|error| mount.told(system, error))?
    {
        let name = entry.name();
        let header = size_of::<Dirent>();
        let record = header.saturating_add(name.len()).next_multiple_of(8);
        let Some(place) = buffer.get_mut(used..used.saturating_add(record)) else {
            if used == 0 {
                return Err(Errno::EINVAL);
            }
            break;
        };
        let dirent = Dirent {
            inode: entry.inode.into(),
            next: entry.next.into(),
            record: u16::try_from(record).unwrap_or(u16::MAX),
            name: u16::try_from(name.len()).unwrap_or(0),
            reserved: 0,
        };
        let (head, rest) = place.split_at_mut_checked(header).ok_or(Errno::EIO)?;
        head.copy_from_slice(dirent.as_bytes());
        rest.get_mut(..name.len()).ok_or(Errno::EIO)?.copy_from_slice(name);
        used = used.saturating_add(record);
        position = entry.next;
    }
    if used > 0 {
        // One copy: a part of the entries would have to end between two, and cannot.
        whole(system, mode, from, buffer.get(..used).unwrap_or_default())?;
    }
    Ok(Done { result: signed(used as u64), position: position.into(), size })
}

/// RDLINK.
pub fn readlink<S: System>(
    mount: &mut Mounted<S>,
    system: &mut S,
    mode: FsReply,
    from: Granted,
    io: &Io,
    number: u32,
) -> Result<Done> {
    let mut buffer = [0u8; PAGE];
    let length = mount.volume.readlink(number, &mut buffer).map_err(|error| mount.told(system, error))?;
    let count = usize::try_from(io.bytes).unwrap_or(usize::MAX).min(length);
    if count > 0 {
        whole(system, mode, from, buffer.get(..count).ok_or(Errno::EIO)?)?;
    }
    Ok(Done { result: signed(count as u64), position: 0, size: length as u64 })
}

/// A copy that is one piece: there is no count so far, so `partial` fails like `whole`.
fn whole<S: System>(system: &mut S, mode: FsReply, from: Granted, bytes: &[u8]) -> Result<()> {
    let moved = system.copy_to(from.granter, from.grant, 0, bytes);
    if let Err(error) = moved.result {
        system.count(Counter::FsCopyFailures, 1);
        return if mode == FsReply::Swallow { Ok(()) } else { Err(error) };
    }
    Ok(())
}

/// The part of `[position, end)` that lies in the page of `position`: the page, the first byte in it, and how many.
fn piece(number: u32, position: u64, end: u64) -> Result<(PageKey, usize, usize)> {
    let key = page_of(number, position).ok_or(Errno::EFBIG)?;
    let within = usize::try_from(position.saturating_sub(key.offset())).map_err(|_| Errno::EFBIG)?;
    let left = usize::try_from(end.saturating_sub(position)).unwrap_or(PAGE);
    Ok((key, within, PAGE.saturating_sub(within).min(left)))
}

pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
