//! Everything that a report says, as one value: the document `refault.report/1`.
//!
//! The one thing to hold in mind: rates are per *machine*: runs divided by the time that machines spent in them and in being put back.
//! How many machines there were at once, no record says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::campaign::record::{RunRecord, Sums};

use super::coverage::{Matrix, matrices};
use super::distribution::{Collector, Distribution};
use super::latency::{Latency, latencies};
use super::read::{Place, Runs};
use super::retry::{Retry, longest};

/// Schema of the document.
pub const SCHEMA: &str = "refault.report/1";

/// Verdicts that mean that a promise was broken.
pub const VIOLATIONS: [&str; 6] = ["SHORT", "CORRUPT", "LEAK", "WEDGED", "CRASH", "FAILED"];
/// The other verdicts, in the order of columns.
pub const HARMLESS: [&str; 4] = ["PASS", "RETRIED", "REJECTED", "SKIP"];

/// Whether a run broke a promise. A verdict that is not known counts as broken.
pub fn is_violation(record: &RunRecord) -> bool {
    record.violated.is_some() || !HARMLESS.contains(&record.verdict.as_str())
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Where the runs were read.
    pub sources: Vec<PathBuf>,
    /// What they were made with.
    pub made: Made,
    /// Runs.
    pub runs: u64,
    /// Lines that repeated a run and were left out.
    pub repeated_lines: usize,
    /// Files whose last line was cut off, and left out.
    pub cut_off: Vec<PathBuf>,
    /// How many runs of each policy ended how.
    pub verdicts: Vec<Verdicts>,
    /// Runs that broke a promise.
    pub failures: Vec<Failure>,
    /// What was visited.
    pub coverage: Vec<Matrix>,
    /// The injector's sums over all runs.
    pub faults: Sums,
    /// Faults that guests and disks were given.
    pub given: u64,
    /// Operations that were repeated.
    pub repeats: u64,
    /// Marks that were stored.
    pub marks: u64,
    /// How long parts of faults took.
    pub latency: Vec<Latency>,
    /// Faults whose times contradict each other, left out of `latency`.
    pub contradicting: u64,
    /// The retry that is drawn.
    pub retry: Option<Retry>,
    /// How quick the runs of each level were.
    pub throughput: Vec<Throughput>,
    /// Microseconds to put a machine back.
    pub restore_us: Option<Distribution>,
    /// Microseconds of a run.
    pub run_us: Option<Distribution>,
}

/// What runs were made with; more than one of anything is worth a thought.
#[derive(Debug, Default, Serialize)]
pub struct Made {
    /// Hosts.
    pub hosts: BTreeSet<String>,
    /// How pages were taken away.
    pub mechanisms: BTreeSet<String>,
    /// Builds of the guest.
    pub builds: BTreeSet<String>,
    /// The kernel's words.
    pub policies: BTreeSet<String>,
    /// Levels.
    pub levels: BTreeSet<String>,
    /// Workloads.
    pub workloads: BTreeSet<String>,
    /// Seeds.
    pub seeds: BTreeSet<u64>,
}

/// One policy's verdicts.
#[derive(Debug, Serialize)]
pub struct Verdicts {
    /// The kernel's words.
    pub policy: String,
    /// Runs.
    pub runs: u64,
    /// Runs by verdict.
    pub counts: BTreeMap<String, u64>,
    /// Runs that broke a promise.
    pub violations: u64,
}

/// A run that broke a promise.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The run.
    pub id: String,
    /// The kernel's words.
    pub policy: String,
    /// Its workload.
    pub workload: String,
    /// Its seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: String,
    /// The oracle.
    pub violated: Option<String>,
    /// Why.
    pub why: Vec<String>,
    /// Its rules, which are what is needed to see it again.
    pub rules: Vec<String>,
    /// The command that runs it again.
    pub replay: String,
}

/// How quick runs were.
#[derive(Debug, Serialize)]
pub struct Throughput {
    /// `1`, `2`, `random`; or `all`.
    pub level: String,
    /// Runs.
    pub runs: u64,
    /// Faults given.
    pub faults: u64,
    /// Microseconds that machines spent in runs and in being put back.
    pub machine_us: u64,
    /// Runs per second of a machine.
    pub runs_per_second: f64,
    /// Faults per second of a machine.
    pub faults_per_second: f64,
}

impl Document {
    /// The document of these runs.
    pub fn new(sources: &[PathBuf], runs: &Runs) -> Self {
        let records = runs.records.as_slice();
        let (latency, contradicting) = latencies(records);
        let mut faults = Sums::default();
        records.iter().for_each(|record| add(&mut faults, &record.faults));
        let sum = |of: fn(&RunRecord) -> u64| records.iter().map(of).fold(0, u64::saturating_add);
        let failing = records.iter().zip(&runs.places).filter(|(record, _)| is_violation(record));
        Self {
            schema: SCHEMA,
            sources: sources.to_vec(),
            made: made(records),
            runs: records.len() as u64,
            repeated_lines: runs.repeated,
            cut_off: runs.cut_off.clone(),
            verdicts: verdicts(records),
            failures: failing.map(|(record, place)| failure(record, place)).collect(),
            coverage: matrices(records),
            given: given(&faults),
            faults,
            repeats: sum(|record| record.repeats),
            marks: sum(|record| record.marks),
            latency,
            contradicting,
            retry: longest(records),
            throughput: throughput(records),
            restore_us: records.iter().map(|record| record.restore_us).collect::<Collector>().finish(),
            run_us: records.iter().map(|record| record.run_us).collect::<Collector>().finish(),
        }
    }
}

fn made(records: &[RunRecord]) -> Made {
    let mut made = Made::default();
    for record in records {
        for (set, value) in [
            (&mut made.hosts, &record.host),
            (&mut made.mechanisms, &record.mechanism),
            (&mut made.builds, &record.build),
            (&mut made.policies, &record.words),
            (&mut made.levels, &record.level),
            (&mut made.workloads, &record.workload),
        ] {
            if !set.contains(value) {
                set.insert(value.clone());
            }
        }
        made.seeds.insert(record.seed);
    }
    made
}

fn verdicts(records: &[RunRecord]) -> Vec<Verdicts> {
    let mut policies: BTreeMap<&str, Verdicts> = BTreeMap::new();
    for record in records {
        let verdicts = policies.entry(&record.words).or_insert_with(|| Verdicts {
            policy: record.words.clone(),
            runs: 0,
            counts: BTreeMap::new(),
            violations: 0,
        });
        verdicts.runs += 1;
        *verdicts.counts.entry(record.verdict.clone()).or_default() += 1;
        verdicts.violations += u64::from(is_violation(record));
    }
    policies.into_values().collect()
}

fn failure(record: &RunRecord, place: &Place) -> Failure {
    Failure {
        id: record.id.clone(),
        policy: record.words.clone(),
        workload: record.workload.clone(),
        seed: record.seed,
        verdict: record.verdict.clone(),
        violated: record.violated.clone(),
        why: record.why.clone(),
        rules: record.rules.clone(),
        replay: format!(
            "sed -n {}p {} | refault replay /dev/stdin",
            place.line,
            quoted(&place.file.display().to_string())
        ),
    }
}

/// A word for a shell, in quotation marks where it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn add(to: &mut Sums, more: &Sums) {
    for (to, more) in [
        (&mut to.armed, more.armed),
        (&mut to.trapped, more.trapped),
        (&mut to.reflected, more.reflected),
        (&mut to.delayed, more.delayed),
        (&mut to.poisoned, more.poisoned),
        (&mut to.resolved, more.resolved),
        (&mut to.never_touched, more.never_touched),
        (&mut to.reflected_again, more.reflected_again),
        (&mut to.disk, more.disk),
    ] {
        *to = to.saturating_add(more);
    }
}

/// Faults that somebody was given; those that the host resolved unseen are not among them.
fn given(sums: &Sums) -> u64 {
    let Sums { reflected, reflected_again, delayed, poisoned, disk, .. } = *sums;
    [reflected, reflected_again, delayed, poisoned, disk].into_iter().fold(0, u64::saturating_add)
}

fn throughput(records: &[RunRecord]) -> Vec<Throughput> {
    let mut levels: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    let mut all = (0, 0, 0);
    for record in records {
        let us = record.run_us.saturating_add(record.restore_us);
        for sums in [levels.entry(&record.level).or_default(), &mut all] {
            sums.0 += 1;
            sums.1 = sums.1.saturating_add(given(&record.faults));
            sums.2 = sums.2.saturating_add(us);
        }
    }
    let several = (levels.len() > 1).then_some(("all", all));
    let row = |(level, (runs, faults, machine_us)): (&str, (u64, u64, u64))| {
        let per_second = |count: u64| match machine_us {
            0 => 0.0,
            us => count as f64 * 1e6 / us as f64,
        };
        Throughput {
            level: level.into(),
            runs,
            faults,
            machine_us,
            runs_per_second: per_second(runs),
            faults_per_second: per_second(faults),
        }
    };
    levels.into_iter().chain(several).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: &str, verdict: &str, reflected: u64, us: u64) -> RunRecord {
        RunRecord {
            level: level.into(),
            verdict: verdict.into(),
            faults: Sums { trapped: reflected, reflected, ..Sums::default() },
            run_us: us - us / 10,
            restore_us: us / 10,
            ..RunRecord::default()
        }
    }

    #[test]
    fn rates_are_per_second_of_a_machine() {
        let records =
            [record("1", "PASS", 1, 500_000), record("1", "PASS", 3, 500_000), record("2", "PASS", 0, 10)];
        let rows = throughput(&records);
        let [one, two, all] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((one.level.as_str(), one.machine_us), ("1", 1_000_000));
        assert_eq!((one.runs_per_second, one.faults_per_second), (2.0, 4.0));
        assert_eq!(two.runs_per_second, 100_000.0);
        assert_eq!((all.level.as_str(), all.runs, all.faults), ("all", 3, 4));
        assert_eq!(throughput(&[RunRecord::default()])[0].runs_per_second, 0.0);
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_a_violation() {
        for harmless in HARMLESS {
            assert!(!is_violation(&record("1", harmless, 0, 0)));
        }
        for bad in VIOLATIONS.into_iter().chain(["", "pass", "NEW"]) {
            assert!(is_violation(&record("1", bad, 0, 0)), "{bad}");
        }
        let passed = RunRecord { violated: Some("O2".into()), ..record("1", "PASS", 0, 0) };
        assert!(is_violation(&passed));
    }

    #[test]
    fn a_command_to_repeat_a_run_survives_a_shell() {
        let place = Place { file: "it's out $(x)/runs.jsonl".into(), line: 17 };
        let failure = failure(&RunRecord::default(), &place);
        assert_eq!(failure.replay, r"sed -n 17p 'it'\''s out $(x)/runs.jsonl' | refault replay /dev/stdin");
        assert_eq!(quoted("out-1/runs.jsonl"), "out-1/runs.jsonl");
    }

    #[test]
    fn sums_add_up_and_do_not_overflow() {
        let one = record("1", "SHORT", u64::MAX, 10);
        let runs = Runs {
            records: vec![one.clone(), one],
            places: vec![Place { file: "a".into(), line: 1 }; 2],
            ..Runs::default()
        };
        let document = Document::new(&[], &runs);
        assert_eq!(
            (document.faults.reflected, document.given, document.failures.len()),
            (u64::MAX, u64::MAX, 2)
        );
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(json["verdicts"][0]["counts"]["SHORT"], 2);
    }
}
