//! Verdicts from made-up outcomes.

use super::*;
use crate::inject::FaultCounters;
use crate::vm::outcome::Stats;
use std::time::Duration;

fn snapshot_with(marks: u64, repeats: u64, reflected: u64, soft: u64) -> Option<Box<Snapshot>> {
    let mut guest = vec![0; 512];
    guest[Counter::MarksSet as usize] = marks;
    guest[Counter::VfsRepeats as usize] = repeats;
    guest[Counter::SoftFaultsFirstStage as usize] = soft;
    Some(Box::new(Snapshot { guest, faults: FaultCounters { reflected, ..Default::default() } }))
}

fn outcome(report: &str, repeats: u64, reflected: u64, soft: u64) -> Outcome {
    let event = |code, snapshot| GuestEvent { code, value: 1, at: Duration::ZERO, snapshot };
    Outcome {
        end: End::Exited(0),
        stats: Stats::default(),
        reports: vec!["not json".into(), report.into()],
        events: vec![
            event(event::CASE_BEGIN, snapshot_with(5, 2, 1, 7)),
            event(event::CASE_END, snapshot_with(5 + repeats, 2 + repeats, 1 + reflected, 7 + soft)),
        ],
        faults: Vec::new(),
    }
}

fn report(got: u64, error: &str, right: bool, untouched: bool) -> String {
    format!(
        r#"{{"case":"second-stage","asked":65536,"got":{got},"error":{error},"right":{right},"untouched_ok":{untouched},"moved":{got},"start":0,"position":{got},"position_ok":true}}"#
    )
}

fn verdict(outcome: &Outcome) -> Verdict {
    Row::of("mark", "partial", Source::SecondStage, outcome).verdict
}

#[test]
fn figures_are_differences_over_the_read() {
    let row = Row::of(
        "mark",
        "partial",
        Source::SecondStage,
        &outcome(&report(65536, "null", true, true), 1, 3, 0),
    );
    assert_eq!((row.asked, row.got, row.reflected), (Some(65536), Some(65536), Some(3)));
    assert_eq!((row.marks, row.repeats, row.bytes_right), (Some(1), Some(1), Some(true)));
    assert_eq!(row.verdict, Verdict::Retried);
}

#[test]
fn each_verdict() {
    assert_eq!(verdict(&outcome(&report(3973, "null", true, true), 0, 1, 0)), Verdict::Short);
    assert_eq!(verdict(&outcome(&report(65536, "null", true, true), 0, 1, 0)), Verdict::Pass);
    assert_eq!(verdict(&outcome(&report(0, "\"EFAULT\"", true, true), 0, 1, 0)), Verdict::Rejected);
    assert_eq!(verdict(&outcome(&report(65536, "null", false, true), 1, 1, 0)), Verdict::Corrupt);
    assert_eq!(verdict(&outcome(&report(3973, "null", true, false), 0, 1, 0)), Verdict::Corrupt);
    assert_eq!(verdict(&outcome("", 1, 1, 0)), Verdict::Void);
    let mut late = outcome("", 0, 0, 0);
    late.end = End::TimedOut(Duration::from_secs(1));
    assert_eq!(verdict(&late), Verdict::Wedged);
    late.end = End::Panicked(None);
    assert_eq!(verdict(&late), Verdict::Crash);
}

#[test]
fn a_run_without_a_fault_shows_nothing() {
    assert_eq!(verdict(&outcome(&report(65536, "null", true, true), 1, 0, 9)), Verdict::Void);
    let first = report(65536, "null", true, true).replace("second-stage", "first-stage");
    let row = Row::of("hardened", "partial", Source::FirstStage, &outcome(&first, 2, 0, 9));
    assert_eq!((row.verdict, row.faults()), (Verdict::Retried, Some(9)));
}

#[test]
fn a_guest_without_counters_shows_nothing() {
    let mut bare = outcome(&report(65536, "null", true, true), 1, 3, 0);
    bare.events.clear();
    let row = Row::of("mark", "partial", Source::SecondStage, &bare);
    assert_eq!((row.repeats, row.verdict), (None, Verdict::Void));
}
