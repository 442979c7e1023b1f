//! The grant table's logic over a slice of entries: slots, sequences, marks.
//!
//! The one thing to hold in mind: two writers. This side owns everything in an entry except the mark; the
//! kernel, on another processor, may store a mark at any moment. In the mode `atomic` both meet in one word
//! and neither can overwrite the other. The modes `id` and `flag` keep the seed's order of plain accesses,
//! holes included, so that the modes can be compared.

use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering, fence};

use refault_abi::bugs::Bug;
use refault_abi::grant::{
    self, DIRECT, Entry, FAITHFUL_SEQUENCE_BITS, GrantId, INDIRECT, MAGIC, MAX_ENTRIES, READ, State, TRY,
    USED, VALID, WRITE, mark,
};
use refault_abi::options::{Mark, Mode, Options};
use refault_abi::{Endpoint, Errno, Result};

/// An entry as it is shared with the kernel: [`Entry`] with every word an atomic.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Slot {
    /// [`Entry::state`].
    pub state: AtomicU64,
    /// [`Entry::grantee`].
    pub grantee: AtomicI32,
    /// [`Entry::other`].
    pub other: AtomicI32,
    /// [`Entry::start`].
    pub start: AtomicU64,
    /// [`Entry::length`].
    pub length: AtomicU64,
    /// [`Entry::mark_id`].
    pub mark_id: AtomicI64,
    /// [`Entry::mark_address`].
    pub mark_address: AtomicU64,
    /// [`Entry::tag`].
    pub tag: AtomicU64,
    /// [`Entry::next_free`].
    pub next_free: AtomicU64,
}

impl Slot {
    /// Takes over what is in another slot; the state comes last, and brings the rest with it.
    fn take_over(&self, from: &Slot) {
        self.grantee.store(from.grantee.load(Ordering::Relaxed), Ordering::Relaxed);
        self.other.store(from.other.load(Ordering::Relaxed), Ordering::Relaxed);
        self.start.store(from.start.load(Ordering::Relaxed), Ordering::Relaxed);
        self.length.store(from.length.load(Ordering::Relaxed), Ordering::Relaxed);
        self.mark_id.store(from.mark_id.load(Ordering::Relaxed), Ordering::Relaxed);
        self.mark_address.store(from.mark_address.load(Ordering::Relaxed), Ordering::Relaxed);
        self.tag.store(from.tag.load(Ordering::Relaxed), Ordering::Relaxed);
        self.next_free.store(from.next_free.load(Ordering::Relaxed), Ordering::Relaxed);
        self.state.store(from.state.load(Ordering::Relaxed), Ordering::Release);
    }
}

const _: () = assert!(size_of::<Slot>() == size_of::<Entry>());
const _: () = assert!(core::mem::offset_of!(Slot, mark_id) == core::mem::offset_of!(Entry, mark_id));
const _: () = assert!(core::mem::offset_of!(Slot, next_free) == core::mem::offset_of!(Entry, next_free));

/// What a grant is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The granter's own memory.
    Direct,
    /// A third process's memory.
    Magic {
        /// Whose.
        owner: Endpoint,
    },
    /// A grant made to the granter.
    Indirect {
        /// By whom.
        granter: Endpoint,
        /// Which.
        id: GrantId,
    },
}

/// A grant to be made.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Over what.
    pub kind: Kind,
    /// Who may use it, or ANY.
    pub grantee: Endpoint,
    /// First address (direct, magic).
    pub start: u64,
    /// Bytes (direct, magic).
    pub length: u64,
    /// READ, WRITE, TRY.
    pub access: u16,
    /// [`grant::Tag`].
    pub tag: u64,
}

/// Whose page was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A page of the granted memory.
    Granted,
    /// A page of the grantee's own buffer.
    Grantee,
    /// The modes `id` and `flag` have no room to say; the other fields are then zero as well.
    Unknown,
}

/// What the copy wanted to do with the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
}

/// The mark, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftFault {
    /// Whose page.
    pub side: Side,
    /// For which access.
    pub access: Access,
    /// The page was taken away at the second stage of translation.
    pub second_stage: bool,
    /// Address in that side's memory.
    pub address: u64,
}

/// What a revocation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the mark says whether the operation has to be repeated"]
pub struct Revoked {
    /// The mark, if a copy through the grant met a soft fault.
    pub fault: Option<SoftFault>,
}

/// The table.
#[derive(Debug)]
pub struct Slots<'t> {
    slots: &'t [Slot],
    mode: Mark,
    /// Sequences are as long as the seed's.
    short: bool,
    /// The seeded bug: the mark is read when it is gone.
    late: bool,
    /// Most recently freed slot's index plus one; 0 when none is free.
    free: u64,
}

impl<'t> Slots<'t> {
    /// A table over zeroed (or once used) slots. Its sequences are the seed's if its marks are.
    pub fn new(slots: &'t [Slot], mode: Mark) -> Slots<'t> {
        let mut table = Slots { slots: &[], mode, short: mode != Mark::Atomic, late: false, free: 0 };
        table.extend(slots);
        table
    }

    /// The same in the system, with the marks and with the bug that the options say.
    pub fn with_options(slots: &'t [Slot], options: &Options) -> Slots<'t> {
        let mut table = Slots::new(slots, options.mark);
        table.short = options.mode == Mode::Faithful;
        table.late = Bug::CheckAfterInvalidate.is(options.bug);
        table
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether it is the seed's table: short sequences, and moved when it grows.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// How marks are kept.
    pub fn mode(&self) -> Mark {
        self.mode
    }

    /// Where the table is.
    pub fn address(&self) -> u64 {
        self.slots.as_ptr().expose_provenance() as u64
    }

    /// Stores in each entry a word that it has: pages that a fork made common become this process's own, so that the kernel
    /// finds them writable when it has a mark to store.
    pub fn touch(&self) {
        for slot in self.slots {
            slot.next_free.fetch_or(0, Ordering::Relaxed);
        }
    }

    /// Takes the longer view of the same table; the new slots are used in ascending order once the free
    /// ones are gone.
    pub fn extend(&mut self, slots: &'t [Slot]) {
        let slots = slots.get(..MAX_ENTRIES).unwrap_or(slots);
        for (index, slot) in slots.iter().enumerate().skip(self.slots.len()).rev() {
            slot.next_free.store(self.free, Ordering::Relaxed);
            self.free = index as u64 + 1;
        }
        self.slots = slots;
    }

    /// Copies the entries to `slots`, a longer table elsewhere, which is used from then on. A mark that the kernel stores in the
    /// old table while this goes on, or before it is told of the new one, is lost (specification 7.2, R4).
    pub fn move_to(&mut self, slots: &'t [Slot]) {
        for (from, to) in self.slots.iter().zip(slots) {
            to.take_over(from);
        }
        self.extend(slots);
    }

    /// The sequence after `sequence`.
    fn next_sequence(&self, sequence: u32) -> u32 {
        let next = sequence.wrapping_add(1);
        if self.short { next & ((1 << FAITHFUL_SEQUENCE_BITS) - 1) } else { next }
    }

    /// Makes a grant. ENOSPC when no slot is free, EINVAL for access bits that make no sense.
    pub fn grant(&mut self, request: &Request) -> Result<GrantId> {
        if request.access & !(READ | WRITE | TRY) != 0 {
            return Err(Errno::EINVAL);
        }
        let index = self.free.checked_sub(1).ok_or(Errno::ENOSPC)?;
        let slot = self.slots.get(index as usize).ok_or(Errno::ENOSPC)?;
        let (kind, other, start, length) = match request.kind {
            Kind::Direct => (DIRECT, 0, request.start, request.length),
            Kind::Magic { owner } => (MAGIC, owner.raw(), request.start, request.length),
            // Permissions and TRY come from the original.
            Kind::Indirect { .. } if request.access != 0 => return Err(Errno::EINVAL),
            Kind::Indirect { granter, id } => (INDIRECT, granter.raw(), id.0 as u64, 0),
        };
        self.free = slot.next_free.load(Ordering::Relaxed);
        slot.grantee.store(request.grantee.raw(), Ordering::Relaxed);
        slot.other.store(other, Ordering::Relaxed);
        slot.start.store(start, Ordering::Relaxed);
        slot.length.store(length, Ordering::Relaxed);
        slot.tag.store(request.tag, Ordering::Relaxed);
        slot.mark_id.store(-1, Ordering::Relaxed);
        slot.mark_address.store(0, Ordering::Relaxed);
        let sequence = State(slot.state.load(Ordering::Relaxed)).sequence();
        // Release: whoever sees the flags sees the body.
        let flags = USED | VALID | kind | request.access;
        slot.state.store(State::new(flags, 0, sequence).0, Ordering::Release);
        Ok(GrantId::new(index as u32, sequence))
    }

    /// Ends a grant and collects its mark. EINVAL for an id that is not in use.
    pub fn revoke(&mut self, id: GrantId) -> Result<Revoked> {
        let slot = id.is_valid().then(|| self.slots.get(id.index())).flatten().ok_or(Errno::EINVAL)?;
        let state = State(slot.state.load(Ordering::Relaxed));
        if state.flags() & grant::USED == 0 || state.sequence() != id.sequence() {
            return Err(Errno::EINVAL);
        }
        let sequence = self.next_sequence(state.sequence());
        let fault = match self.mode {
            Mark::Atomic => {
                // One step: from here on no mark can be stored, and the one that was is in our hands.
                let last = State(slot.state.swap(State::new(0, 0, sequence).0, Ordering::AcqRel));
                let last = if self.late { State(slot.state.load(Ordering::Acquire)) } else { last };
                soft_fault(last, slot.mark_address.load(Ordering::Relaxed))
            }
            Mark::Id | Mark::Flag => {
                // The seed's order: look first, invalidate second. A mark stored in between is lost. Without TRY there
                // is a mark, too, if the kernel has given up waiting for the page.
                let wanted = if self.mode == Mark::Id { id.0 } else { 1 };
                let marked = slot.mark_id.load(Ordering::Relaxed) == wanted && !self.late;
                slot.state.store(State::new(0, 0, state.sequence()).0, Ordering::Release);
                fence(Ordering::SeqCst);
                slot.state.store(State::new(0, 0, sequence).0, Ordering::Release);
                marked.then_some(SoftFault {
                    side: Side::Unknown,
                    access: Access::Read,
                    second_stage: false,
                    address: 0,
                })
            }
        };
        slot.next_free.store(self.free, Ordering::Relaxed);
        self.free = id.index() as u64 + 1;
        Ok(Revoked { fault })
    }
}

/// The mark of a state word.
fn soft_fault(state: State, address: u64) -> Option<SoftFault> {
    let bits = state.mark();
    (bits & mark::FAULTED != 0).then_some(SoftFault {
        side: if bits & mark::GRANTEE_SIDE != 0 { Side::Grantee } else { Side::Granted },
        access: if bits & mark::WRITE_ACCESS != 0 { Access::Write } else { Access::Read },
        second_stage: bits & mark::SECOND_STAGE != 0,
        address,
    })
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
