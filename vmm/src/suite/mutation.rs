//! The mutation score: which tests notice which seeded bug.
//!
//! Needs a build with bugs compiled in (`REFAULT_BUGS=all`). Each bug's tests are run with `bug=NAME` beside the same tests
//! without: a test that passed without and does not pass with the bug has caught it.
//!
//! The one thing to hold in mind: a test that fails without any bug proves nothing and is left out of the count, and a bug
//! that no test catches is a hole in the tests. Not every test is tried on every bug, because a machine takes seconds: the
//! tests aimed at a bug are ([`aimed`]), and all of the table on request.

use std::collections::{BTreeMap, BTreeSet};

use refault_abi::bugs::Bug;

use super::Test;
use super::runner::Ran;
use super::select::select;
use super::verdict::Verdict;

/// Seconds a machine with a bug gets beyond a multiple of what it took without: to hang is a way to be caught.
const GRACE: u32 = 20;
/// That multiple.
const TIMES: u32 = 4;

/// Patterns of the tests that a bug should not get past.
pub fn aimed(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::PartialIsFinal => {
            &["F1-F3.READ.first-stage", "F1-F3.WRITE.first-stage", "softread.hardened.second-stage"]
        }
        Bug::StalePosition => &["F1-F3.READ.first-stage", "F1-F3.WRITE.first-stage"],
        Bug::RecomputedAppend => &["F4.WRITE.first-stage", "F4.WRITE.second-stage"],
        Bug::MarkWrongGrant => &["M1-M9.first-stage", "G1-G10"],
        Bug::MarkAfterRevoke => &["M1-M9.first-stage", "F1-F3.READ.first-stage"],
        Bug::CheckAfterInvalidate => &["M1-M9.first-stage", "F1-F3.READ.first-stage"],
        Bug::SkipSequence => &["G1-G10", "M1-M9.first-stage"],
        Bug::LeakOnError => &["F7.READ", "F7.BREAD", "F9.READ"],
        Bug::PipeConsumesFirst => &["F11*"],
        Bug::RepeatWithoutMapping => {
            &["F1-F3.READ.first-stage", "F1-F3.STAT.first-stage", "F1-F3.READ.second-stage"]
        }
        Bug::MapFirstPageOnly => &["F1-F3.READ.first-stage", "F1-F3.WRITE.first-stage", "D1"],
        Bug::RetryOnce => &["F8.READ", "F8.WRITE", "F1-F3.READ.first-stage"],
        Bug::NoMarkForGrantee => &["F8.READ", "M1-M9.first-stage"],
        Bug::TrySuspends => &["D1", "M1-M9.first-stage", "F1-F3.READ.first-stage"],
        Bug::SymlinkRepeated => {
            &["F10.SLINK.first-stage", "F10.SLINK.second-stage", "F1-F3.SLINK.first-stage"]
        }
        Bug::NeverAsksBack => &["F1-F3.READ.second-stage", "softread.hardened.second-stage"],
        Bug::TailNotCleared => &["memory"],
        Bug::ForkShares => &["memory"],
        Bug::LeakFrameOnDeath => &["D12"],
    }
}

/// The tests of `tests` to try on a bug: those aimed at it, or all of them.
pub fn tried(bug: Bug, tests: &[Test], all: bool) -> Vec<Test> {
    if all {
        return tests.to_vec();
    }
    let found = aimed(bug).iter().filter_map(|pattern| select(tests.to_vec(), &[(*pattern).to_owned()]).ok());
    let names: BTreeSet<String> = found.flatten().map(|test| test.name).collect();
    tests.iter().filter(|test| names.contains(&test.name)).cloned().collect()
}

/// A test with a bug in its machine, and with less patience. `took`: milliseconds without the bug.
pub fn mutant(test: &Test, name: &str, took: u128) -> Test {
    let seconds = u32::try_from(took.div_ceil(1000)).unwrap_or(u32::MAX);
    let limit = seconds.saturating_mul(TIMES).saturating_add(GRACE).min(test.limit);
    let mutant = test.clone().words(&format!("bug={name}")).limit(limit);
    Test { name: format!("{name}:{}", test.name), ..mutant }
}

/// What came of one bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// The bug's name.
    pub bug: &'static str,
    /// Tests tried, by name; those that fail without it are not among them.
    pub tried: Vec<String>,
    /// Those that caught it, with what they came to.
    pub caught: Vec<(String, Verdict)>,
}

impl Score {
    /// Compares runs without and with the bug.
    pub fn of(bug: &'static str, without: &BTreeMap<String, &Ran>, with: &[&Ran]) -> Self {
        let prefix = format!("{bug}:");
        let mut score = Self { bug, tried: Vec::new(), caught: Vec::new() };
        for ran in with {
            let Some(name) = ran.test.name.strip_prefix(&prefix) else { continue };
            let good = without.get(name).is_some_and(|ran| ran.judged.passed);
            if !good || ran.judged.verdict == Verdict::Skip {
                continue;
            }
            score.tried.push(name.to_owned());
            if !ran.judged.passed {
                score.caught.push((name.to_owned(), ran.judged.verdict));
            }
        }
        score
    }
}

/// The table, in Markdown. `left_out`: tests that fail without any bug.
pub fn markdown(scores: &[Score], left_out: &[String], all: bool) -> String {
    let caught = scores.iter().filter(|score| !score.caught.is_empty()).count();
    let tests = if all { "the whole table of tests" } else { "the tests aimed at it" };
    let mut out = format!(
        "# Mutation score\n\n\
         Generated by `tests/mutation.sh`; not written by hand.\n\n\
         The guest is built with every seeded bug of `guest-kernel/abi/src/bugs.rs` compiled in. Each is switched on in turn \
         (`bug=NAME` on the guest's command line), and {tests} are run. A test catches a bug if it passes without and \
         does not pass with it; in brackets, what it came to.\n\n\
         **{caught} of {} bugs are caught.**\n\n| bug | caught by | tried without catching it |\n|---|---|---|\n",
        scores.len()
    );
    for score in scores {
        let by: Vec<_> = score.caught.iter().map(|(name, verdict)| format!("`{name}` ({verdict})")).collect();
        let by = if by.is_empty() { "**nobody**".to_owned() } else { by.join(", ") };
        let missed =
            score.tried.iter().filter(|name| !score.caught.iter().any(|(caught, _)| caught == *name));
        let missed: Vec<_> = missed.map(|name| format!("`{name}`")).collect();
        out.push_str(&format!("| `{}` | {by} | {} |\n", score.bug, missed.join(", ")));
    }
    if !left_out.is_empty() {
        out.push_str(&format!(
            "\nLeft out, because they do not pass without a bug: {}.\n",
            left_out.join(", ")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::judge::Judged;
    use super::super::table;
    use super::*;

    fn ran(name: &str, verdict: Verdict) -> Ran {
        let judged = Judged {
            verdict,
            passed: verdict.is_good(),
            why: Vec::new(),
            faults: 0,
            repeats: 0,
            skips: Vec::new(),
            cases: Vec::new(),
            graph: Vec::new(),
        };
        Ran { test: Test::new(name, "x"), judged, console: String::new(), took: Duration::ZERO }
    }

    #[test]
    fn every_bug_has_tests_aimed_at_it() {
        let tests = table::all();
        for (bug, name) in Bug::ALL {
            assert!(!tried(*bug, &tests, false).is_empty(), "{name}");
            assert_eq!(tried(*bug, &tests, true).len(), tests.len());
        }
    }

    #[test]
    fn only_a_test_that_passes_without_can_catch() {
        let without = [ran("a", Verdict::Pass), ran("b", Verdict::Failed), ran("c", Verdict::Retried)];
        let without = without.iter().map(|ran| (ran.test.name.clone(), ran)).collect();
        let with = [
            ran("x:a", Verdict::Short),
            ran("x:b", Verdict::Failed),
            ran("x:c", Verdict::Pass),
            ran("y:a", Verdict::Crash),
        ];
        let score = Score::of("x", &without, &with.iter().collect::<Vec<_>>());
        assert_eq!(score.tried, ["a", "c"]);
        assert_eq!(score.caught, [("a".to_owned(), Verdict::Short)]);
        let none = Score { caught: Vec::new(), ..score.clone() };
        let text = markdown(&[score, none], &["b".into()], false);
        assert!(text.contains("1 of 2 bugs") && text.contains("| `x` | `a` (SHORT) | `c` |"), "{text}");
        assert!(text.contains("**nobody**") && text.contains("without a bug: b."));
    }

    #[test]
    fn a_mutant_has_its_bug_and_less_patience() {
        let test = Test::new("a", "x").words("mode=faithful").limit(100);
        let mutant = mutant(&test, "retry-once", 2500);
        assert_eq!(
            (mutant.name.as_str(), mutant.words.as_str()),
            ("retry-once:a", "mode=faithful bug=retry-once")
        );
        assert_eq!(mutant.limit, 32);
        assert_eq!(super::mutant(&test, "retry-once", 90_000).limit, 100);
    }
}
