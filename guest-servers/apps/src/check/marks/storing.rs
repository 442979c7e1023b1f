//! M10: a page that fork has made read-only. M11: a mark that cannot be stored because the granter's own table page is not to
//! be written.
//!
//! After a fork every private page of both processes is shared and read-only until somebody writes it. Such a page can be
//! read, so a grant entry on it is verified; it cannot be written, so the mark cannot be stored.

use alloc::string::String;

use refault_abi::Errno;
use refault_abi::counters::Counter;
use refault_abi::layout::PAGE;
use refault_abi::options::Mode;
use refault_rt::grants::table::{Access, Side};
use refault_rt::user::Forked;
use refault_rt::{Endpoint, ipc, user};

use super::{World, anonymous, is_theirs};
use crate::check::buffer::Stage;
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Record, Suite, expect, expect_error};

/// Both of them.
pub fn run(suite: &mut Suite, world: &World) {
    suite.check("M10", |record| copy_on_write(record, world));
    let mode = suite.options().mode;
    suite.check("M11", |record| table_is_read_only(record, world, mode));
}

/// A child that only waits until it is told to end.
fn bystander() -> Result<Endpoint, String> {
    match user::fork().explain("fork")? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => {
            let parent = user::getppid().unwrap_or(Endpoint::PM);
            // Whatever comes is the sign.
            let _ = ipc::receive(parent);
            user::exit(0)
        }
    }
}

/// Ends the child.
fn dismiss(child: Endpoint) -> Result<(), String> {
    ipc::send(child, &refault_abi::Message::bare(0x7fff)).explain("dismissing the child")?;
    let (gone, status) = user::wait().explain("wait")?;
    expect("the child", (gone, status), (child, 0))
}

fn copy_on_write(record: &mut Record, world: &World) -> Result<(), String> {
    let buffer = anonymous(Layout::plain(0, 2 * PAGE), Stage::First)?;
    let child = bystander()?;
    let grant = world.lend(&buffer).make().explain("a grant")?;
    // Reading is no fault.
    let read = world.peer.copy_from(world.me, grant.id(), 0, world.theirs + 6 * PAGE, 64).whole();
    expect("reading", read, Ok(64))?;
    let (moved, delta) =
        record.measure(|| world.peer.copy_to(world.me, grant.id(), PAGE - 50, world.theirs, 100))?;
    expect_error("writing", moved.result, Errno::EFAULT)?;
    expect("bytes written", moved.bytes, 0)?;
    expect("faults", delta.faults(), 1)?;
    let fault = grant.revoke().fault;
    world.check_mark(fault, Side::Granted, Access::Write, false, buffer.address() + PAGE - 50)?;
    buffer.untouched_but(0)?;
    // Without CPF_TRY it waits for the copy of the page, both pages.
    let grant = world.lend(&buffer).try_only(false).make().explain("a grant")?;
    let (moved, delta) =
        record.measure(|| world.peer.copy_to(world.me, grant.id(), PAGE - 50, world.theirs, 100))?;
    expect("writing that waits", moved.whole(), Ok(100))?;
    crate::ensure!(
        delta.of(Counter::VmCopyOnWrite) >= 2,
        "{} pages copied",
        delta.of(Counter::VmCopyOnWrite)
    );
    let range = (PAGE - 50) as usize..(PAGE + 50) as usize;
    crate::ensure!(is_theirs(buffer.bytes().get(range).unwrap_or_default(), 0), "wrong bytes");
    dismiss(child)
}

fn table_is_read_only(record: &mut Record, world: &World, mode: Mode) -> Result<(), String> {
    let buffer = anonymous(Layout::plain(PAGE - 100, 400).without(0b10), Stage::First)?;
    let grant = world.lend(&buffer).make().explain("a grant")?;
    // From here on the page of the grant table is the child's as well.
    let child = bystander()?;
    let (moved, delta) = record.measure(|| world.peer.copy_to(world.me, grant.id(), 0, world.theirs, 50))?;
    // The page of the buffer is the child's, too, and so is not to be written either: no byte moves.
    expect_error("the copy", moved.result, Errno::EFAULT)?;
    let (stored, pending) = (delta.of(Counter::MarksSet), delta.of(Counter::MarksPending));
    match mode {
        Mode::Hardened => {
            crate::ensure!(stored + pending >= 1, "no mark was stored or remembered");
            crate::ensure!(pending >= 1, "the table's page could be written: nothing was tested");
            let fault = grant.revoke().fault;
            world.check_mark(fault, Side::Granted, Access::Write, false, buffer.address())?;
        }
        Mode::Faithful => {
            expect("marks that could not be stored", delta.of(Counter::MarksFailed), 1)?;
            expect("the mark, which is lost", grant.revoke().fault, None)?;
        }
    }
    dismiss(child)
}
