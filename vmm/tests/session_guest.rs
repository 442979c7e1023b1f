//! Sessions of the real guest: what a run does depends on its rules and its argument, and on nothing that was before.

mod common;

use common::{guest_session, kvm_or_skip, runtime};
use refault::inject::parse_rule;
use refault::snapshot::{Ran, Run, Session};
use refault::vm::End;

async fn run(session: &mut Session, rules: &[&str], argument: u64) -> Ran {
    let rules = rules.iter().map(|rule| parse_rule(rule).unwrap()).collect();
    let ran = session.run(Run { rules, argument, log_sites: true, ..Run::default() }).await.unwrap();
    eprintln!(
        "restore {:?}, run {:?}, {} sites, {:?}",
        ran.restore,
        ran.took,
        ran.sites.len(),
        ran.counters.all_reflected()
    );
    ran
}

#[test]
fn a_run_is_the_same_whatever_came_before() {
    if !kvm_or_skip("a_run_is_the_same_whatever_came_before") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, &[], 0).await;
        assert_eq!(clean.end, End::Exited(0), "{} {:?}", clean.console, clean.reports);
        assert!(clean.sites.len() > 20 && clean.counters.armed == 0);
        let faulted = run(&mut session, &["read: reflect"], 0).await;
        assert_eq!(faulted.end, End::Exited(0), "{} {:?}", faulted.console, faulted.reports);
        assert!(faulted.counters.reflected > 0 && faulted.counters.conserved());
        assert_eq!(session.first_difference_when_put_back().unwrap(), None);
        let again = run(&mut session, &[], 0).await;
        assert_eq!((again.end, &again.reports, &again.sites), (clean.end, &clean.reports, &clean.sites));
        assert_eq!(again.disks[0].image(), clean.disks[0].image());
    });
}
