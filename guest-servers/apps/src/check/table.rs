//! A grant table under full control: entries as wrong as a test wants them.
//!
//! The one thing to hold in mind: while it is registered, the process's grants of the library are not valid, and the other way
//! round. Every access is an atomic, because the kernel reads and marks the entries.

use core::sync::atomic::Ordering;

use refault_abi::grant::{Entry, GrantId, State};
use refault_abi::{Endpoint, Errno, Result};
use refault_rt::grants::table::Slot;
use refault_rt::{kernel, pages};

/// The table.
#[derive(Debug)]
pub struct RawTable {
    slots: &'static [Slot],
}

impl RawTable {
    /// A zeroed table of `entries`, not yet registered.
    pub fn new(entries: usize) -> Result<RawTable> {
        let bytes = entries.checked_mul(size_of::<Entry>()).ok_or(Errno::EINVAL)? as u64;
        let address = pages::map(bytes, refault_abi::vm::MAP_POPULATE)?;
        let start = core::ptr::with_exposed_provenance::<Slot>(address as usize);
        // SAFETY: zeroed pages of this process, mapped for ever; a slot consists of atomics, for which zeroes are valid and
        // which the kernel may change at any time.
        Ok(RawTable { slots: unsafe { core::slice::from_raw_parts(start, entries) } })
    }

    /// Makes it the process's table.
    pub fn register(&self) -> Result<()> {
        self.register_as(self.address(), self.slots.len() as u64)
    }

    /// Makes any range the process's table.
    pub fn register_as(&self, address: u64, entries: u64) -> Result<()> {
        kernel::setgrant(address, entries)
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.slots.as_ptr().expose_provenance() as u64
    }

    /// The slots.
    pub fn slots(&self) -> &'static [Slot] {
        self.slots
    }

    /// One slot; the first for an index that is none.
    pub fn slot(&self, index: u32) -> &Slot {
        self.slots.get(index as usize).unwrap_or(&self.slots[0])
    }

    /// Stores an entry; its id.
    pub fn put(&self, index: u32, entry: &RawEntry) -> GrantId {
        let slot = self.slot(index);
        slot.state.store(0, Ordering::Release);
        slot.grantee.store(entry.grantee.raw(), Ordering::Relaxed);
        slot.other.store(entry.other.raw(), Ordering::Relaxed);
        slot.start.store(entry.start, Ordering::Relaxed);
        slot.length.store(entry.length, Ordering::Relaxed);
        slot.mark_id.store(-1, Ordering::Relaxed);
        slot.mark_address.store(0, Ordering::Relaxed);
        slot.tag.store(0, Ordering::Relaxed);
        slot.state.store(State::new(entry.flags, 0, entry.sequence).0, Ordering::Release);
        GrantId::new(index, entry.sequence)
    }

    /// The mark of an entry, whichever way the machine keeps it: whether it is set for `id`, and where the page was.
    pub fn marked(&self, id: GrantId) -> Option<u64> {
        let slot = self.slot(id.index() as u32);
        let state = State(slot.state.load(Ordering::Acquire));
        let plain = slot.mark_id.load(Ordering::Acquire);
        let set = state.mark() & refault_abi::grant::mark::FAULTED != 0 || plain == id.0 || plain == 1;
        set.then(|| slot.mark_address.load(Ordering::Acquire))
    }

    /// The bits of the mark, as the mode `atomic` stores them.
    pub fn bits(&self, id: GrantId) -> u16 {
        State(self.slot(id.index() as u32).state.load(Ordering::Acquire)).mark()
    }
}

/// An entry to be.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry {
    /// Flag bits.
    pub flags: u16,
    /// Sequence.
    pub sequence: u32,
    /// Who may use it.
    pub grantee: Endpoint,
    /// Magic: owner; indirect: previous granter.
    pub other: Endpoint,
    /// First address, or previous id.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}
