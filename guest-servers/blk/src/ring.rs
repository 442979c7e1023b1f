//! A split virtqueue, the driver's side (virtio 1.2, 2.7).
//!
//! The one thing to hold in mind: the device reads and writes the same page at the same time, so every word is
//! an atomic and the order of stores is the protocol. The device is believed about data, not about indices.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// Most entries of a ring, so that all three parts fit one page.
pub const MAX_SIZE: u16 = 128;
const MAX: usize = MAX_SIZE as usize;

/// Descriptor flag: another one follows.
const NEXT: u64 = 1;
/// Descriptor flag: the device writes.
const DEVICE_WRITES: u64 = 2;
/// Descriptor flag: it names a table of descriptors.
const INDIRECT: u64 = 4;
/// Avail flag: no interrupts, please (without EVENT_IDX).
const NO_INTERRUPT: u16 = 1;
/// Used flag: no notifications needed (without EVENT_IDX).
const NO_NOTIFY: u16 = 1;

/// A descriptor as the device reads it.
#[derive(Debug)]
#[repr(C)]
pub struct RawDescriptor {
    address: AtomicU64,
    /// Length (bits 0-31), flags (32-47), next (48-63).
    rest: AtomicU64,
}

/// The ring's page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Memory {
    descriptors: [RawDescriptor; MAX],
    avail_flags: AtomicU16,
    avail_index: AtomicU16,
    /// Heads; behind the ring's real size follows `used_event`.
    avail: [AtomicU16; MAX + 2],
    used_flags: AtomicU16,
    used_index: AtomicU16,
    /// Pairs of head and length; behind the ring's real size follows `avail_event`.
    used: [AtomicU32; 2 * MAX + 1],
}

const _: () = assert!(size_of::<Memory>() == 4096);
const _: () = assert!(core::mem::offset_of!(Memory, used_flags).is_multiple_of(4));

/// Offset of the avail ring in the page.
pub const AVAIL_OFFSET: u64 = core::mem::offset_of!(Memory, avail_flags) as u64;
/// Offset of the used ring in the page.
pub const USED_OFFSET: u64 = core::mem::offset_of!(Memory, used_flags) as u64;

/// One piece of memory of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// GPA.
    pub address: u64,
    /// Bytes.
    pub bytes: u32,
    /// The device writes it.
    pub device_writes: bool,
}

/// Stores the descriptor for a piece; `next` is the descriptor that follows.
fn store(place: &RawDescriptor, piece: &Piece, extra: u64, next: Option<u16>) {
    let mut flags = extra;
    if piece.device_writes {
        flags |= DEVICE_WRITES;
    }
    if next.is_some() {
        flags |= NEXT;
    }
    let rest = u64::from(piece.bytes) | (flags << 32) | (u64::from(next.unwrap_or(0)) << 48);
    place.address.store(piece.address, Ordering::Relaxed);
    place.rest.store(rest, Ordering::Relaxed);
}

/// The device used a buffer that was never given to it, or ran ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// A buffer the device has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The request's first descriptor.
    pub head: u16,
    /// Bytes the device wrote.
    pub bytes: u32,
}

/// The driver's side of a ring.
#[derive(Debug)]
pub struct Ring<'m> {
    memory: &'m Memory,
    size: u16,
    event_index: bool,
    free: u16,
    free_count: u16,
    next: [u16; MAX],
    /// Descriptors of the chain that starts here; 0 when none does.
    chain: [u16; MAX],
    avail_index: u16,
    published: u16,
    used_index: u16,
}

impl<'m> Ring<'m> {
    /// Over zeroed memory. `size` is a power of two, at most [`MAX_SIZE`].
    pub fn new(memory: &'m Memory, size: u16, event_index: bool) -> Ring<'m> {
        let mut next = [0; MAX];
        for (index, place) in next.iter_mut().enumerate() {
            *place = index as u16 + 1;
        }
        let size = size.clamp(1, MAX_SIZE);
        Ring {
            memory,
            size,
            event_index,
            free: 0,
            free_count: size,
            next,
            chain: [0; MAX],
            avail_index: 0,
            published: 0,
            used_index: 0,
        }
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index % self.size)
    }

    fn take(&mut self) -> Option<u16> {
        if self.free_count == 0 {
            return None;
        }
        let index = self.free;
        self.free = *self.next.get(usize::from(index))?;
        self.free_count -= 1;
        Some(index)
    }

    /// Puts a request into the avail ring; `None` when too few descriptors are free. The device sees it after
    /// [`Ring::publish`].
    pub fn add(&mut self, pieces: &[Piece]) -> Option<u16> {
        if pieces.is_empty() || pieces.len() > usize::from(self.free_count) {
            return None;
        }
        let head = self.free;
        for (number, piece) in pieces.iter().enumerate() {
            let index = self.take()?;
            let follows = (number + 1 < pieces.len()).then_some(self.free);
            store(self.memory.descriptors.get(usize::from(index))?, piece, 0, follows);
        }
        self.offer(head, pieces.len() as u16)
    }

    /// The same through a table of descriptors at `address`, which has room for the pieces.
    pub fn add_indirect(&mut self, table: &[RawDescriptor], address: u64, pieces: &[Piece]) -> Option<u16> {
        if pieces.is_empty() || pieces.len() > table.len() || self.free_count == 0 {
            return None;
        }
        for (number, (place, piece)) in table.iter().zip(pieces).enumerate() {
            let follows = (number + 1 < pieces.len()).then_some(number as u16 + 1);
            store(place, piece, 0, follows);
        }
        let head = self.take()?;
        let bytes = (pieces.len() * size_of::<RawDescriptor>()) as u32;
        let piece = Piece { address, bytes, device_writes: false };
        store(self.memory.descriptors.get(usize::from(head))?, &piece, INDIRECT, None);
        self.offer(head, 1)
    }

    fn offer(&mut self, head: u16, length: u16) -> Option<u16> {
        *self.chain.get_mut(usize::from(head))? = length;
        self.memory.avail.get(self.slot(self.avail_index))?.store(head, Ordering::Relaxed);
        self.avail_index = self.avail_index.wrapping_add(1);
        Some(head)
    }

    /// Lets the device see what was added; answers whether it has to be notified.
    pub fn publish(&mut self) -> bool {
        self.memory.avail_index.store(self.avail_index, Ordering::Release);
        // The device writes its wish, then reads the index; here it is the other way round.
        fence(Ordering::SeqCst);
        let (old, new) = (self.published, self.avail_index);
        self.published = new;
        if self.event_index {
            let event = self.memory.used.get(2 * usize::from(self.size));
            let event = event.map_or(old, |word| word.load(Ordering::Relaxed) as u16);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            old != new && self.memory.used_flags.load(Ordering::Relaxed) & NO_NOTIFY == 0
        }
    }

    /// Asks for an interrupt at the next used buffer, or for none. After asking, what is used already must be
    /// looked at once more.
    pub fn want_interrupt(&mut self, wanted: bool) {
        if self.event_index {
            // One behind is 65535 ahead: far enough.
            let event = if wanted { self.used_index } else { self.used_index.wrapping_sub(1) };
            if let Some(place) = self.memory.avail.get(usize::from(self.size)) {
                place.store(event, Ordering::Relaxed);
            }
        } else {
            self.memory.avail_flags.store(if wanted { 0 } else { NO_INTERRUPT }, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Whether a used buffer waits.
    pub fn has_used(&self) -> bool {
        self.memory.used_index.load(Ordering::Acquire) != self.used_index
    }

    /// Takes a used buffer; its descriptors are free again.
    pub fn next_used(&mut self) -> Result<Option<Used>, Nonsense> {
        if !self.has_used() {
            return Ok(None);
        }
        let ahead = self.memory.used_index.load(Ordering::Acquire).wrapping_sub(self.used_index);
        if ahead > self.size {
            return Err(Nonsense);
        }
        let place = 2 * self.slot(self.used_index);
        let word = |index: usize| self.memory.used.get(index).map(|word| word.load(Ordering::Relaxed));
        let (head, bytes) = word(place).zip(word(place + 1)).ok_or(Nonsense)?;
        let head = u16::try_from(head).ok().filter(|head| *head < self.size).ok_or(Nonsense)?;
        let length = self.chain.get_mut(usize::from(head)).map(core::mem::take).ok_or(Nonsense)?;
        if length == 0 {
            return Err(Nonsense);
        }
        self.used_index = self.used_index.wrapping_add(1);
        let mut last = head;
        for _ in 1..length {
            last = *self.next.get(usize::from(last)).ok_or(Nonsense)?;
        }
        *self.next.get_mut(usize::from(last)).ok_or(Nonsense)? = self.free;
        self.free = head;
        self.free_count += length;
        Ok(Some(Used { head, bytes }))
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
