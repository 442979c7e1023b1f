//! The overlay engine: a disk whose image is never changed, because what is written goes to memory beside it.
//!
//! The disk is three layers of pieces of [`PIECE`] bytes: the image, what had been changed at the *mark*, and what was changed
//! since. A read takes each piece from the topmost layer that has it; a write copies a piece into the top layer when it touches
//! it for the first time. Going back to the mark is dropping the top layer.
//!
//! The one thing to hold in mind: [`Overlay`] is a handle. The engine inside the device has another one, and every request is
//! carried out wholly under one lock, so that what a handle sees is never half of a request.
//!
//! What this is not: durable. A flush has nothing to do, since the contents live as long as the handles.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use libc::iovec;
use vm_memory::{Bytes, VolatileSlice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Completion, Engine, GuestIov, Job, Op};
use crate::sync::lock;
use crate::virtio::blk::image::{Image, ImageError, SECTOR};

#[cfg(test)]
mod tests;

/// Bytes of a piece. The last piece of an image may have fewer.
pub const PIECE: usize = 4096;

/// Changed pieces by their number.
pub type Pieces = BTreeMap<u64, Box<[u8]>>;

/// Why an image cannot be under an overlay.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// No sectors, or not a number of them.
    #[error(
        "An image of {0} bytes cannot be a disk; it needs a multiple of {SECTOR} bytes, and at least one sector"
    )]
    Size(usize),
    /// The image's file.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image's file is too big for this machine's memory, or ended early.
    #[error("Cannot read the disk image {} into memory", path.display())]
    Read {
        /// The image asked for.
        path: std::path::PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

/// A disk in memory over an image that stays as it is. Clones are handles of the same disk.
#[derive(Clone, Debug)]
pub struct Overlay(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    base: Arc<[u8]>,
    layers: Mutex<Layers>,
}

#[derive(Debug, Default)]
struct Layers {
    /// Changed when the mark was set, and not touched since.
    marked: Pieces,
    /// Changed since.
    since: Pieces,
}

impl Overlay {
    /// A disk that reads as `base` until it is written to.
    pub fn new(base: Arc<[u8]>) -> Result<Self, OverlayError> {
        if base.is_empty() || !(base.len() as u64).is_multiple_of(SECTOR) {
            return Err(OverlayError::Size(base.len()));
        }
        Ok(Self(Arc::new(Shared { base, layers: Mutex::default() })))
    }

    /// The same, of a file that is read here, once, and not needed afterwards. Another machine that is writing it is an error.
    pub fn open(path: &Path) -> Result<Self, OverlayError> {
        let failed = |source| OverlayError::Read { path: path.to_owned(), source };
        let image = Image::open(path, true)?;
        let len = image.sectors().checked_mul(SECTOR).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(|| failed(io::ErrorKind::FileTooLarge.into()))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        bytes.resize(len, 0);
        image.file().read_exact_at(&mut bytes, 0).map_err(failed)?;
        Self::new(bytes.into())
    }

    /// The image under the disk.
    pub fn base(&self) -> &Arc<[u8]> {
        &self.0.base
    }

    /// Size in sectors, at least one.
    pub fn sectors(&self) -> u64 {
        self.0.base.len() as u64 / SECTOR
    }

    /// Copies of all pieces that were written to, in either layer, by their number.
    pub fn changed(&self) -> Arc<Pieces> {
        let layers = lock(&self.0.layers);
        let mut all = layers.marked.clone();
        all.extend(layers.since.iter().map(|(number, piece)| (*number, piece.clone())));
        Arc::new(all)
    }

    /// Sets the mark at the contents of now.
    pub fn mark(&self) {
        let Layers { marked, since } = &mut *lock(&self.0.layers);
        marked.append(since);
    }

    /// Goes back to the mark; without one, to the image.
    pub fn reset_to_mark(&self) {
        // The pieces are given back to the allocator without the lock.
        let dropped = std::mem::take(&mut lock(&self.0.layers).since);
        drop(dropped);
    }

    /// Goes back to the image, and forgets the mark.
    pub fn reset(&self) {
        let dropped = std::mem::take(&mut *lock(&self.0.layers));
        drop(dropped);
    }

    /// Carries out one job.
    fn carry_out(&self, job: &mut Job) -> io::Result<()> {
        if job.op == Op::Flush {
            return Ok(());
        }
        let base = &*self.0.base;
        let layers = &mut *lock(&self.0.layers);
        let mut at = usize::try_from(job.offset).map_err(io::Error::other)?;
        while let Some(memory) = first(&job.data) {
            // All of the request lies on the disk, or the caller has made a mistake.
            let (number, inside) = (at / PIECE, at % PIECE);
            let start = at.saturating_sub(inside);
            let end = start.saturating_add(PIECE).min(base.len());
            let under = base.get(start..end).filter(|piece| inside < piece.len());
            let under = under.ok_or(io::ErrorKind::UnexpectedEof)?;
            let count = under.len().saturating_sub(inside).min(memory.len());
            let part = inside..inside.saturating_add(count);
            match job.op {
                Op::Read => {
                    let bytes = layers.piece(number as u64).unwrap_or(under).get(part);
                    memory.write_slice(bytes.unwrap_or_default(), 0).map_err(io::Error::other)?;
                }
                _ => {
                    let bytes = layers.own(number as u64, under).get_mut(part);
                    memory.read_slice(bytes.unwrap_or_default(), 0).map_err(io::Error::other)?;
                }
            }
            job.data.advance(count);
            at = at.saturating_add(count);
        }
        Ok(())
    }
}

impl Layers {
    /// A changed piece as it is now.
    fn piece(&self, number: u64) -> Option<&[u8]> {
        self.since.get(&number).or_else(|| self.marked.get(&number)).map(|piece| &**piece)
    }

    /// A piece of the top layer, copied there if it was not; `under` is what the image has.
    fn own(&mut self, number: u64, under: &[u8]) -> &mut [u8] {
        let marked = &self.marked;
        self.since.entry(number).or_insert_with(|| match marked.get(&number) {
            Some(piece) => piece.clone(),
            None => under.into(),
        })
    }
}

/// The next piece of guest memory of a job.
fn first(data: &GuestIov) -> Option<VolatileSlice<'_>> {
    let &iovec { iov_base, iov_len } = data.left().first()?;
    // SAFETY: a `GuestIov` holds the mapping that its pieces lie in, and is borrowed as long as the slice lives. Guest memory is
    // not behind any Rust reference.
    Some(unsafe { VolatileSlice::new(iov_base.cast(), iov_len) })
}

/// The engine of an [`Overlay`]: a job is done when it is submitted.
pub struct OverlayEngine {
    disk: Overlay,
    done: Vec<Completion>,
    /// Never signalled.
    event: EventFd,
}

impl OverlayEngine {
    /// An engine on `disk`.
    pub fn new(disk: Overlay) -> io::Result<Self> {
        Ok(Self { disk, done: Vec::new(), event: EventFd::new(EFD_NONBLOCK)? })
    }
}

impl Engine for OverlayEngine {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn submit(&mut self, mut job: Job) {
        let result = self.disk.carry_out(&mut job);
        self.done.push(Completion { token: job.token, result });
    }

    fn push(&mut self) {}

    fn synchronous(&self) -> bool {
        true
    }

    fn completion_event(&self) -> &EventFd {
        &self.event
    }

    fn take(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn drain(&mut self, done: &mut Vec<Completion>) {
        self.take(done);
    }
}
