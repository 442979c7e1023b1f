//! G9: VSAFECOPY, sixty-four copies in one call.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::grant::{READ, WRITE};
use refault_abi::kcall::{VSAFECOPY_MAX, VSafeCopyElement};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Errno, GrantId, Result as Answer, pattern};
use refault_rt::kernel;

use super::{GRANTED, World};
use crate::check::suite::{Explain, Suite, expect, expect_error};
use crate::check::table::RawEntry;

/// Bytes of each element.
const PIECE: u64 = 40;

/// All of them. The test is granter and grantee in one.
pub fn run(suite: &mut Suite, world: &World) {
    let entry = RawEntry { grantee: world.me, ..world.direct(READ | WRITE, world.mine, 2 * PAGE) };
    let grant = world.table.put(30, &entry);
    for count in [1, VSAFECOPY_MAX] {
        suite.check(&alloc::format!("G9.{count}"), |_| {
            let mut target = vec![0; count * PIECE as usize];
            call(&elements(world.me, grant, &target, count)).explain("VSAFECOPY")?;
            let target = core::hint::black_box(&mut target);
            expect("bytes", pattern::matching_prefix(GRANTED, 0, target), target.len())
        });
    }
    suite.check("G9.0", |_| call(&[]).explain("VSAFECOPY of nothing"));
    suite.check("G9.65", |_| {
        let count = VSAFECOPY_MAX + 1;
        let mut target = vec![0; count * PIECE as usize];
        expect_error("VSAFECOPY", call(&elements(world.me, grant, &target, count)), Errno::EINVAL)?;
        expect("bytes moved", core::hint::black_box(&mut target).iter().filter(|byte| **byte != 0).count(), 0)
    });
    suite.check("G9.self", |_| self_on_one_side(world, grant));
    suite.check("G9.failure-in-the-middle", |_| {
        let mut target = vec![0; 5 * PIECE as usize];
        let mut vector = elements(world.me, grant, &target, 5);
        if let Some(bad) = vector.get_mut(2) {
            bad.offset = u64::MAX;
        }
        expect_error("VSAFECOPY", call(&vector), Errno::EPERM)?;
        let target = core::hint::black_box(&mut target);
        let moved = 2 * PIECE as usize;
        expect("bytes before", pattern::matching_prefix(GRANTED, 0, target), moved)?;
        expect("bytes after", target.iter().skip(moved).filter(|byte| **byte != 0).count(), 0)
    });
    suite.check("G9.zero-element", |_| {
        let target = vec![0; 2 * PIECE as usize];
        let mut vector = elements(world.me, grant, &target, 2);
        if let Some(nothing) = vector.first_mut() {
            nothing.bytes = 0;
        }
        expect_error("VSAFECOPY", call(&vector), Errno::EDOM)
    });
}

/// Elements that copy one piece after the other out of the grant into `target`.
fn elements(granter: Endpoint, grant: GrantId, target: &[u8], count: usize) -> Vec<VSafeCopyElement> {
    let address = target.as_ptr().expose_provenance() as u64;
    let element = |index| VSafeCopyElement {
        from: granter.raw(),
        to: Endpoint::SELF.raw(),
        grant: grant.0,
        offset: index * PIECE,
        address: address + index * PIECE,
        bytes: PIECE,
        reserved: 0,
    };
    (0..count as u64).map(element).collect()
}

fn call(elements: &[VSafeCopyElement]) -> Answer<()> {
    // SAFETY: the elements name buffers of the cases, which nobody has borrowed meanwhile.
    unsafe { kernel::vsafecopy(elements) }
}

fn self_on_one_side(world: &World, grant: GrantId) -> Result<(), String> {
    let mut target = vec![0; PIECE as usize];
    // What is there already, so that writing it changes nothing.
    pattern::fill(GRANTED, 0, &mut target);
    let mut vector = elements(world.me, grant, &target, 1);
    let own = Endpoint::SELF.raw();
    for (from, to, what) in [(own, own, "SELF twice"), (world.me.raw(), world.me.raw(), "no SELF")] {
        if let Some(element) = vector.first_mut() {
            (element.from, element.to) = (from, to);
        }
        expect_error(what, call(&vector), Errno::EINVAL)?;
    }
    if let Some(element) = vector.first_mut() {
        (element.from, element.to) = (own, world.me.raw());
    }
    call(&vector).explain("SELF as the source")
}
