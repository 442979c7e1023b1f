//! M9: a fault at the first byte, in a page, at the last byte, around a page boundary, with both sides as misaligned as they
//! can be: the bytes before the fault are there, the others are what they were, and the count is exact.

use alloc::format;
use alloc::string::String;

use refault_abi::Errno;
use refault_abi::layout::PAGE;
use refault_rt::grants::table::{Access, Side};

use super::{World, anonymous, is_theirs};
use crate::check::buffer::Stage;
use crate::check::schedule::{Layout, Schedule};
use crate::check::suite::{Explain, Record, Suite, expect, expect_error};

/// Bytes of each copy.
const BYTES: u64 = 2 * PAGE + 700;

/// All of it, for each direction and each stage; the peer's side is misaligned by 0, 1, and 4095 in turn.
pub fn run(suite: &mut Suite, world: &World, stages: &[Stage]) {
    for stage in stages {
        for (index, schedule) in Schedule::all().enumerate() {
            let name =
                format!("M9.{}{}.{}", schedule.position_name(), schedule.boundary_name(), stage.name());
            let skew = [0, 1, PAGE - 1][index % 3];
            let layout = schedule.layout(BYTES, BYTES);
            suite.check(&name, |record| {
                into(record, world, layout, *stage, skew)?;
                out_of(record, world, layout, *stage, skew)
            });
        }
    }
}

/// How many bytes come before the first absent page.
fn before_fault(layout: &Layout) -> u64 {
    let page = layout.first_absent(layout.bytes).unwrap_or(0);
    (page * PAGE).saturating_sub(layout.offset)
}

/// The peer writes the test's memory.
fn into(record: &mut Record, world: &World, layout: Layout, stage: Stage, skew: u64) -> Result<(), String> {
    let buffer = anonymous(layout, stage)?;
    let moved = before_fault(&layout);
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let (done, delta) =
        record.measure(|| world.peer.copy_to(world.me, grant.id(), 0, world.theirs + skew, BYTES))?;
    expect_error("writing", done.result, Errno::EFAULT)?;
    expect("bytes written", done.bytes, moved)?;
    expect("faults", delta.faults(), 1)?;
    let fault = grant.revoke().fault;
    let second = stage != Stage::First;
    world.check_mark(fault, Side::Granted, Access::Write, second, buffer.address() + moved)?;
    let seen = buffer.bytes().get(..moved as usize).unwrap_or_default();
    crate::ensure!(is_theirs(seen, skew), "wrong bytes before the fault");
    buffer.untouched_but(moved)
}

/// The peer reads the test's memory, which is all zeros.
fn out_of(record: &mut Record, world: &World, layout: Layout, stage: Stage, skew: u64) -> Result<(), String> {
    let buffer = anonymous(layout, stage)?;
    let moved = before_fault(&layout);
    let grant = world.lend(&buffer).make().explain("a grant")?;
    let target = world.theirs + 4 * PAGE + skew;
    let (done, _) = record.measure(|| world.peer.copy_from(world.me, grant.id(), 0, target, BYTES))?;
    expect_error("reading", done.result, Errno::EFAULT)?;
    expect("bytes read", done.bytes, moved)?;
    let fault = grant.revoke().fault;
    let second = stage != Stage::First;
    world.check_mark(fault, Side::Granted, Access::Read, second, buffer.address() + moved)?;
    // Behind what was read the peer has its own bytes still.
    let offset = 4 * PAGE + skew;
    let kept = world.peer.matching(target + moved, BYTES - moved, super::THEIRS, offset + moved)?;
    expect("the peer's bytes behind the fault", kept, BYTES - moved)?;
    world.peer.fill(target, BYTES, super::THEIRS, offset)
}
