//! The judge: from what a machine did, what its console said and what its disks hold, a verdict and its reasons.
//!
//! Pure: no machine, no clock, no file. The one thing to hold in mind: everything has to be said. A test whose
//! program says nothing or not all of it, whose status is not the one it must end with, or whose faults did not happen, has failed.

use serde::Serialize;

use super::console::{Case, Told};
use super::verdict::Verdict;
use super::{Expect, Test, graph};

/// How a machine ended, whoever ran it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest ended with this status.
    Exited(u32),
    /// The guest's kernel declared that nothing can go on.
    Wedged,
    /// It had not ended when its time was over; with a text on what was seen.
    TimedOut(String),
    /// The guest's kernel panicked, or the machine could not go on.
    Crashed(String),
    /// It could not be run here.
    Skipped(String),
    /// The monitor or the host failed.
    Failed(String),
}

/// What a machine did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// How it ended.
    pub ended: Ended,
    /// Everything on its console.
    pub console: String,
    /// The graph of who waits for whom, where the kernel gave it other than on the console.
    pub graph: Vec<String>,
    /// What the monitor that takes pages away did, where there was one.
    pub monitor: Option<Monitor>,
}

/// What a monitor that takes pages away says of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitor {
    /// Whether its sums came out.
    pub conserved: bool,
    /// Traps that it gave to the guest.
    pub reflected: u64,
}

/// What a test came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the test passed: it came to what was expected of it.
    pub passed: bool,
    /// Why not; for a test that was left out, why.
    pub why: Vec<String>,
    /// Faults that its cases counted.
    pub faults: u64,
    /// Repeats that its cases counted.
    pub repeats: u64,
    /// What its program left out, and why.
    pub skips: Vec<String>,
    /// Its cases.
    pub cases: Vec<Case>,
    /// Who waited for whom, if it wedged.
    pub graph: Vec<String>,
}

/// Judges a test. `damage` is what is wrong with its disks afterwards.
pub fn judge(test: &Test, played: &Played, told: Told, damage: &[String]) -> Judged {
    let sum = |of: fn(&Case) -> u64| told.cases.iter().map(of).fold(0, u64::saturating_add);
    let (faults, repeats) = (sum(|case| case.faults), sum(|case| case.repeats));
    let graph = if told.edges.is_empty() { played.graph.clone() } else { told.edges.clone() };
    let mut why = Vec::new();
    let (verdict, passed) = match &played.ended {
        Ended::Exited(status) if left_out(test, *status, &told, played) => {
            why.extend(told.skips.iter().cloned());
            (Verdict::Skip, false)
        }
        Ended::Exited(status) => {
            let (of_cases, reasons) = cases(&told, repeats);
            let beside = beside_cases(test, *status, &told, played, damage, faults);
            let worst = beside.iter().map(|(verdict, _)| *verdict).fold(of_cases, Verdict::max);
            let passed = match wanted(test) {
                None => worst.is_good(),
                Some(wanted) => of_cases == wanted && all_fail_as(&told, wanted) && beside.is_empty(),
            };
            if !passed {
                why.extend(reasons.into_iter().chain(beside.into_iter().map(|(_, reason)| reason)));
            }
            (worst, passed)
        }
        Ended::Wedged => {
            let standstill = match &test.expect {
                Expect::Wedged(standstill) => Some(standstill),
                _ => None,
            };
            if let Some(standstill) = standstill {
                why.extend(graph::unlike(standstill, &graph, told.circle.as_deref()));
                // What went wrong before everything stopped is not what the test is to show.
                why.extend(cases(&told, repeats).1);
                why.extend(unreadable(&told).chain(nothing_trapped(test, played)));
            }
            (Verdict::Wedged, standstill.is_some() && why.is_empty())
        }
        Ended::Skipped(reason) => told_why(&mut why, Verdict::Skip, reason),
        Ended::TimedOut(reason) => told_why(&mut why, Verdict::Wedged, reason),
        Ended::Crashed(reason) => told_why(&mut why, Verdict::Crash, reason),
        Ended::Failed(reason) => told_why(&mut why, Verdict::Failed, reason),
    };
    if let Some(wanted) =
        wanted(test).filter(|wanted| !passed && verdict != *wanted && verdict != Verdict::Skip)
    {
        why.push(format!("{verdict} where {wanted} was expected"));
    }
    Judged { verdict, passed, why, faults, repeats, skips: told.skips, cases: told.cases, graph }
}

fn told_why(why: &mut Vec<String>, verdict: Verdict, reason: &str) -> (Verdict, bool) {
    why.push(reason.to_owned());
    (verdict, false)
}

/// Whether a program that has ended left all of its test out: it says so and no more, and it lacked something. Where pages
/// can be taken away, a test that needs that lacks nothing.
fn left_out(test: &Test, status: u32, told: &Told, played: &Played) -> bool {
    let said_no_more = told.cases.is_empty()
        && !told.skips.is_empty()
        && told.unreadable.is_empty()
        && unlike_its_end(told).is_none();
    // Programs without a case end with 1, whatever the reason.
    said_no_more && status <= 1 && !(test.needs_monitor && played.monitor.is_some())
}

/// Whether a program has to announce its end: one that speaks to the host at all, or is to.
fn announces_its_end(test: &Test, told: &Told) -> bool {
    let speaks = !(told.cases.is_empty() && told.skips.is_empty() && told.files.is_empty());
    speaks || !told.ends.is_empty() || test.cases > 0 || test.prints.is_empty()
}

/// What does not go together with the end that a program announced.
fn unlike_its_end(told: &Told) -> Option<String> {
    let (cases, skipped) = (told.cases.len(), told.skips.len());
    match told.ends.as_slice() {
        [] => Some("the program did not say that it was at its end".into()),
        [_] if told.said_more => Some("the program went on after it had said that it was at its end".into()),
        [end] if (end.cases, end.skipped) != (cases, skipped) => Some(format!(
            "the program reported {} cases and left out {}; the console shows {cases} and {skipped}",
            end.cases, end.skipped
        )),
        [_] => None,
        ends => Some(format!("the program ended {} times", ends.len())),
    }
}

/// Whether every case that is not well is what was expected; another kind of failure may not hide behind it.
fn all_fail_as(told: &Told, wanted: Verdict) -> bool {
    let mut verdicts = told.cases.iter().map(|case| case.judged().unwrap_or(Verdict::Failed));
    verdicts.all(|verdict| verdict.is_good() || verdict == wanted)
}

fn unreadable(told: &Told) -> impl Iterator<Item = String> {
    told.unreadable.iter().map(|line| format!("a line that cannot be read: {line}"))
}

/// A test that needs the monitor is about traps: without one it shows nothing.
fn nothing_trapped(test: &Test, played: &Played) -> Option<String> {
    let none = played.monitor.is_some_and(|monitor| monitor.reflected == 0);
    (test.needs_monitor && none)
        .then(|| "the monitor reflected nothing: no page that was away was met".into())
}

/// The one verdict that a test must come to, if it is not to pass.
fn wanted(test: &Test) -> Option<Verdict> {
    match test.expect {
        Expect::Pass | Expect::Status(_) => None,
        Expect::Wedged(_) => Some(Verdict::Wedged),
        Expect::Short => Some(Verdict::Short),
        Expect::Corrupt => Some(Verdict::Corrupt),
        Expect::Leak => Some(Verdict::Leak),
    }
}

/// What the cases say: the worst of them, and what the failed ones report.
fn cases(told: &Told, repeats: u64) -> (Verdict, Vec<String>) {
    let judged: Vec<_> =
        told.cases.iter().map(|case| (case, case.judged().unwrap_or(Verdict::Failed))).collect();
    let failed: Vec<_> = judged.iter().filter(|(_, verdict)| !verdict.is_good()).collect();
    let rejected = judged.iter().any(|(_, verdict)| *verdict == Verdict::Rejected);
    let good = match repeats {
        0 if rejected => Verdict::Rejected,
        0 => Verdict::Pass,
        _ => Verdict::Retried,
    };
    let worst = failed.iter().map(|(_, verdict)| *verdict).max().unwrap_or(good);
    let reasons =
        failed.iter().map(|(case, verdict)| format!("{}: {verdict}: {}", case.name, case.detail)).collect();
    (worst, reasons)
}

/// What is wrong beside the cases, each with the verdict it gives.
fn beside_cases(
    test: &Test,
    status: u32,
    told: &Told,
    played: &Played,
    damage: &[String],
    faults: u64,
) -> Vec<(Verdict, String)> {
    let mut wrong: Vec<String> = unreadable(told).collect();
    if !told.skips.is_empty() && told.cases.is_empty() {
        wrong.extend(told.skips.iter().map(|skip| format!("left out, though nothing is missing: {skip}")));
    }
    if told.cases.is_empty() && test.prints.is_empty() {
        wrong.push("the program reported no case".into());
    } else if told.cases.len() < test.cases {
        wrong.push(format!("{} cases instead of at least {}", told.cases.len(), test.cases));
    }
    if announces_its_end(test, told) {
        wrong.extend(unlike_its_end(told));
    }
    let missing = test.prints.iter().filter(|text| !played.console.contains(text.as_str()));
    wrong.extend(missing.map(|text| format!("the console does not show {text:?}")));
    let due = match test.expect {
        Expect::Status(status) => status,
        // A program with a failing case ends with 1.
        Expect::Short | Expect::Corrupt | Expect::Leak => 1,
        Expect::Pass | Expect::Wedged(_) => 0,
    };
    if status != due {
        wrong.push(format!("the guest ended with status {status}, not {due}"));
    }
    if test.has_faults && faults == 0 {
        wrong.push("no fault happened, and faults are what the test is about".into());
    }
    if played.monitor.is_some_and(|monitor| !monitor.conserved) {
        wrong.push("the injector's sums do not come out".into());
    }
    wrong.extend(nothing_trapped(test, played));
    let wrong = wrong.into_iter().map(|reason| (Verdict::Failed, reason));
    wrong.chain(damage.iter().map(|text| (Verdict::Corrupt, text.clone()))).collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
