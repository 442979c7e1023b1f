//! Verification of grants, with every error in the specification's order (3.1), and the soft-fault mark.
//!
//! The one thing to hold in mind: an entry lies in memory that its granter can change at any time, so it is
//! read once into a copy, and only the copy is believed. What is not here: how an entry is read, and how it is made sure
//! that the copy is of one piece (a trait).

use refault_abi::grant::{DIRECT, Entry, GrantId, INDIRECT, MAGIC, MAX_HOPS, State, TRY, USED, VALID, mark};
use refault_abi::{Endpoint, Errno, Result};

use crate::process::GrantTable;
use crate::transfer::{End, SoftFault};

/// Where entries come from.
pub trait Granters {
    /// The slot of a live granter and its table (with no entries if it registered none); `None` for a dead endpoint.
    fn table(&self, granter: Endpoint) -> Option<(usize, GrantTable)>;
    /// The entry at `address` in the memory of the granter in `slot`; `None` when it cannot be read now. Its mark and its link
    /// need not be filled in.
    fn entry(&mut self, slot: usize, address: u64) -> Option<Entry>;
    /// The seeded bug: an outdated id names whatever is in its slot.
    fn any_sequence(&self) -> bool {
        false
    }
}

/// A grant that may be used as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose memory it is.
    pub target: Endpoint,
    /// First address of the access, in that memory.
    pub address: u64,
    /// First address of the whole granted range.
    pub base: u64,
    /// Bytes of the whole granted range.
    pub length: u64,
    /// Do not involve VM on a fault.
    pub no_suspend: bool,
    /// Who made the final grant of the chain.
    pub granter: Endpoint,
    /// Its slot.
    pub slot: usize,
    /// Its id.
    pub id: GrantId,
    /// Address of its entry in the granter's memory.
    pub entry: u64,
    /// The granter's note.
    pub tag: u64,
}

/// What a grantee wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who asks.
    pub grantee: Endpoint,
    /// Access bits ([`refault_abi::grant::READ`], [`refault_abi::grant::WRITE`]).
    pub bits: u16,
    /// Offset into the range.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

fn may_use(entry: &Entry, grantee: Endpoint) -> bool {
    let named = Endpoint::from_raw(entry.grantee);
    named == grantee || named == Endpoint::ANY || grantee == Endpoint::ANY
}

/// Verifies the grant `id` of `granter`. Errors, in order of the checks: EINVAL (dead granter, impossible id),
/// ENOTREADY (the table is another process's, for whom alone it is good), EPERM (no table, no such entry, unreadable entry,
/// not valid, outdated), ELOOP (more than five indirections), EPERM
/// (not for this grantee, access or range not granted, magic grant by anybody but VFS).
#[inline(always)]
pub fn verify(
    granters: &mut impl Granters,
    granter: Endpoint,
    id: GrantId,
    access: Access,
) -> Result<Verified> {
    let (mut granter, mut id, mut grantee) = (granter, id, access.grantee);
    let mut hops = 0;
    let (entry, state, place, slot) = loop {
        let (slot, table) = granters.table(granter).ok_or(Errno::EINVAL)?;
        if !id.is_valid() {
            return Err(Errno::EINVAL);
        }
        if table.owner != granter
            && table.owner != Endpoint::NONE
            && (table.entries == 0 || grantee != table.owner)
        {
            return Err(Errno::ENOTREADY);
        }
        if id.index() as u64 >= table.entries {
            return Err(Errno::EPERM);
        }
        // SETGRANT has checked that the whole table lies in user memory.
        let place = table.address + id.index() as u64 * size_of::<Entry>() as u64;
        let entry = granters.entry(slot, place).ok_or(Errno::EPERM)?;
        let state = State(entry.state);
        let outdated = state.sequence() != id.sequence() && !granters.any_sequence();
        if state.flags() & (USED | VALID) != USED | VALID || outdated {
            return Err(Errno::EPERM);
        }
        if state.flags() & INDIRECT == 0 {
            break (entry, state, place, slot);
        }
        if hops == MAX_HOPS {
            return Err(Errno::ELOOP);
        }
        hops += 1;
        if !may_use(&entry, grantee) {
            return Err(Errno::EPERM);
        }
        grantee = granter;
        granter = Endpoint::from_raw(entry.other);
        id = GrantId(entry.start.cast_signed());
    };
    if state.flags() & access.bits != access.bits {
        return Err(Errno::EPERM);
    }
    let target = match state.flags() & (DIRECT | MAGIC) {
        DIRECT => granter,
        MAGIC if granter.slot() == Endpoint::VFS.slot() => Endpoint::from_raw(entry.other),
        _ => return Err(Errno::EPERM),
    };
    let in_grant = access.offset.checked_add(access.bytes).is_some_and(|end| end <= entry.length);
    if entry.start.checked_add(entry.length).is_none() || !may_use(&entry, grantee) || !in_grant {
        return Err(Errno::EPERM);
    }
    Ok(Verified {
        target,
        address: entry.start + access.offset,
        base: entry.start,
        length: entry.length,
        no_suspend: state.flags() & TRY != 0,
        granter,
        slot,
        id,
        entry: place,
        tag: entry.tag,
    })
}

/// The bits of the mark that `fault` leaves, for a grant whose range is at the `granted` end.
pub fn mark_bits(fault: &SoftFault, granted: End) -> u16 {
    mark::FAULTED
        | if fault.end == granted { 0 } else { mark::GRANTEE_SIDE }
        | if fault.end == End::To { mark::WRITE_ACCESS } else { 0 }
        | if fault.second_stage { mark::SECOND_STAGE } else { 0 }
}

/// The state word with a mark added, if it is still the grant that was verified; `None` when it has been
/// revoked or used again, and the mark is out of date.
pub fn marked(current: State, id: GrantId, bits: u16) -> Option<State> {
    let same = current.flags() & VALID != 0 && current.sequence() == id.sequence();
    same.then(|| current.with_mark(bits))
}

#[cfg(test)]
mod tests;
