//! Every page of the guest's memory is away while its disk transfers into it: the monitor's own accesses never trap, each request is
//! answered exactly once, and the guest, which finds each page a moment later than it expected, computes the same.

mod common;

use common::{GUEST_RAM, guest_session, kvm_or_skip, runtime};
use refault::inject::parse_rule;
use refault::snapshot::{Ran, Run, Session};
use refault::vm::End;

/// Workload 9: reads, writes and mappings of a file against a model in memory, 60 operations, seed 5.
const FSX: u64 = 9 | 60 << 16 | 5 << 32;

async fn run(session: &mut Session, rules: &[&str]) -> Ran {
    let rules = rules.iter().map(|rule| parse_rule(rule).unwrap()).collect();
    let ran = session.run(Run { rules, argument: FSX, ..Run::default() }).await.unwrap();
    assert_eq!(ran.end, End::Exited(0), "{} {:?}", ran.console, ran.reports);
    assert!(ran.unfinished.is_empty(), "{:?}", ran.unfinished);
    ran
}

#[test]
fn a_disk_transfers_into_pages_that_are_away() {
    if !kvm_or_skip("a_disk_transfers_into_pages_that_are_away") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, &[]).await;
        assert_eq!(clean.counters.armed, 0);
        let away = run(&mut session, &["gpa=ram: delay=0s"]).await;
        let counters = away.counters;
        assert!(counters.conserved(), "{counters:?}");
        // All but the kernel's image, tables, rings and what is registered.
        assert!(counters.armed > GUEST_RAM / 4096 * 3 / 4, "{counters:?}");
        assert!(counters.delayed > 100 && counters.reflected == 0, "{counters:?}");
        assert_eq!(away.disks[0].image(), clean.disks[0].image());
    });
}
