//! Rules of physical addresses and of delays with the real guest, in sessions: nothing it computes is different, and the sums come out.

mod common;

use std::time::Duration;

use common::{guest_session, kvm_or_skip, runtime};
use refault::inject::parse_rule;
use refault::snapshot::{Ran, Run, Session};
use refault::vm::End;

async fn run(session: &mut Session, rules: &[&str], argument: u64, seed: u64) -> Ran {
    let parsed = rules.iter().map(|rule| parse_rule(rule).unwrap()).collect();
    let timeout = Some(Duration::from_secs(60));
    let ran = session.run(Run { rules: parsed, argument, seed, timeout, ..Run::default() }).await.unwrap();
    let counters = ran.counters;
    eprintln!("{rules:?} {argument:#x} {seed}: {:?} {:?} {counters:?}", ran.took, ran.end);
    assert!(counters.conserved(), "{rules:?}: {counters:?}");
    ran
}

/// A run whose guest must end well.
async fn well(session: &mut Session, rules: &[&str], argument: u64, seed: u64) -> Ran {
    let ran = run(session, rules, argument, seed).await;
    assert_eq!(ran.end, End::Exited(0), "{rules:?} {argument:#x}: {} {:?}", ran.console, ran.reports);
    assert!(ran.unfinished.is_empty());
    ran
}

/// Few operations of a workload.
fn workload(number: u64) -> u64 {
    number | 1 << 16 | 3 << 32
}

#[test]
fn a_share_of_all_memory_in_every_workload() {
    if !kvm_or_skip("a_share_of_all_memory_in_every_workload") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let mut drawn = Vec::new();
        for number in [0, 9, 10, 11, 12, 13, 14] {
            let ran = well(&mut session, &["gpa=ram share=10%: reflect"], workload(number), number).await;
            assert!(ran.counters.armed > 500 && ran.counters.reflected > 0, "{:?}", ran.counters);
            drawn.push(ran.counters.armed);
        }
        drawn.dedup();
        assert!(drawn.len() > 1, "all seeds drew the same number of pages: {drawn:?}");
    });
}

#[test]
fn pages_by_number_and_by_range() {
    if !kvm_or_skip("pages_by_number_and_by_range") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let all = well(&mut session, &["gpa=ram: reflect"], 0, 0).await.counters;
        let seventh = well(&mut session, &["gpa=ram every=7: reflect"], 0, 0).await.counters;
        assert!(seventh.armed.abs_diff(all.armed / 7) < all.armed / 20, "{} {}", seventh.armed, all.armed);
        assert!(all.reflected > seventh.reflected && seventh.reflected > 0);
        let low = well(&mut session, &["gpa=0-0x7fffff: reflect"], 0, 0).await.counters;
        let high = well(&mut session, &["gpa=0x800000-0x1ffffff: reflect"], 0, 0).await.counters;
        assert_eq!(low.armed + high.armed, all.armed);
    });
}

#[test]
fn writes_only_and_processors() {
    if !kvm_or_skip("writes_only_and_processors") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let ran = well(&mut session, &["gpa=ram access=write: reflect"], 0, 0).await;
        assert!(ran.counters.reflected > 0, "{:?}", ran.counters);
        let told =
            |ran: &Ran| ran.faults.iter().filter(|fault| fault.sequence > 0).copied().collect::<Vec<_>>();
        assert!(told(&ran).iter().all(|fault| fault.write), "a read was reflected");
        let all = well(&mut session, &["gpa=ram: reflect"], 0, 0).await.counters;
        let first = well(&mut session, &["gpa=ram vcpu=0: reflect"], 0, 0).await.counters;
        assert_eq!(first.armed, all.armed);
        assert!(first.reflected > 0);
        let none = well(&mut session, &["gpa=ram vcpu=1: reflect"], 0, 0).await.counters;
        assert!(none.reflected == 0 && none.resolved > 0, "{none:?}");
    });
}

#[test]
fn delays_are_not_noticed() {
    if !kvm_or_skip("delays_are_not_noticed") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = well(&mut session, &[], 0, 0).await;
        for rule in ["read: delay=0s", "read page=0 copy=1: delay=200us", "gpa=ram every=64: delay=0s"] {
            let ran = well(&mut session, &[rule], 0, 0).await;
            let counters = ran.counters;
            assert_eq!(ran.reports, clean.reports, "{rule}");
            assert!(counters.delayed > 0 && counters.delayed + counters.resolved == counters.trapped);
            assert_eq!((counters.reflected, counters.delay_expired), (0, 0), "{rule}");
        }
    });
}

#[test]
fn waiting_for_what_does_not_happen() {
    if !kvm_or_skip("waiting_for_what_does_not_happen") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = well(&mut session, &[], 1, 0).await;
        // The only processor waits for what it would have to do itself: the wait ends by its limit, and is counted apart.
        for until in ["site", "trap", "disk"] {
            let rule = format!("read side=granter page=0 copy=1: delay until={until}");
            let ran = well(&mut session, &[&rule], 1, 0).await;
            assert_eq!(ran.reports, clean.reports, "{until}");
            let counters = ran.counters;
            assert_eq!(
                (counters.armed, counters.delayed, counters.delay_expired),
                (1, 1, 1),
                "{until}: {counters:?}"
            );
            assert!(ran.took >= Duration::from_secs(1), "{until}: {:?}", ran.took);
        }
    });
}

#[test]
fn a_poisoned_page_of_a_programs_buffer() {
    if !kvm_or_skip("a_poisoned_page_of_a_programs_buffer") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let ran = run(&mut session, &["read side=granter page=1 copy=1 attempt=1: poison"], 1, 0).await;
        assert_eq!((ran.counters.poisoned, ran.counters.reflected), (1, 0), "{:?}", ran.counters);
        // 128 and SIGBUS: the program is ended; its read is not shortened, and nobody reports a short one.
        assert_eq!(ran.end, End::Exited(135), "{} {:?}", ran.console, ran.reports);
        assert!(!ran.reports.iter().any(|text| text.contains("SHORT") || text.contains("CORRUPT")));
        well(&mut session, &[], 1, 0).await;
    });
}
