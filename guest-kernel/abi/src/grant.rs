//! Memory grants: the entry in the granter's table, and the identifier that names it.
//!
//! The table lies in the granter's own memory; the kernel knows only where it is and how long
//! (SETGRANT). The granter fills and revokes entries without entering the kernel; the kernel reads them
//! when a grantee copies, and writes one thing only: the soft-fault mark.
//!
//! The hardened protocol rests on [`Entry::state`]: flags, mark and sequence in *one* aligned word, so that
//! the kernel can store a mark if and only if the grant it verified is still the one in the slot. The
//! seed's protocol uses the separate word [`Entry::mark_id`] instead; both are kept so that they can be compared.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The grantee may copy out of the region.
pub const READ: u16 = 0x0001;
/// The grantee may copy into the region.
pub const WRITE: u16 = 0x0002;
/// Do not involve VM on a fault: fail the copy and mark the grant.
pub const TRY: u16 = 0x0010;
/// The slot is taken.
pub const USED: u16 = 0x0100;
/// The region is the granter's own memory.
pub const DIRECT: u16 = 0x0200;
/// The entry refers to a grant made to the granter.
pub const INDIRECT: u16 = 0x0400;
/// The region is a third process's memory (VFS only).
pub const MAGIC: u16 = 0x0800;
/// The entry may be used.
pub const VALID: u16 = 0x1000;

/// Hops through indirect grants before ELOOP (specification 3.1, step 8).
pub const MAX_HOPS: usize = 5;
/// Bits of the index in a grant id.
pub const INDEX_BITS: u32 = 20;
/// Entries a table may have.
pub const MAX_ENTRIES: usize = 1 << INDEX_BITS;
/// Sequence bits of the seed's ids: 2048 uses of a slot.
pub const FAITHFUL_SEQUENCE_BITS: u32 = 11;
/// Sequence bits of the hardened ids.
pub const HARDENED_SEQUENCE_BITS: u32 = 32;

/// Name of a grant: `sequence << 20 | index`, never negative; -1 is no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct GrantId(pub i64);

impl GrantId {
    /// No grant.
    pub const NONE: GrantId = GrantId(-1);

    /// The id of entry `index` in its `sequence`-th use.
    pub const fn new(index: u32, sequence: u32) -> GrantId {
        GrantId(((sequence as i64) << INDEX_BITS) | (index as i64 & (MAX_ENTRIES as i64 - 1)))
    }

    /// Whether it can name a grant at all.
    pub const fn is_valid(self) -> bool {
        self.0 >= 0 && (self.0 >> INDEX_BITS) <= u32::MAX as i64
    }

    /// Index of the entry.
    pub const fn index(self) -> usize {
        (self.0 & (MAX_ENTRIES as i64 - 1)) as usize
    }

    /// Which use of the entry.
    pub const fn sequence(self) -> u32 {
        (self.0 >> INDEX_BITS) as u32
    }
}

/// The word that decides: flags (bits 0-15), mark (bits 16-31), sequence (bits 32-63).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct State(pub u64);

impl State {
    /// Builds the word.
    pub const fn new(flags: u16, mark: u16, sequence: u32) -> State {
        State(flags as u64 | ((mark as u64) << 16) | ((sequence as u64) << 32))
    }

    /// Flag bits.
    pub const fn flags(self) -> u16 {
        self.0 as u16
    }

    /// Mark bits ([`mark`]).
    pub const fn mark(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Which use of the slot.
    pub const fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The same word with mark bits added.
    pub const fn with_mark(self, mark: u16) -> State {
        State(self.0 | ((mark as u64) << 16))
    }
}

/// Bits of a mark: which side faulted, for which access, at which stage of translation.
pub mod mark {
    /// A copy through the grant met an absent page.
    pub const FAULTED: u16 = 0x1;
    /// The page was the grantee's own; clear: the granted memory's.
    pub const GRANTEE_SIDE: u16 = 0x2;
    /// The access was a write.
    pub const WRITE_ACCESS: u16 = 0x4;
    /// The page was taken away at the second stage of translation.
    pub const SECOND_STAGE: u16 = 0x8;
}

/// One table entry. 64 bytes, 64-byte aligned: it never straddles a page or a cache line.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Entry {
    /// [`State`]. Written last when granting, first when revoking.
    pub state: u64,
    /// Who may use the grant (or ANY).
    pub grantee: i32,
    /// Magic: whose memory it is. Indirect: the granter of the grant referred to. Direct: unused.
    pub other: i32,
    /// Direct, magic: first address. Indirect: the grant id referred to.
    pub start: u64,
    /// Direct, magic: bytes. Indirect: unused.
    pub length: u64,
    /// The seed's mark: the id of the grant whose copy faulted (`mark=id`), 1 (`mark=flag`), or -1.
    pub mark_id: i64,
    /// Address that faulted, in the memory of the side the mark names. Valid when a mark is set.
    pub mark_address: u64,
    /// The granter's own note about the operation, see [`Tag`]; the kernel passes it on to fault sites.
    pub tag: u64,
    /// Free slots: index of the next free slot plus one, 0 at the end. The kernel ignores it.
    pub next_free: u64,
}

const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);

/// What the granter says about a grant's operation: operation code (bits 0-15, an [`crate::fs`] request
/// number), attempt (bits 16-31, from 1), request number (bits 32-63).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Tag(pub u64);

impl Tag {
    /// Builds a tag.
    pub const fn new(operation: u16, attempt: u16, request: u32) -> Tag {
        Tag(operation as u64 | ((attempt as u64) << 16) | ((request as u64) << 32))
    }

    /// Operation code.
    pub const fn operation(self) -> u16 {
        self.0 as u16
    }

    /// Attempt, from 1; 0 when the granter did not say.
    pub const fn attempt(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Request number.
    pub const fn request(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_apart() {
        for (index, sequence) in [(0, 0), (1, 2047), (MAX_ENTRIES as u32 - 1, u32::MAX)] {
            let id = GrantId::new(index, sequence);
            assert!(id.is_valid());
            assert_eq!((id.index(), id.sequence()), (index as usize, sequence));
        }
        assert!(!GrantId::NONE.is_valid());
        assert!(!GrantId(i64::MAX).is_valid());
    }

    #[test]
    fn state_fields_do_not_overlap() {
        let state = State::new(0xffff, 0, 0xffff_ffff).with_mark(mark::FAULTED | mark::SECOND_STAGE);
        assert_eq!((state.flags(), state.mark(), state.sequence()), (0xffff, 9, 0xffff_ffff));
    }
}
