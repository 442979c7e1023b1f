//! The queue of suspended kernel calls.

use refault_abi::kcall::{ProcCreate, privilege};
use zerocopy::FromZeros;

use super::*;
use crate::frame::Frame;

fn table() -> Box<Table> {
    let mut table = Box::new(Table::EMPTY);
    for slot in [Endpoint::VM.slot(), 12, 13, 14] {
        let mut request = ProcCreate::new_zeroed();
        (request.slot, request.privilege) = (slot, privilege::SERVER);
        let slot = table.create(&request).unwrap();
        table.start(slot, Frame::EMPTY, 0);
    }
    while table.schedule(None, false).is_some() {}
    table
}

fn request(address: u64) -> VmRequest {
    VmRequest { address, bytes: 8, target: Endpoint::VFS, ..VmRequest::NONE }
}

#[test]
fn in_order_and_once() {
    let mut table = table();
    for slot in [12, 13, 14] {
        table.suspend(slot, request(slot as u64)).unwrap();
    }
    let vm = Endpoint::VM.slot() as usize;
    assert_eq!((table.procs[vm].signals, table.procs[vm].notify_kernel), (SIGNAL_KMEM, FROM_HARDWARE));
    for slot in [12, 13, 14] {
        assert_eq!(
            table.vm_request().map(|(slot, request)| (slot, request.address)),
            Ok((slot, slot as u64))
        );
    }
    assert_eq!(table.vm_request(), Err(Errno::ENOENT));
    let endpoint = table.procs[13].endpoint;
    assert_eq!(table.vm_answer(endpoint), Ok(13));
    assert_eq!(table.procs[13].flags, 0);
    assert_eq!(table.vm_answer(endpoint), Err(Errno::EINVAL), "answered already");
    assert_eq!(table.vm_answer(Endpoint::new(3, 13)), Err(Errno::ESRCH));
}

#[test]
fn an_answer_needs_a_fetched_request() {
    let mut table = table();
    table.suspend(12, request(1)).unwrap();
    let endpoint = table.procs[12].endpoint;
    assert_eq!(table.vm_answer(endpoint), Err(Errno::EINVAL), "not fetched yet");
    assert_eq!(table.procs[12].flags, rts::VMREQUEST);
}

#[test]
fn the_dead_leave_the_queue() {
    for victim in [12, 13, 14] {
        let mut table = table();
        for slot in [12, 13, 14] {
            table.suspend(slot, request(slot as u64)).unwrap();
        }
        table.exit(victim);
        let mut left = Vec::new();
        while let Ok((slot, _)) = table.vm_request() {
            left.push(slot);
        }
        let expected: Vec<usize> = [12, 13, 14].into_iter().filter(|slot| *slot != victim).collect();
        assert_eq!(left, expected);
        table.suspend(expected[0], request(9)).unwrap();
        assert_eq!(table.vm_request().map(|(slot, _)| slot), Ok(expected[0]));
    }
}

#[test]
fn whoever_waits_for_the_memory_of_the_dead_is_let_go() {
    let mut table = table();
    let target = table.procs[13].endpoint;
    table.suspend(12, VmRequest { target, ..request(1) }).unwrap();
    table.suspend(14, request(2)).unwrap();
    assert_eq!(table.vm_request().map(|(slot, _)| slot), Ok(12), "fetched");
    table.exit(13);
    assert_eq!(table.vm_orphan(target), Some(12));
    assert_eq!((table.vm_orphan(target), table.procs[12].flags), (None, 0));
    assert_eq!(table.vm_answer(table.procs[12].endpoint), Err(Errno::EINVAL), "VM's answer is too late");
    // And before VM has fetched it.
    table.suspend(12, VmRequest { target, ..request(3) }).unwrap();
    assert_eq!(table.vm_orphan(target), Some(12));
    assert_eq!(table.vm_request().map(|(slot, _)| slot), Ok(14));
    assert_eq!(table.vm_request().map(|_| ()), Err(Errno::ENOENT));
}

/// Suspends with `bytes` still needed and has VM answer.
fn round(table: &mut Table, bytes: u64) -> Result<()> {
    table.suspend(12, VmRequest { bytes, ..request(1) })?;
    table.vm_request()?;
    table.vm_answer(table.procs[12].endpoint).map(drop)
}

#[test]
fn a_page_that_never_stays_ends_the_call() {
    let mut table = table();
    for _ in 0..SUSPENSIONS {
        assert_eq!(round(&mut table, 100), Ok(()));
    }
    assert_eq!(round(&mut table, 100), Err(Errno::EFAULT));
    assert_eq!((table.procs[12].flags, table.vm_request().map(|_| ())), (0, Err(Errno::ENOENT)));
    // The next call has all of it again.
    table.call_over(12);
    assert_eq!(round(&mut table, 100), Ok(()));
}

#[test]
fn the_seed_s_system_waits_for_ever() {
    let mut table = table();
    table.suspensions = None;
    for _ in 0..100_000 {
        assert_eq!(round(&mut table, 100), Ok(()));
    }
    assert_eq!(table.procs[12].patience.suspensions(), u16::MAX);
}

#[test]
fn each_copy_of_a_call_has_the_patience_of_a_call() {
    let mut table = table();
    for later in (0..64).rev() {
        for _ in 0..SUSPENSIONS {
            table.suspend(12, VmRequest { later, bytes: 100, ..request(1) }).unwrap();
            table.vm_request().unwrap();
            table.vm_answer(table.procs[12].endpoint).unwrap();
        }
    }
    // An earlier copy's page is gone again: that is no progress.
    assert_eq!(table.suspend(12, VmRequest { later: 63, bytes: 1, ..request(1) }), Err(Errno::EFAULT));
}

#[test]
fn progress_renews_the_patience_and_falling_back_does_not() {
    let mut table = table();
    for bytes in (1..=1000).rev() {
        assert_eq!(round(&mut table, bytes), Ok(()), "{bytes} bytes to go");
    }
    // Back and forth between two pages, neither of which stays.
    let outcomes: Vec<_> =
        [500, 1].into_iter().cycle().take(40).map(|bytes| round(&mut table, bytes)).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), usize::from(SUSPENSIONS) - 1);
}
