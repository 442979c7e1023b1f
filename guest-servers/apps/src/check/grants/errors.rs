//! G1: each refusal of verification, in its order. G4: the edges of ranges. G6: magic grants of somebody who may not make them.

use alloc::string::String;

use refault_abi::grant::{DIRECT, INDIRECT, MAGIC, READ, USED, VALID, WRITE};
use refault_abi::layout::{PAGE, USER_END};
use refault_abi::{Endpoint, Errno, GrantId};

use super::{ENTRIES, GRANTED, READY, World};
use crate::check::suite::{Explain, Suite, expect, expect_error};
use crate::check::table::RawEntry;

/// The first: nothing has been registered by this process yet.
pub fn without_table(suite: &mut Suite, world: &World) {
    suite.check("G1.no-table", |_| {
        expect_error("a copy", world.copy(GrantId(0)), Errno::EPERM)?;
        expect_error("a bad id comes first", world.copy(GrantId(-1)), Errno::EINVAL)
    });
}

/// The others. Registers the test's own table.
pub fn run(suite: &mut Suite, world: &World) {
    if let Err(error) = world.table.register() {
        return suite.check("G1.table", |_| Err(alloc::format!("SETGRANT: {error}")));
    }
    suite.check("G1.granter", |_| {
        let copy = |granter, id| world.peer.copy_from(granter, GrantId(id), 0, world.theirs, 8).whole();
        expect_error("no such slot", copy(Endpoint::from_raw(63), 0), Errno::EINVAL)?;
        expect_error("another generation", copy(world.me.next_generation(), 0), Errno::EINVAL)?;
        expect_error("ANY", copy(Endpoint::ANY, 0), Errno::EINVAL)?;
        expect_error("a task", copy(Endpoint::CLOCK, 0), Errno::EINVAL)?;
        expect_error("NONE", copy(Endpoint::NONE, 0), Errno::EFAULT)?;
        // A dead granter comes before a bad id.
        expect_error("a dead granter's bad id", copy(world.me.next_generation(), -1), Errno::EINVAL)
    });
    suite.check("G1.id", |_| {
        world.table.put(1, &world.direct(READ, world.mine, PAGE));
        for id in [-1, i64::MIN, i64::MAX] {
            expect_error("an id that is none", world.copy(GrantId(id)), Errno::EINVAL)?;
        }
        let behind = GrantId::new(ENTRIES as u32, 0);
        expect_error("an index behind the table", world.copy(behind), Errno::EPERM)?;
        expect_error("the last possible index", world.copy(GrantId::new((1 << 20) - 1, 0)), Errno::EPERM)?;
        expect_error("another sequence", world.copy(GrantId::new(1, 6)), Errno::EPERM)?;
        expect("the right id", world.copy(GrantId::new(1, 7)).explain("a copy")?, 8)
    });
    suite.check("G1.table-unreadable", |_| {
        // An unmapped table looks like a bad id.
        let far = 0x2fff_0000;
        world.table.register_as(far, 64).explain("SETGRANT")?;
        let answer = world.copy(GrantId::new(1, 7));
        world.table.register().explain("SETGRANT")?;
        expect_error("an entry that cannot be read", answer, Errno::EPERM)
    });
    suite.check("G1.setgrant", |_| {
        let bad = [
            (world.table.address() + 32, 8, "not aligned"),
            (USER_END - 63, 8, "behind user memory"),
            (world.table.address(), 1 << 21, "too many entries"),
            (world.table.address(), u64::MAX, "far too many entries"),
            (0xffff_8000_0000_0000, 8, "the kernel's memory"),
        ];
        for (address, entries, what) in bad {
            expect_error(what, world.table.register_as(address, entries), Errno::EINVAL)?;
        }
        expect("the table still in use", world.copy(GrantId::new(1, 7)).explain("a copy")?, 8)
    });
    suite.check("G1.flags", |_| flags(world));
    suite.check("G1.grantee", |_| {
        let other = RawEntry { grantee: Endpoint::VFS, ..world.direct(READ, world.mine, PAGE) };
        expect_error("another grantee", world.copy(world.table.put(2, &other)), Errno::EPERM)?;
        let stale = RawEntry {
            grantee: world.peer.endpoint().next_generation(),
            ..world.direct(READ, world.mine, PAGE)
        };
        expect_error("the grantee's next life", world.copy(world.table.put(2, &stale)), Errno::EPERM)
    });
    suite.check("G1.access", |_| {
        let read = world.table.put(2, &world.direct(READ, world.mine, PAGE));
        let answer = world.peer.copy_to(world.me, read, 0, world.theirs, 8).whole();
        expect_error("writing what may be read", answer, Errno::EPERM)?;
        expect_error(
            "setting what may be read",
            world.peer.memset(world.me, read, 0, 0, 8).whole(),
            Errno::EPERM,
        )?;
        let write = world.table.put(2, &world.direct(WRITE, world.mine, PAGE));
        expect_error("reading what may be written", world.copy(write), Errno::EPERM)?;
        // Verification comes before the look at the length: no EDOM.
        let answer = world.peer.copy_from(world.me, write, 0, world.theirs, 0).whole();
        expect_error("nothing, without the right", answer, Errno::EPERM)?;
        let seen = world.arena().iter().take(64).enumerate();
        crate::ensure!(
            seen.clone().all(|(at, byte)| *byte == refault_abi::pattern::pattern_byte(GRANTED, at as u64)),
            "a refused call wrote"
        );
        Ok(())
    });
    suite.check("G4.ranges", |_| ranges(world));
    suite.check("G4.addresses", |_| addresses(world));
    suite.check("G6.magic", |_| {
        let entry = RawEntry {
            flags: READY | MAGIC | READ | WRITE,
            other: world.me,
            ..world.direct(0, world.mine, PAGE)
        };
        expect_error("a magic grant of a test", world.copy(world.table.put(3, &entry)), Errno::EPERM)?;
        let entry = RawEntry { other: Endpoint::VFS, grantee: Endpoint::ANY, ..entry };
        expect_error("over VFS's memory", world.copy(world.table.put(3, &entry)), Errno::EPERM)
    });
}

fn flags(world: &World) -> Result<(), String> {
    let with = |flags| RawEntry { flags, ..world.direct(0, world.mine, PAGE) };
    for (flags, what) in [
        (0, "a free slot"),
        (USED | DIRECT | READ, "not valid"),
        (VALID | DIRECT | READ, "not used"),
        (READY | READ, "of no kind"),
        (READY | DIRECT | MAGIC | READ, "direct and magic"),
    ] {
        expect_error(what, world.copy(world.table.put(2, &with(flags))), Errno::EPERM)?;
    }
    // What is indirect leads on, whatever else it claims to be; here to nobody.
    let entry = with(READY | DIRECT | INDIRECT | READ);
    expect_error("direct and indirect", world.copy(world.table.put(2, &entry)), Errno::EINVAL)
}

fn ranges(world: &World) -> Result<(), String> {
    let id = world.table.put(4, &world.direct(READ | WRITE, world.mine, PAGE));
    let copy = |offset, bytes| world.peer.copy_from(world.me, id, offset, world.theirs, bytes).whole();
    expect("all of it", copy(0, PAGE).explain("all")?, PAGE)?;
    expect("its last byte", copy(PAGE - 1, 1).explain("the last byte")?, 1)?;
    for (offset, bytes, what) in [
        (PAGE, 1, "behind the end"),
        (0, PAGE + 1, "longer than it is"),
        (PAGE - 7, 8, "across the end"),
        (u64::MAX, 1, "an offset that wraps"),
        (u64::MAX, u64::MAX, "offset and length that wrap"),
        (1, u64::MAX, "a length that wraps"),
    ] {
        expect_error(what, copy(offset, bytes), Errno::EPERM)?;
        expect_error(what, world.peer.memset(world.me, id, offset, 0, bytes).whole(), Errno::EPERM)?;
    }
    expect_error("nothing", copy(0, 0), Errno::EDOM)?;
    expect_error("nothing at the end", copy(PAGE, 0), Errno::EDOM)?;
    expect_error("nothing set", world.peer.memset(world.me, id, 0, 0, 0).whole(), Errno::EDOM)?;
    let wraps = world.table.put(4, &world.direct(READ, u64::MAX - 7, 16));
    expect_error("start and length that wrap", world.copy(wraps), Errno::EPERM)?;
    let wraps = world.table.put(4, &world.direct(READ, 16, u64::MAX));
    expect_error("a length up to the start", world.copy(wraps), Errno::EPERM)
}

/// What the grant says is right, and yet there is no such user memory.
fn addresses(world: &World) -> Result<(), String> {
    for (start, what) in [
        (USER_END - 4, "across the end of user memory"),
        (0xffff_8000_0010_0000, "the direct map"),
        (0xffff_ffff_8010_0000, "the kernel"),
        (0, "the first page"),
    ] {
        let id = world.table.put(5, &world.direct(READ | WRITE, start, 64));
        expect_error(what, world.copy(id), Errno::EFAULT)?;
        expect_error(what, world.peer.memset(world.me, id, 0, 0, 64).whole(), Errno::EFAULT)?;
    }
    let id = world.table.put(5, &world.direct(READ | WRITE, world.mine, PAGE));
    for (address, what) in [
        (USER_END - 4, "own buffer across the end"),
        (0xffff_8000_0010_0000, "own buffer in the direct map"),
        (0xffff_ffff_8010_0000, "own buffer in the kernel"),
        (u64::MAX - 3, "own buffer that wraps"),
    ] {
        expect_error(what, world.peer.copy_from(world.me, id, 0, address, 8).whole(), Errno::EFAULT)?;
    }
    Ok(())
}
