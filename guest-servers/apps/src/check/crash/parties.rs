//! A copy is suspended until VM has brought a page in, and meanwhile one of its two parties dies.

use alloc::format;
use alloc::string::String;

use refault_abi::counters::Counter;
use refault_abi::layout::PAGE;
use refault_abi::pattern::FILE_A;
use refault_abi::{Errno, GrantId, pm};
use refault_rt::grants::Grant;
use refault_rt::{ipc, kernel, user};

use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::family::{Child, here};
use crate::check::measure::Snapshot;
use crate::check::party::Party;
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Record, Suite, expect};

/// Both of them, at different moments.
pub fn run(suite: &mut Suite) {
    suite.check("suspended.granter-dies", |record| {
        for moment in 0..10 {
            granter_dies(record, moment)?;
        }
        expect("suspensions seen", kernel::counter(Counter::Suspends).explain("COUNTER")? > 0, true)
    });
    suite.check("suspended.grantee-dies", |record| {
        for moment in 0..10 {
            grantee_dies(record, moment)?;
        }
        Ok(())
    });
}

/// A mapping of a file with an absent page, and a grant over it that waits.
fn lend(grantee: refault_rt::Endpoint) -> Result<(Buffer, Grant), String> {
    let mapped = Mapped::pattern("/a.bin", FILE_A)?;
    let layout = Layout::plain(PAGE - 100, 400).without(0b10);
    let buffer = Buffer::new(mapped, layout, Stage::First, false)?;
    let grant = Grant::direct(grantee, buffer.address(), 400).read().make().explain("a grant")?;
    Ok((buffer, grant))
}

fn granter_dies(record: &mut Record, moment: u32) -> Result<(), String> {
    let before = Snapshot::now()?;
    let peer = Party::start()?;
    let there = peer.map(PAGE, true)?;
    let grantee = peer.endpoint();
    let granter = Child::run(|| {
        let (_buffer, grant) = lend(grantee)?;
        here(grant.id().0.cast_unsigned())?;
        // Until it is killed.
        let _ = ipc::receive(user::getppid().explain("getppid")?);
        Ok(())
    })?;
    let id = GrantId(granter.arrived()?.cast_signed());
    peer.post_copy_from(granter.0, id, 0, there, 400).explain("ordering the copy")?;
    for _ in 0..moment {
        ipc::yield_now();
    }
    user::kill(granter.0, pm::SIGKILL).explain("kill")?;
    // Whatever became of it, the copy has an end.
    let moved = peer.copied();
    match moved.result {
        Ok(()) => expect("bytes", moved.bytes, 400)?,
        Err(Errno::EINVAL | Errno::ESRCH | Errno::EDEADSRCDST | Errno::EFAULT) => {}
        Err(error) => return Err(format!("the copy ended with {error}")),
    }
    expect("the granter's status", granter.status()?, 128 + i64::from(pm::SIGKILL))?;
    record.add(&before.until_now()?);
    peer.end()
}

fn grantee_dies(record: &mut Record, moment: u32) -> Result<(), String> {
    let peer = Party::start()?;
    let there = peer.map(PAGE, true)?;
    let (buffer, grant) = lend(peer.endpoint())?;
    let me = user::getpid().explain("getpid")?;
    let before = Snapshot::now()?;
    peer.post_copy_from(me, grant.id(), 0, there, 400).explain("ordering the copy")?;
    for _ in 0..moment {
        ipc::yield_now();
    }
    user::kill(peer.endpoint(), pm::SIGKILL).explain("kill")?;
    peer.gone()?;
    let _ = grant.revoke();
    record.add(&before.until_now()?);
    // The page is to be had all the same, and VM serves others.
    expect("a byte of the page", buffer.bytes().get(100).copied(), Some(buffer.original(100)))?;
    let own = Grant::direct(me, buffer.address(), 400).read().make().explain("a grant")?;
    let mut bytes = [0; 400];
    expect("another copy", kernel::safecopy_from(me, own.id(), 0, &mut bytes).whole(), Ok(400))
}
