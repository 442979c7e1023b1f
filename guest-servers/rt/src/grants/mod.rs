//! Memory grants as values: made by a builder, revoked by [`Grant::revoke`] or at the latest when dropped.
//!
//! The one thing to hold in mind: revoking is what *collects the soft-fault mark*. The entry is first made
//! invalid and the mark is then taken out of the very word that was swapped out, so no mark can be stored
//! between looking and revoking. The table lies in reserved address space and grows in place: it never
//! moves while grants are outstanding. With `mode=faithful` it does as the seed's does: it begins with three entries, and each
//! time it is full it moves to a block for one entry more than twice as many.
//!
//! [`table`] is the logic over a slice of entries, without the system around it.

pub mod table;

use refault_abi::grant::{Entry, GrantId, MAX_ENTRIES, READ, TRY, Tag, WRITE};
use refault_abi::options::{Mark, Mode};
use refault_abi::vm::MAP_POPULATE;
use refault_abi::{Endpoint, Errno, Result, layout};

use crate::Single;
pub use table::{Access, Kind, Revoked, Side, SoftFault};
use table::{Request, Slot, Slots};

/// Entries that fit a page; the table's first size.
const FIRST: usize = layout::PAGE as usize / size_of::<Entry>();

/// The seed's first size.
const FAITHFUL_FIRST: usize = 3;

static TABLE: Single<Option<Slots<'static>>> = Single::new(None);

/// Runs `action` on the table, which is set up at the first use.
fn with_table<T>(action: impl FnOnce(&mut Slots<'static>) -> Result<T>) -> Result<T> {
    let mut table = TABLE.borrow()?;
    let slots = match &mut *table {
        Some(slots) => slots,
        none => {
            let options = crate::info::options().ok_or(Errno::EINVAL)?;
            let slots = match options.mode {
                Mode::Hardened => map(0, FIRST)?,
                Mode::Faithful => {
                    let first = block(FAITHFUL_FIRST)?;
                    announce(first)?;
                    first
                }
            };
            none.insert(Slots::with_options(slots, &options))
        }
    };
    action(slots)
}

/// A block for `entries` entries, somewhere.
fn block(entries: usize) -> Result<&'static [Slot]> {
    let address = crate::pages::map(entries as u64 * size_of::<Entry>() as u64, MAP_POPULATE)?;
    let start = core::ptr::with_exposed_provenance::<Slot>(address as usize);
    // SAFETY: VM has mapped zeroed pages for that many entries, and they stay until `grow` gives them back; a `Slot` consists of
    // atomics, for which zeroes are valid and which the kernel may change at any time.
    Ok(unsafe { core::slice::from_raw_parts(start, entries) })
}

/// Tells the kernel where the table is now.
fn announce(slots: &[Slot]) -> Result<()> {
    crate::kernel::setgrant(slots.as_ptr().expose_provenance() as u64, slots.len() as u64)
}

/// Makes room for more entries. ENOSPC when there are as many as there can be.
fn grow(slots: &mut Slots<'static>) -> Result<()> {
    let now = slots.len();
    if !slots.is_short() {
        let wanted = now.saturating_mul(2).min(MAX_ENTRIES);
        if wanted == now {
            return Err(Errno::ENOSPC);
        }
        slots.extend(map(now, wanted)?);
        return Ok(());
    }
    let wanted = now.saturating_add(1).saturating_mul(2).min(MAX_ENTRIES);
    if wanted == now {
        return Err(Errno::ENOSPC);
    }
    let old = slots.address();
    let new = block(wanted)?;
    slots.move_to(new);
    announce(new)?;
    let bytes = now as u64 * size_of::<Entry>() as u64;
    // SAFETY: `slots` has moved and the kernel knows of the new place only, so nobody refers to the old block.
    unsafe { crate::pages::unmap(old, layout::page_ceil(bytes)) }.map(drop)
}

/// Maps the table from `from` to `to` entries and tells the kernel.
fn map(from: usize, to: usize) -> Result<&'static [Slot]> {
    let size = size_of::<Entry>() as u64;
    crate::pages::map_grants(from as u64 * size, to as u64 * size)?;
    crate::kernel::setgrant(layout::GRANT_TABLE, to as u64)?;
    let start = core::ptr::with_exposed_provenance::<Slot>(layout::GRANT_TABLE as usize);
    // SAFETY: VM has mapped zeroed pages for `to` entries at this address, for ever; a `Slot` consists of
    // atomics, for which zeroes are valid and which the kernel may change at any time.
    Ok(unsafe { core::slice::from_raw_parts(start, to) })
}

/// Behind a fork, in the child and in the parent: the table is the process's own again, and the kernel knows the child's
/// (specification 2.4, `cpf_reload`).
pub(crate) fn reload() -> Result<()> {
    let table = TABLE.borrow()?;
    let Some(slots) = &*table else { return Ok(()) };
    slots.touch();
    crate::kernel::setgrant(slots.address(), slots.len() as u64)
}

/// A grant in the making. Without [`Builder::read`] or [`Builder::write`] it allows nothing.
#[derive(Clone, Copy, Debug)]
#[must_use = "a grant exists only after `make`"]
pub struct Builder {
    request: Request,
}

impl Builder {
    /// The grantee may copy out of the region.
    pub fn read(mut self) -> Builder {
        self.request.access |= READ;
        self
    }

    /// The grantee may copy into the region.
    pub fn write(mut self) -> Builder {
        self.request.access |= WRITE;
        self
    }

    /// CPF_TRY: on a fault the copy fails and the grant is marked; VM is not involved.
    pub fn try_only(mut self, on: bool) -> Builder {
        if on {
            self.request.access |= TRY;
        } else {
            self.request.access &= !TRY;
        }
        self
    }

    /// A note about the operation, for fault sites.
    pub fn tag(mut self, tag: Tag) -> Builder {
        self.request.tag = tag.0;
        self
    }

    /// Makes the grant. ENOSPC when the table cannot grow, EINVAL for access bits on an indirect grant.
    pub fn make(self) -> Result<Grant> {
        with_table(|slots| {
            let id = match slots.grant(&self.request) {
                Err(Errno::ENOSPC) => {
                    grow(slots)?;
                    slots.grant(&self.request)?
                }
                other => other?,
            };
            Ok(Grant { id })
        })
    }
}

/// A grant that somebody may use until it is revoked.
#[derive(Debug)]
#[must_use = "a grant that is dropped is revoked"]
pub struct Grant {
    id: GrantId,
}

impl Grant {
    /// Over the caller's own memory. The caller keeps the memory alive and, for a grant with write access,
    /// must expect it to change until the grant is revoked.
    pub fn direct(grantee: Endpoint, address: u64, bytes: u64) -> Builder {
        Builder {
            request: Request {
                kind: Kind::Direct,
                grantee,
                start: address,
                length: bytes,
                access: 0,
                tag: 0,
            },
        }
    }

    /// Over `owner`'s memory. VFS only.
    pub fn magic(grantee: Endpoint, owner: Endpoint, address: u64, bytes: u64) -> Builder {
        let kind = Kind::Magic { owner };
        Builder { request: Request { kind, grantee, start: address, length: bytes, access: 0, tag: 0 } }
    }

    /// Passes on the grant `id` that `granter` made to the caller. Access and CPF_TRY are the original's.
    pub fn indirect(grantee: Endpoint, granter: Endpoint, id: GrantId) -> Builder {
        let kind = Kind::Indirect { granter, id };
        Builder { request: Request { kind, grantee, start: 0, length: 0, access: 0, tag: 0 } }
    }

    /// A readable direct grant over `bytes`.
    pub fn of_bytes(grantee: Endpoint, bytes: &[u8]) -> Builder {
        Grant::direct(grantee, bytes.as_ptr().expose_provenance() as u64, bytes.len() as u64).read()
    }

    /// Its name, to put into a request.
    pub fn id(&self) -> GrantId {
        self.id
    }

    /// Ends the grant and says whether a copy through it met a soft fault.
    pub fn revoke(self) -> Revoked {
        let id = self.id;
        core::mem::forget(self);
        revoke(id)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        // Whoever drops a grant has decided that a fault does not matter.
        let _ = revoke(self.id);
    }
}

/// Revokes by id. An id that is not in use would be a second revocation, which the type excludes.
fn revoke(id: GrantId) -> Revoked {
    with_table(|slots| slots.revoke(id)).unwrap_or(Revoked { fault: None })
}

/// How marks are kept, as chosen on the command line.
pub fn mark_mode() -> Result<Mark> {
    with_table(|slots| Ok(slots.mode()))
}
