//! G2: chains of indirect grants. G5: grants to anybody.

use alloc::string::String;

use refault_abi::grant::{INDIRECT, READ, WRITE};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Errno, GrantId};
use refault_rt::kernel;

use super::{GRANTED, READY, World};
use crate::check::suite::{Explain, Suite, expect, expect_error};
use crate::check::table::RawEntry;

/// All of them. The test's own table is registered.
pub fn run(suite: &mut Suite, world: &World) {
    suite.check("G2.chain-of-5", |_| {
        let last = chain(world, 5);
        expect("a copy through five", world.copy(last).explain("the copy")?, 8)?;
        expect("its bytes", world.peer.matching(world.theirs, 8, GRANTED, 0)?, 8)
    });
    suite.check("G2.chain-of-6", |_| {
        expect_error("a copy through six", world.copy(chain(world, 6)), Errno::ELOOP)
    });
    suite.check("G2.self-loop", |_| {
        let id = GrantId::new(20, 0);
        world.table.put(20, &indirect(Endpoint::ANY, world.me, id));
        expect_error("a grant that names itself", world.copy(id), Errno::ELOOP)?;
        let (one, two) = (GrantId::new(20, 0), GrantId::new(21, 0));
        world.table.put(20, &indirect(Endpoint::ANY, world.me, two));
        world.table.put(21, &indirect(Endpoint::ANY, world.me, one));
        expect_error("two that name each other", world.copy(one), Errno::ELOOP)
    });
    suite.check("G2.broken", |_| {
        let original = world.table.put(19, &world.direct(READ, world.mine, PAGE));
        let dead = world.me.next_generation();
        let id = world.table.put(20, &indirect(Endpoint::ANY, dead, original));
        expect_error("a dead granter on the way", world.copy(id), Errno::EINVAL)?;
        let id = world.table.put(20, &indirect(Endpoint::ANY, world.me, GrantId(-1)));
        expect_error("no grant on the way", world.copy(id), Errno::EINVAL)?;
        // The original is the peer's to use, not this process's to pass on.
        let id = world.table.put(20, &indirect(Endpoint::ANY, world.me, original));
        expect_error("passing on what one was not given", world.copy(id), Errno::EPERM)?;
        let id = world.table.put(20, &indirect(Endpoint::VFS, world.me, original));
        expect_error("somebody else's grant on the way", world.copy(id), Errno::EPERM)
    });
    suite.check("G2.two-parties", |_| two_parties(world));
    suite.check("G5.any.direct", |_| {
        let entry = RawEntry { grantee: Endpoint::ANY, ..world.direct(READ | WRITE, world.mine, PAGE) };
        let id = world.table.put(22, &entry);
        expect("the peer", world.copy(id).explain("the peer's copy")?, 8)?;
        let mut own = [0; 8];
        expect("the granter itself", kernel::safecopy_from(world.me, id, 0, &mut own).whole(), Ok(8))
    });
    suite.check("G5.any.indirect", |_| {
        let original = RawEntry { grantee: world.me, ..world.direct(READ, world.mine, PAGE) };
        let original = world.table.put(23, &original);
        let id = world.table.put(24, &indirect(Endpoint::ANY, world.me, original));
        expect("the peer", world.copy(id).explain("the peer's copy")?, 8)?;
        // Any is a grantee of the way, not of the original.
        expect_error("the original", world.copy(original), Errno::EPERM)
    });
}

fn indirect(grantee: Endpoint, granter: Endpoint, id: GrantId) -> RawEntry {
    RawEntry {
        flags: READY | INDIRECT,
        sequence: 0,
        grantee,
        other: granter,
        start: id.0.cast_unsigned(),
        length: 0,
    }
}

/// `hops` indirect grants, the last of which is the peer's: its id.
fn chain(world: &World, hops: u32) -> GrantId {
    let original = RawEntry { grantee: world.me, ..world.direct(READ, world.mine, PAGE) };
    let mut id = world.table.put(10, &original);
    for hop in 1..=hops {
        let grantee = if hop == hops { world.peer.endpoint() } else { world.me };
        id = world.table.put(10 + hop, &indirect(grantee, world.me, id));
    }
    id
}

/// The peer's memory, lent to the test, which passes it on to the peer: permissions are the original's.
fn two_parties(world: &World) -> Result<(), String> {
    world.peer.fill(world.theirs + PAGE, PAGE, GRANTED, 0)?;
    let original = world.peer.grant(world.me, world.theirs + PAGE, PAGE, READ)?;
    let id = world.table.put(25, &indirect(world.peer.endpoint(), world.peer.endpoint(), original));
    let copied = world.peer.copy_from(world.me, id, 100, world.theirs, 200).whole().explain("the copy")?;
    expect("bytes", copied, 200)?;
    expect("the right bytes", world.peer.matching(world.theirs, 200, GRANTED, 100)?, 200)?;
    let refused = world.peer.copy_to(world.me, id, 0, world.theirs, 8).whole();
    expect_error("writing through the way what may be read", refused, Errno::EPERM)?;
    expect("the mark", world.peer.revoke(original)?, false)?;
    let refused = world.peer.copy_from(world.me, id, 100, world.theirs, 200).whole();
    expect_error("the original revoked", refused, Errno::EPERM)
}
