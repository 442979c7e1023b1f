//! G3: revoked and recycled. G7: growth. G8: revoking what is not one's own. G10: restarted parties.

use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::grant::{FAITHFUL_SEQUENCE_BITS, MAX_ENTRIES, READ};
use refault_abi::layout::PAGE;
use refault_abi::options::Mode;
use refault_abi::{Endpoint, Errno, GrantId};
use refault_rt::grants::table::{Kind, Request, Slots};
use refault_rt::grants::{self, Grant};
use refault_rt::kernel;

use super::{GRANTED, World};
use crate::check::party::Party;
use crate::check::suite::{Explain, Suite, expect, expect_error};

/// Grants alive at once in the test of growth: more than four sizes of the seed's table.
const ALIVE: u32 = 200;

/// The tests of the library's table, which has to be the process's own. To be run before the other table is registered.
pub fn library(suite: &mut Suite, world: &World) {
    let mode = suite.options().mode;
    suite.check("G7.first-id", |_| {
        let first = world.lend().make().explain("the first grant")?;
        expect("its id", first.id(), GrantId(0))?;
        expect("a copy", world.copy(first.id()).explain("a copy")?, 8)?;
        expect("its mark", first.revoke().fault, None)
    });
    suite.check("G7.growth", |_| growth(world, mode));
    suite.check("G7.lifo", |_| {
        let a = world.lend().make().explain("a grant")?;
        let b = world.lend().make().explain("a grant")?;
        let (index_a, index_b) = (a.id().index(), b.id().index());
        let _ = (a.revoke(), b.revoke());
        let c = world.lend().make().explain("a grant")?;
        let d = world.lend().make().explain("a grant")?;
        expect("the slot freed last", c.id().index(), index_b)?;
        expect("the slot freed before", d.id().index(), index_a)
    });
    suite.check("G3.revoked", |_| {
        let grant = world.lend().make().explain("a grant")?;
        let id = grant.id();
        expect("a copy", world.copy(id).explain("a copy")?, 8)?;
        expect("its mark", grant.revoke().fault, None)?;
        expect_error("a copy after it was revoked", world.copy(id), Errno::EPERM)?;
        let next = world.lend().make().explain("the next grant")?;
        expect("the slot", next.id().index(), id.index())?;
        crate::ensure!(next.id() != id, "the same id twice in a row");
        expect_error("the old id", world.copy(id), Errno::EPERM)?;
        expect("the new id", world.copy(next.id()).explain("a copy")?, 8)
    });
    suite.check("G3.2048-recycles", |_| {
        let first = world.lend().make().explain("a grant")?;
        let id = first.id();
        let _ = first.revoke();
        for _ in 1..1 << FAITHFUL_SEQUENCE_BITS {
            let next = world.lend().make().explain("a grant")?;
            crate::ensure!(next.id() != id, "the id came back early");
            let _ = next.revoke();
        }
        let last = world.lend().make().explain("a grant")?;
        expect("the slot", last.id().index(), id.index())?;
        if mode == Mode::Hardened {
            expect_error("the old id", world.copy(id), Errno::EPERM)?;
            expect("the new id", world.copy(last.id()).explain("a copy")?, 8)
        } else {
            // The seed's eleven bits have come round: an old id names a new grant.
            expect("the id", last.id(), id)?;
            expect("a copy by the old id", world.copy(id).explain("a copy")?, 8)
        }
    });
    suite.check("G10.grantee", |_| grantee_restarts(world));
    suite.check("G10.granter", |_| granter_restarts(world));
}

impl World {
    /// A readable grant over the test's arena to the peer.
    fn lend(&self) -> grants::Builder {
        Grant::direct(self.peer.endpoint(), self.mine, PAGE).read()
    }
}

fn growth(world: &World, mode: Mode) -> Result<(), String> {
    let mut alive: Vec<Grant> = Vec::new();
    let mut sizes: Vec<u64> = Vec::new();
    for number in 0..ALIVE {
        let grant = world.lend().make().explain("a grant")?;
        expect("the slot", grant.id().index(), number as usize)?;
        alive.push(grant);
        let entries = kernel::grant_info(world.me, 0).explain("GRANT_INFO")?.entries;
        if sizes.last() != Some(&entries) {
            sizes.push(entries);
            // Whatever happened to the table, the grants made before are what they were.
            for old in alive.iter().step_by(16) {
                expect("a copy through an old grant", world.copy(old.id()).explain("a copy")?, 8)?;
            }
        }
    }
    match mode {
        Mode::Faithful => {
            crate::ensure!(sizes.starts_with(&[3, 8, 18, 38, 78]), "the table's sizes were {sizes:?}");
        }
        Mode::Hardened => {
            crate::ensure!(sizes.len() >= 2 && sizes.is_sorted(), "the table's sizes were {sizes:?}");
        }
    }
    for grant in alive {
        expect("a mark", grant.revoke().fault, None)?;
    }
    Ok(())
}

/// G7 up to the cap: a million grants. A machine of its own, because the table stays.
pub fn to_the_cap(suite: &mut Suite, world: &World) {
    suite.check("G7.cap", |_| {
        let mut last = GrantId::NONE;
        for number in 0..MAX_ENTRIES {
            let grant = world.lend().make().explain("a grant")?;
            last = grant.id();
            expect("the slot", last.index(), number)?;
            core::mem::forget(grant);
        }
        expect("a copy through the last", world.copy(last).explain("a copy")?, 8)?;
        expect_error("one more", world.lend().make(), Errno::ENOSPC)?;
        expect("a copy through the first", world.copy(GrantId(0)).explain("a copy")?, 8)
    });
}

/// G8, on the library's logic over memory of the test.
pub fn foreign(suite: &mut Suite, world: &World) {
    suite.check("G8.revoke", |_| {
        let mode = grants::mark_mode().explain("the mode")?;
        let mut slots = Slots::new(world.table.slots(), mode);
        let request = Request {
            kind: Kind::Direct,
            grantee: world.peer.endpoint(),
            start: world.mine,
            length: PAGE,
            access: READ,
            tag: 0,
        };
        let id = slots.grant(&request).explain("a grant")?;
        world.table.register().explain("SETGRANT")?;
        expect("a copy", world.copy(id).explain("a copy")?, 8)?;
        for bad in [
            GrantId::NONE,
            GrantId(i64::MIN),
            GrantId(i64::MAX),
            GrantId::new(id.index() as u32, id.sequence() + 1),
            GrantId::new(id.index() as u32 + 1, 0),
            GrantId::new((1 << 20) - 1, 0),
        ] {
            expect_error("revoking what is not there", slots.revoke(bad), Errno::EINVAL)?;
        }
        expect("a copy all the same", world.copy(id).explain("a copy")?, 8)?;
        let revoked = slots.revoke(id).explain("revoking")?;
        expect("the mark", revoked.fault, None)?;
        expect_error("revoking twice", slots.revoke(id), Errno::EINVAL)?;
        expect_error("a copy", world.copy(id), Errno::EPERM)?;
        let bits = Request { access: 0x8, ..request };
        expect_error("access bits that are none", slots.grant(&bits), Errno::EINVAL)?;
        let kind = Kind::Indirect { granter: world.me, id };
        expect_error(
            "access bits of an indirect grant",
            slots.grant(&Request { kind, ..request }),
            Errno::EINVAL,
        )
    });
}

/// Whether one endpoint is the next life of the other.
fn reborn(old: Endpoint, new: Endpoint) -> bool {
    old.slot() == new.slot() && old != new
}

fn grantee_restarts(world: &World) -> Result<(), String> {
    let first = Party::start()?;
    let old = first.endpoint();
    let grant = Grant::direct(old, world.mine, PAGE).read().make().explain("a grant")?;
    let there = first.map(PAGE, true)?;
    let copied = first.copy_from(world.me, grant.id(), 0, there, 8).whole();
    expect("the grantee's copy", copied, Ok(8))?;
    first.end()?;
    let second = Party::start()?;
    crate::ensure!(reborn(old, second.endpoint()), "{old:?} came back as {:?}", second.endpoint());
    let there = second.map(PAGE, true)?;
    let refused = second.copy_from(world.me, grant.id(), 0, there, 8).whole();
    expect_error("its successor's copy", refused, Errno::EPERM)?;
    expect("the mark", grant.revoke().fault, None)?;
    second.end()
}

fn granter_restarts(world: &World) -> Result<(), String> {
    let first = Party::start()?;
    let old = first.endpoint();
    let there = first.map(PAGE, true)?;
    first.fill(there, PAGE, GRANTED, 0)?;
    let grant = first.grant(world.me, there, PAGE, READ)?;
    let mut bytes = [0; 8];
    expect("a copy", kernel::safecopy_from(old, grant, 0, &mut bytes).whole(), Ok(8))?;
    first.end()?;
    let dead = kernel::safecopy_from(old, grant, 0, &mut bytes).whole();
    expect_error("a copy from the dead", dead, Errno::EINVAL)?;
    let second = Party::start()?;
    crate::ensure!(reborn(old, second.endpoint()), "{old:?} came back as {:?}", second.endpoint());
    let stale = kernel::safecopy_from(old, grant, 0, &mut bytes).whole();
    expect_error("a copy from the old endpoint", stale, Errno::EINVAL)?;
    let fresh = kernel::safecopy_from(second.endpoint(), grant, 0, &mut bytes).whole();
    expect_error("the old grant at the new endpoint", fresh, Errno::EPERM)?;
    second.end()
}
