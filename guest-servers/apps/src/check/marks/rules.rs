//! M1 to M8 and M12: when there is a mark, and in which grant.

use alloc::format;
use alloc::string::String;

use refault_abi::counters::Counter;
use refault_abi::layout::PAGE;
use refault_abi::options::{Mark, Mode, Retry};
use refault_abi::pattern::FILE_A;
use refault_abi::{Errno, GrantId};
use refault_rt::grants::Grant;
use refault_rt::grants::table::{Access, Side};
use refault_rt::kernel;

use super::{THEIRS, World, anonymous, is_theirs};
use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::party::Party;
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Record, Suite, expect, expect_error};

/// A buffer of one page and 300 bytes on the next, which is absent.
fn split() -> Layout {
    Layout::plain(PAGE - 100, 400).without(0b10)
}

/// All of them.
pub fn run(suite: &mut Suite, world: &World, stages: &[Stage]) {
    for stage in stages {
        let name = stage.name();
        suite.check(&format!("M1.{name}"), |record| absent_with_try(record, world, *stage));
        suite.check(&format!("M2.{name}"), |record| absent_without_try(record, world, *stage));
        suite.check(&format!("M4.{name}"), |record| two_faults(record, world, *stage));
        suite.check(&format!("M6.{name}"), |record| of_a_file(record, world, *stage));
        suite.check(&format!("M7.direct.{name}"), |record| through_a_chain(record, world, *stage));
    }
    suite.check("M3", |record| {
        let buffer = anonymous(Layout::plain(17, 2 * PAGE), Stage::First)?;
        let grant = world.lend(&buffer).make().explain("a grant")?;
        let (moved, delta) =
            record.measure(|| world.peer.copy_to(world.me, grant.id(), 0, world.theirs, 2 * PAGE))?;
        expect("the copy", moved.whole(), Ok(2 * PAGE))?;
        expect("faults", delta.faults(), 0)?;
        expect("the mark", grant.revoke().fault, None)?;
        crate::ensure!(is_theirs(buffer.bytes(), 0), "wrong bytes");
        Ok(())
    });
    suite.check("M5", |record| no_mark_for_refusals(record, world));
    suite.check("M8", |record| own_buffer(record, world));
    let (retry, mode) = (suite.options().retry, suite.options().mode);
    let honoured = retry == Retry::Hardened && mode == Mode::Hardened;
    suite.check("M12", |record| memset(record, world, honoured));
}

fn absent_with_try(record: &mut Record, world: &World, stage: Stage) -> Result<(), String> {
    let buffer = anonymous(split(), stage)?;
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let (moved, delta) = record.measure(|| world.peer.copy_to(world.me, grant.id(), 0, world.theirs, 400))?;
    expect_error("the copy", moved.result, Errno::EFAULT)?;
    expect("bytes moved", moved.bytes, 100)?;
    expect("faults", delta.faults(), 1)?;
    expect("marks", delta.of(Counter::MarksSet), 1)?;
    expect("suspensions", delta.of(Counter::Suspends), 0)?;
    let second = stage != Stage::First;
    let fault = grant.revoke().fault;
    world.check_mark(fault, Side::Granted, Access::Write, second, buffer.address() + 100)?;
    crate::ensure!(
        is_theirs(buffer.bytes().get(..100).unwrap_or_default(), 0),
        "wrong bytes before the fault"
    );
    buffer.untouched_but(100)
}

fn absent_without_try(record: &mut Record, world: &World, stage: Stage) -> Result<(), String> {
    let buffer = anonymous(split(), stage)?;
    let grant = world.lend(&buffer).try_only(false).make().explain("a grant")?;
    let (moved, delta) = record.measure(|| world.peer.copy_to(world.me, grant.id(), 0, world.theirs, 400))?;
    expect("the copy", moved.whole(), Ok(400))?;
    expect("suspensions", delta.of(Counter::Suspends), 1)?;
    expect("faults", delta.faults(), 1)?;
    expect("marks", delta.of(Counter::MarksSet), 0)?;
    expect("the mark", grant.revoke().fault, None)?;
    crate::ensure!(is_theirs(buffer.bytes(), 0), "wrong bytes");
    Ok(())
}

fn two_faults(record: &mut Record, world: &World, stage: Stage) -> Result<(), String> {
    // Two absent pages; the copies meet the later one first.
    let buffer = anonymous(Layout::plain(0, 3 * PAGE).without(0b110), stage)?;
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let copy = |offset| world.peer.copy_to(world.me, grant.id(), offset, world.theirs, 64);
    let ((first, second), delta) = record.measure(|| (copy(2 * PAGE + 8), copy(PAGE + 8)))?;
    expect_error("the first copy", first.result, Errno::EFAULT)?;
    expect_error("the second copy", second.result, Errno::EFAULT)?;
    expect("faults", delta.faults(), 2)?;
    let fault = grant.revoke().fault;
    crate::ensure!(fault.is_some(), "no mark");
    if world.mark == Mark::Atomic {
        let address = fault.map_or(0, |fault| fault.address);
        let (one, other) = (buffer.address() + 2 * PAGE + 8, buffer.address() + PAGE + 8);
        crate::ensure!(address == one || address == other, "the mark names {address:#x}");
    }
    Ok(())
}

/// A direct grant over a page of a mapped file.
fn of_a_file(record: &mut Record, world: &World, stage: Stage) -> Result<(), String> {
    let mapped = Mapped::pattern("/a.bin", FILE_A)?;
    let buffer = Buffer::new(mapped, split(), stage, false)?;
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let (moved, _) = record.measure(|| world.peer.copy_from(world.me, grant.id(), 0, world.theirs, 400))?;
    expect_error("the copy", moved.result, Errno::EFAULT)?;
    expect("bytes moved", moved.bytes, 100)?;
    let second = stage != Stage::First;
    let fault = grant.revoke().fault;
    world.check_mark(fault, Side::Granted, Access::Read, second, buffer.address() + 100)?;
    // Without CPF_TRY the same copy waits for the file's page.
    let grant = world.lend(&buffer).try_only(false).make().explain("a grant")?;
    let copied = world.peer.copy_from(world.me, grant.id(), 0, world.theirs, 400).whole();
    expect("the copy that waits", copied, Ok(400))?;
    let there = world.peer.matching(world.theirs, 400, FILE_A, PAGE + PAGE - 100)?;
    expect("bytes of the file", there, 400)?;
    world.peer.fill(world.theirs, 400, THEIRS, 0)?;
    refault_rt::user::close(mapped.descriptor).explain("close")
}

/// M7: the original is marked, the grant on the way is not.
fn through_a_chain(record: &mut Record, world: &World, stage: Stage) -> Result<(), String> {
    let buffer = anonymous(split(), stage)?;
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let third = Party::start()?;
    let there = third.map(PAGE, true)?;
    let way = world.peer.pass_on(third.endpoint(), world.me, grant.id())?;
    let (moved, delta) = record.measure(|| third.copy_to(world.peer.endpoint(), way, 0, there, 400))?;
    expect_error("the copy", moved.result, Errno::EFAULT)?;
    expect("bytes moved", moved.bytes, 100)?;
    expect("faults", delta.faults(), 1)?;
    expect("the mark of the grant on the way", world.peer.revoke(way)?, false)?;
    let second = stage != Stage::First;
    let fault = grant.revoke().fault;
    world.check_mark(fault, Side::Granted, Access::Write, second, buffer.address() + 100)?;
    third.end()
}

fn no_mark_for_refusals(record: &mut Record, world: &World) -> Result<(), String> {
    let buffer = anonymous(Layout::plain(0, 2 * PAGE).without(0b11), Stage::First)?;
    let grant = Grant::direct(world.peer.endpoint(), buffer.address(), PAGE).read().try_only(true);
    let grant = grant.make().explain("a grant")?;
    let id = grant.id();
    let (_, delta) = record.measure(|| {
        [
            world.peer.copy_to(world.me, id, 0, world.theirs, 8).result,
            world.peer.copy_from(world.me, id, PAGE, world.theirs, 8).result,
            world.peer.copy_from(world.me, id, 0, world.theirs, 0).result,
            world.peer.memset(world.me, id, 0, 1, 8).result,
            world.peer.copy_from(world.me, GrantId(id.0 + (1 << 20)), 0, world.theirs, 8).result,
        ]
    })?;
    expect("faults", delta.faults(), 0)?;
    expect("marks", delta.of(Counter::MarksSet), 0)?;
    expect("the mark", grant.revoke().fault, None)
}

/// M8: the page that is not there is the grantee's own.
fn own_buffer(record: &mut Record, world: &World) -> Result<(), String> {
    let buffer = anonymous(Layout::plain(0, 2 * PAGE), Stage::First)?;
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let absent = world.peer.map(PAGE, false)?;
    let (moved, delta) = record.measure(|| world.peer.copy_from(world.me, grant.id(), 0, absent + 40, 64))?;
    expect_error("the copy", moved.result, Errno::EFAULT)?;
    expect("bytes moved", moved.bytes, 0)?;
    expect("faults", delta.faults(), 1)?;
    expect("marks", delta.of(Counter::MarksSet), 1)?;
    world.check_mark(grant.revoke().fault, Side::Grantee, Access::Write, false, absent + 40)?;
    // Reading one's own absent page is a fault, too.
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let moved = world.peer.copy_to(world.me, grant.id(), 0, absent + 40, 64);
    expect_error("the copy the other way", moved.result, Errno::EFAULT)?;
    world.check_mark(grant.revoke().fault, Side::Grantee, Access::Read, false, absent + 40)
}

fn memset(record: &mut Record, world: &World, honoured: bool) -> Result<(), String> {
    let buffer = anonymous(split(), Stage::First)?;
    let grant = Grant::direct(world.peer.endpoint(), buffer.address(), 400).write().try_only(true);
    let grant = grant.make().explain("a grant")?;
    let (moved, delta) = record.measure(|| world.peer.memset(world.me, grant.id(), 0, 0xee, 400))?;
    expect("faults", delta.faults(), 1)?;
    let fault = grant.revoke().fault;
    let set = if honoured {
        expect_error("SAFEMEMSET", moved.result, Errno::EFAULT)?;
        expect("bytes set", moved.bytes, 100)?;
        world.check_mark(fault, Side::Granted, Access::Write, false, buffer.address() + 100)?;
        100
    } else {
        // The seed's kernel forgets CPF_TRY here and waits for VM.
        expect("SAFEMEMSET", moved.whole(), Ok(400))?;
        expect("suspensions", delta.of(Counter::Suspends), 1)?;
        expect("the mark", fault, None)?;
        400
    };
    let right = buffer.bytes().iter().take_while(|byte| **byte == 0xee).count() as u64;
    expect("bytes of the value", right, set)?;
    buffer.untouched_but(set)
}

/// Grants of the test to itself: the same rules where granter and grantee are one.
pub fn alone(suite: &mut Suite, world: &World) {
    suite.check("M1.alone", |record| {
        let buffer = anonymous(split(), Stage::First)?;
        let grant = Grant::direct(world.me, buffer.address(), 400).read().write().try_only(true);
        let grant = grant.make().explain("a grant")?;
        let (moved, _) = record.measure(|| kernel::safecopy_to(world.me, grant.id(), 0, &[1; 400]))?;
        expect_error("the copy", moved.result, Errno::EFAULT)?;
        expect("bytes moved", moved.bytes, 100)?;
        crate::ensure!(grant.revoke().fault.is_some(), "no mark");
        Ok(())
    });
}
