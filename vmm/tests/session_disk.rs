//! Faults of the disk with the real guest, in sessions: what the application is told, and what is on the image afterwards.
//!
//! The one thing to hold in mind: who is told of a failed request may do what is specified and nothing worse (it is done again, or ends with
//! EIO); who is not told, because the power failed in the middle of a write, may leave an image that the checker complains of, and then
//! the checker's complaint is what is shown.

mod common;

use std::time::Duration;

use common::{guest_session, kvm_or_skip, runtime};
use refault::inject::parse_rule;
use refault::snapshot::{Ran, Run, Session};
use refault::suite::disk;
use refault::vm::End;

/// Reads, writes, cuts and syncs of a file, seed 5.
const FSX: u64 = 9 | 40 << 16 | 5 << 32;

async fn run(session: &mut Session, rule: &str) -> Ran {
    let rules = if rule.is_empty() { vec![] } else { vec![parse_rule(rule).unwrap()] };
    let timeout = Some(Duration::from_secs(60));
    let ran = session.run(Run { rules, argument: FSX, timeout, ..Run::default() }).await.unwrap();
    let why = checked(&ran);
    eprintln!(
        "{rule}: {:?} {:?} disk faults {} {why:?} {:?}",
        ran.took, ran.end, ran.disk_faults, ran.reports
    );
    ran
}

/// What the host's checker says of the first disk; nothing is wrong where there is none.
fn checked(ran: &Ran) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("after.img");
    std::fs::write(&path, ran.disks[0].image()).unwrap();
    disk::fsck(&path).unwrap_or(Ok(()))
}

/// What the guest's own check says of its workload.
fn verdict(ran: &Ran) -> &'static str {
    let text = ran.reports.concat();
    assert!(text.contains("@end"), "{text}");
    ["CORRUPT", "SHORT", "REJECTED"]
        .into_iter()
        .find(|word| text.contains(word))
        .unwrap_or(if text.contains("\"ok\":false") { "FAIL" } else { "PASS" })
}

#[test]
fn an_error_is_told_and_harms_nothing_else() {
    if !kvm_or_skip("an_error_is_told_and_harms_nothing_else") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, "").await;
        assert_eq!((&clean.end, verdict(&clean), clean.disk_faults), (&End::Exited(0), "PASS", 0));
        checked(&clean).unwrap();
        // One request fails: the application gets EIO, and what could not be written is written later.
        for rule in [
            "disk op=read nth=1: error",
            "disk op=read nth=3: error",
            "disk op=write nth=1: error",
            "disk op=write nth=2: error",
            "disk op=write nth=1: short=1",
            "disk op=read nth=1: short=1",
            "disk op=flush nth=1: error",
        ] {
            let ran = run(&mut session, rule).await;
            assert_eq!(ran.end, End::Exited(0), "{rule}: {} {:?}", ran.console, ran.reports);
            assert_eq!(ran.disk_faults, 1, "{rule}");
            assert!(matches!(verdict(&ran), "REJECTED" | "PASS"), "{rule}: {:?}", ran.reports);
            assert!(ran.unfinished.is_empty(), "{rule}: {:?}", ran.unfinished);
            checked(&ran).unwrap_or_else(|why| panic!("{rule}: {why}"));
        }
        let again = run(&mut session, "").await;
        assert_eq!((&again.reports, again.disks[0].image()), (&clean.reports, clean.disks[0].image()));
    });
}

#[test]
fn a_disk_that_always_fails_is_told_of_and_the_guest_lives() {
    if !kvm_or_skip("a_disk_that_always_fails_is_told_of_and_the_guest_lives") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        for rule in
            ["disk op=read: error", "disk op=write: error", "disk op=read: short=1", "disk op=flush: error"]
        {
            let ran = run(&mut session, rule).await;
            assert_eq!((&ran.end, verdict(&ran)), (&End::Exited(0), "REJECTED"), "{rule}: {:?}", ran.reports);
            assert!(ran.disk_faults > 1, "{rule}: {}", ran.disk_faults);
            // What did not get there at all, or was not forced there, leaves a whole file system behind.
            checked(&ran).unwrap_or_else(|why| panic!("{rule}: {why}"));
        }
        // Half of each write gets there, and none of them ever succeeds: the application is told, and nothing can make the image whole
        // without a journal. What the checker says of it is shown, not hidden.
        let ran = run(&mut session, "disk op=write: short=1").await;
        assert_eq!((&ran.end, verdict(&ran)), (&End::Exited(0), "REJECTED"), "{:?}", ran.reports);
        assert!(ran.disk_faults > 1);
        if disk::has_fsck() {
            let why = checked(&ran).unwrap_err();
            assert!(why.contains("/exercise/"), "damage beyond what was being written: {why}");
        }
    });
}

#[test]
fn late_answers_change_nothing() {
    if !kvm_or_skip("late_answers_change_nothing") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, "").await;
        let late = run(&mut session, "disk: delay=2ms").await;
        assert_eq!((&late.end, &late.reports), (&clean.end, &clean.reports));
        assert!(late.disk_faults > 10);
        assert_eq!(late.disks[0].image(), clean.disks[0].image());
        assert!(late.took > Duration::from_millis(2) * u32::try_from(late.disk_faults).unwrap() / 4);
    });
}

#[test]
fn a_torn_transfer_is_never_taken_for_a_good_run() {
    if !kvm_or_skip("a_torn_transfer_is_never_taken_for_a_good_run") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, "").await;
        for rule in [
            "disk op=write nth=1: torn=1",
            "disk op=write nth=2: torn=1",
            "disk op=write: torn=1",
            "disk op=write: torn=0",
            "disk op=read: torn=1",
        ] {
            let ran = run(&mut session, rule).await;
            assert!(ran.disk_faults > 0, "{rule}");
            assert_eq!(ran.end, End::Exited(1), "{rule}: {} {:?}", ran.console, ran.reports);
            assert!(matches!(verdict(&ran), "CORRUPT" | "FAIL"), "{rule}: {:?}", ran.reports);
        }
        // Metadata that is half there is what the checker finds, and it names the place.
        if disk::has_fsck() {
            let why = checked(&run(&mut session, "disk op=write: torn=1").await).unwrap_err();
            assert!(why.contains("/exercise/"), "{why}");
        }
        let again = run(&mut session, "").await;
        assert_eq!((&again.reports, again.disks[0].image()), (&clean.reports, clean.disks[0].image()));
    });
}
