use refault_abi::layout::PAGE;
use std::vec;

use super::*;
use crate::files::File;
use crate::jobs::{Asker, FileMapping};
use crate::memory::Access;

const VFS_ASKS: Asker = Asker { endpoint: Endpoint::VFS, transaction: 9, waits: false };

fn job(target: Endpoint, purpose: Purpose) -> Job {
    Job {
        purpose,
        target,
        next: 0,
        end: PAGE,
        access: Access::default(),
        address: 0,
        away: false,
        asked: None,
    }
}

fn page_in(inode: u64, length: u64, jobs: &[Job]) -> Asked {
    Asked::PageIn { device: 1, inode, offset: 0, length, jobs: jobs.to_vec() }
}

fn call() -> VmCall {
    VmCall::default()
}

#[test]
fn jobs_for_one_page_share_a_request() {
    let mut pending = Pending::new(false);
    let first = job(Endpoint::INIT, Purpose::Fault);
    assert_eq!(pending.join(1, 2, 0, first), Err(first));
    let (id, now) = pending.add(page_in(2, 2 * PAGE, &[first]), call());
    assert_eq!(now.unwrap().request, id);
    let other = job(Endpoint::MFS, Purpose::Fault);
    assert!(!pending.brings_in_for(Endpoint::MFS));
    assert_eq!(pending.join(1, 2, PAGE, other), Ok(id));
    assert!(pending.brings_in_for(Endpoint::MFS) && pending.brings_in_for(Endpoint::INIT));
    assert_eq!(pending.join(1, 2, 2 * PAGE, other), Err(other));
    assert_eq!(pending.join(1, 3, 0, other), Err(other));
    assert_eq!(pending.take(id).0, Some(page_in(2, 2 * PAGE, &[first, other])));
    assert_eq!(pending.take(id).0, None);
    assert!(pending.is_empty());
}

#[test]
fn one_at_a_time_the_youngest_first() {
    let mut pending = Pending::new(true);
    let fault = job(Endpoint::INIT, Purpose::Fault);
    let (first, now) = pending.add(page_in(1, PAGE, &[fault]), call());
    assert_eq!(now.unwrap().request, first);
    let (second, now) = pending.add(page_in(2, PAGE, &[fault]), call());
    assert!(now.is_none());
    let (third, now) = pending.add(page_in(3, PAGE, &[fault]), call());
    assert!(now.is_none());
    assert_eq!(pending.join(1, 1, 0, fault), Err(fault), "the seed shares nothing");
    // An answer to a request that VFS does not have changes nothing.
    assert!(matches!(pending.take(second), (None, None)));
    let (answered, next) = pending.take(first);
    assert_eq!((answered, next.unwrap().request), (Some(page_in(1, PAGE, &[fault])), third));
    let (answered, next) = pending.take(third);
    assert_eq!((answered, next.unwrap().request), (Some(page_in(3, PAGE, &[fault])), second));
    let (answered, next) = pending.take(second);
    assert!(answered.is_some() && next.is_none());
    let (_, now) = pending.add(page_in(4, PAGE, &[fault]), call());
    assert!(now.is_some());
}

#[test]
fn the_dead_leave_their_jobs_to_those_who_wait() {
    let (dying, other) = (Endpoint::new(1, 20), Endpoint::new(1, 21));
    let mut pending = Pending::new(false);
    let own = job(dying, Purpose::Fault);
    let copied_from = job(dying, Purpose::KernelCall { requestor: other });
    let copies = job(other, Purpose::KernelCall { requestor: dying });
    let handled = job(dying, Purpose::HandleMem(VFS_ASKS));
    let bystander = job(other, Purpose::Fault);
    let (id, _) = pending.add(page_in(2, PAGE, &[own, copied_from, copies, handled, bystander]), call());
    let exec = Exec {
        process: dying,
        privilege: 0,
        file: File { handle: 7, device: 1, inode: 9, size: 100 },
        strings: vec![],
        asker: Asker { endpoint: Endpoint::PM, transaction: 3, waits: false },
    };
    let (program, _) = pending.add(Asked::Program(exec.clone()), call());
    let orphans = pending.forget(dying);
    assert_eq!(orphans, Orphans { jobs: vec![copied_from, handled], execs: vec![exec] });
    assert_eq!(pending.take(id).0, Some(page_in(2, PAGE, &[bystander])));
    assert!(matches!(pending.take(program).0, Some(Asked::PageIn { jobs, .. }) if jobs.is_empty()));
    assert!(pending.is_empty());
}

#[test]
fn what_only_the_dead_wanted_is_not_asked_for() {
    let (dying, other) = (Endpoint::new(1, 20), Endpoint::new(1, 21));
    let mapping = FileMapping { address: 0, length: PAGE, protection: 1, fixed: false, offset: 0 };
    let mut pending = Pending::new(true);
    let (current, _) = pending.add(Asked::Lookup { caller: dying, mapping }, call());
    let (kept, _) = pending.add(page_in(1, PAGE, &[job(other, Purpose::Fault)]), call());
    pending.add(page_in(2, PAGE, &[job(dying, Purpose::Fault)]), call());
    pending.add(Asked::Lookup { caller: dying, mapping }, call());
    assert_eq!(pending.forget(dying), Orphans::default());
    assert_eq!(pending.len(), 2);
    let (answered, next) = pending.take(current);
    assert_eq!((answered, next.unwrap().request), (Some(Asked::Lookup { caller: dying, mapping }), kept));
}
