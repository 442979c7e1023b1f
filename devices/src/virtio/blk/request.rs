//! From a descriptor chain to a request, reading everything exactly once.
//!
//! A chain is two streams of bytes: what the driver gives (header, then data of a write) and what it takes (data
//! of a read, then one status byte, which is the very last). Where one descriptor ends and the next begins
//! means nothing, so all legal layouts are one case here.
//!
//! The one thing to hold in mind: the driver can rewrite descriptors and header at any time. What
//! `parse` returns carries all that doing and completing the request will need; nothing is looked up again.
//!
//! What this is not: no I/O happens here, and a malformed chain is an ordinary result.

use libc::iovec;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_queue::DescriptorChain;
use vm_memory::bitmap::Bitmap;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::engine::GuestIov;
use super::image::SECTOR;
use crate::virtio::GuestRam;

/// Bytes of the request header: type, reserved word, sector.
const HEADER: usize = 16;
/// Bytes of the answer to a request for the disk's name.
pub(super) const ID_LEN: usize = VIRTIO_BLK_ID_BYTES as usize;

/// What the disk allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub sectors: u64,
    pub read_only: bool,
    /// Most descriptors in one chain.
    pub descriptors: usize,
}

/// What a chain asks for.
pub(super) enum Ask {
    Read {
        offset: u64,
        data: GuestIov,
    },
    Write {
        offset: u64,
        data: GuestIov,
    },
    Flush,
    /// The first [`ID_LEN`] bytes of the data.
    Id {
        at: Vec<(GuestAddress, usize)>,
    },
    /// A type that this disk does not have.
    Unsupported,
    /// A request that cannot be done, or makes no sense.
    Bad(Malformed),
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It loops, leaves its table, is too long, or a descriptor cannot be read.
    #[error("the chain of descriptors has no end")]
    Endless,
    /// A descriptor that the device reads comes after one that it writes.
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// Fewer readable bytes than a header has.
    #[error("the header is short")]
    ShortHeader,
    /// An address that is not guest memory.
    #[error("a buffer is not in guest memory")]
    NotMemory,
    /// Not a number of sectors.
    #[error("the data is not a whole number of sectors")]
    Partial,
    /// Sectors that the disk does not have.
    #[error("the data lies beyond the end of the disk")]
    BeyondEnd,
    /// A write to a disk that takes none.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Less room than the answer needs.
    #[error("the buffer is too small for the answer")]
    SmallBuffer,
}

/// A chain, understood.
pub(super) struct Request {
    pub head: u16,
    /// Where the status goes; `None` if the chain has no writable byte in guest memory at its end.
    pub status: Option<GuestAddress>,
    pub ask: Ask,
}

/// Reads a chain.
pub(super) fn parse(chain: DescriptorChain<GuestRam>, ram: &GuestRam, limits: Limits) -> Request {
    let head = chain.head_index();
    let mut streams = match Streams::read(chain, limits.descriptors) {
        Ok(streams) => streams,
        Err(malformed) => return Request { head, status: None, ask: Ask::Bad(malformed) },
    };
    let status =
        streams.takes.pop_last().filter(|at| GuestMemory::check_range(&**ram, *at, 1, Permissions::Write));
    let ask = ask(&mut streams, ram, limits).unwrap_or_else(Ask::Bad);
    Request { head, status, ask }
}

fn ask(streams: &mut Streams, ram: &GuestRam, limits: Limits) -> Result<Ask, Malformed> {
    if !streams.ordered {
        return Err(Malformed::Order);
    }
    let (kind, sector) = header(&mut streams.gives, ram)?;
    match kind {
        VIRTIO_BLK_T_IN => {
            let offset = range(sector, &streams.takes, limits)?;
            Ok(Ask::Read { offset, data: streams.takes.iov(ram, Permissions::Write)? })
        }
        VIRTIO_BLK_T_OUT if limits.read_only => Err(Malformed::ReadOnly),
        VIRTIO_BLK_T_OUT => {
            let offset = range(sector, &streams.gives, limits)?;
            Ok(Ask::Write { offset, data: streams.gives.iov(ram, Permissions::Read)? })
        }
        VIRTIO_BLK_T_FLUSH => Ok(Ask::Flush),
        VIRTIO_BLK_T_GET_ID => {
            let at = streams.takes.split_front(ID_LEN).ok_or(Malformed::SmallBuffer)?;
            let in_ram = |&(at, len): &_| GuestMemory::check_range(&**ram, at, len, Permissions::Write);
            if !at.iter().all(in_ram) {
                return Err(Malformed::NotMemory);
            }
            Ok(Ask::Id { at })
        }
        _ => Ok(Ask::Unsupported),
    }
}

/// Takes the header off the front of what the driver gives.
fn header(gives: &mut Stream, ram: &GuestRam) -> Result<(u32, u64), Malformed> {
    let mut bytes = [0; HEADER];
    let mut rest = bytes.as_mut_slice();
    for (at, len) in gives.split_front(HEADER).ok_or(Malformed::ShortHeader)? {
        let (piece, after) = rest.split_at_mut_checked(len).ok_or(Malformed::ShortHeader)?;
        ram.read_slice(piece, at).map_err(|_| Malformed::NotMemory)?;
        rest = after;
    }
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = bytes;
    Ok((u32::from_le_bytes([t0, t1, t2, t3]), u64::from_le_bytes(sector)))
}

/// Byte offset in the image of `data` at `sector`, if all of it is on the disk.
fn range(sector: u64, data: &Stream, limits: Limits) -> Result<u64, Malformed> {
    if !data.len.is_multiple_of(SECTOR) {
        return Err(Malformed::Partial);
    }
    let end = sector.checked_add(data.len / SECTOR).ok_or(Malformed::BeyondEnd)?;
    if end > limits.sectors {
        return Err(Malformed::BeyondEnd);
    }
    sector.checked_mul(SECTOR).ok_or(Malformed::BeyondEnd)
}

/// The two directions of a chain.
struct Streams {
    gives: Stream,
    takes: Stream,
    ordered: bool,
}

impl Streams {
    fn read(chain: DescriptorChain<GuestRam>, most: usize) -> Result<Self, Malformed> {
        let mut streams = Self { gives: Stream::default(), takes: Stream::default(), ordered: true };
        let mut more = true;
        for (index, descriptor) in chain.enumerate() {
            if index >= most {
                return Err(Malformed::Endless);
            }
            more = descriptor.has_next();
            if descriptor.is_write_only() {
                streams.takes.push(descriptor.addr(), descriptor.len());
            } else {
                streams.ordered &= streams.takes.pieces.is_empty();
                streams.gives.push(descriptor.addr(), descriptor.len());
            }
        }
        // The iterator also ends where it cannot go on. Then the last descriptor seen (if any) names another.
        if more { Err(Malformed::Endless) } else { Ok(streams) }
    }
}

/// Bytes in guest memory, in pieces; no piece is empty.
#[derive(Default)]
struct Stream {
    pieces: Vec<(GuestAddress, usize)>,
    len: u64,
}

impl Stream {
    fn push(&mut self, at: GuestAddress, len: u32) {
        // An empty descriptor carries nothing, wherever it points.
        if let (1.., Ok(bytes)) = (len, usize::try_from(len)) {
            self.pieces.push((at, bytes));
            self.len = self.len.saturating_add(u64::from(len));
        }
    }

    /// Takes the last byte.
    fn pop_last(&mut self) -> Option<GuestAddress> {
        let (at, len) = self.pieces.last_mut()?;
        *len = len.checked_sub(1)?;
        let last = at.0.checked_add(u64::try_from(*len).ok()?);
        if *len == 0 {
            self.pieces.pop();
        }
        self.len = self.len.saturating_sub(1);
        last.map(GuestAddress)
    }

    /// Takes the first `count` bytes; nothing if there are not as many.
    fn split_front(&mut self, count: usize) -> Option<Vec<(GuestAddress, usize)>> {
        let wanted = u64::try_from(count).ok()?;
        let left = self.len.checked_sub(wanted)?;
        let mut front = Vec::new();
        let mut missing = count;
        let mut whole = 0usize;
        for (at, len) in &mut self.pieces {
            if missing == 0 {
                break;
            }
            let taken = missing.min(*len);
            front.push((*at, taken));
            missing = missing.checked_sub(taken)?;
            *len = len.checked_sub(taken)?;
            if *len == 0 {
                whole = whole.checked_add(1)?;
            } else {
                // An address that wraps is no memory; the largest is none either and does not wrap again.
                *at = GuestAddress(at.0.saturating_add(u64::try_from(taken).ok()?));
            }
        }
        self.pieces.drain(..whole);
        self.len = left;
        Some(front)
    }

    /// The host memory behind the bytes.
    fn iov(&self, ram: &GuestRam, access: Permissions) -> Result<GuestIov, Malformed> {
        let mut iov = Vec::with_capacity(self.pieces.len());
        for &(at, len) in &self.pieces {
            let slices =
                GuestMemory::get_slices(&**ram, at, len, access).map_err(|_| Malformed::NotMemory)?;
            for slice in slices {
                let slice = slice.map_err(|_| Malformed::NotMemory)?;
                if access.has_write() {
                    // Whoever carries the request out writes behind the back of the view.
                    slice.bitmap().mark_dirty(0, slice.len());
                }
                iov.push(iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() });
            }
        }
        Ok(GuestIov::new(iov, ram.clone()))
    }
}
