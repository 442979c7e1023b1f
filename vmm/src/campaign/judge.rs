//! From the evidence of a run, a verdict and a record.
//!
//! Pure. The one thing to hold in mind: the verdict is what the first oracle violated says, unless the guest did not come to its end, and
//! a run is a violation exactly if an oracle found something.

use refault_abi::counters::Counter;
use refault_abi::fs;

use crate::snapshot::Ran;
use crate::suite::verdict::Verdict;

use super::experiment::Experiment;
use super::oracle::{self, Evidence, Oracle};
use super::record::{FaultTimes, RunRecord, SCHEMA, Sums};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// The first oracle violated.
    pub violated: Option<Oracle>,
    /// Why, a sentence each.
    pub why: Vec<String>,
}

impl Judged {
    /// Whether this is the same failure as another: the same verdict by the same oracle.
    pub fn is_like(&self, other: &Self) -> bool {
        self.violated.is_some() && (self.violated, self.verdict) == (other.violated, other.verdict)
    }
}

/// Judges a run.
pub fn judge(evidence: &Evidence<'_>, off: &[Oracle]) -> Judged {
    let findings = oracle::check(evidence, off);
    let violated = findings.iter().map(|finding| finding.oracle).min();
    let decides = |finding: &&oracle::Finding| {
        Some(finding.oracle) == violated || matches!(finding.verdict, Verdict::Wedged | Verdict::Crash)
    };
    let worst = findings.iter().filter(decides).map(|finding| finding.verdict).max();
    let repeats = evidence.counted(Counter::VfsRepeats).unwrap_or(0);
    let verdict = worst.unwrap_or(match (evidence.was_rejected(), repeats) {
        (true, _) => Verdict::Rejected,
        (false, 0) => Verdict::Pass,
        (false, _) => Verdict::Retried,
    });
    Judged {
        verdict,
        violated,
        why: findings.into_iter().map(|finding| format!("{}: {}", finding.oracle, finding.why)).collect(),
    }
}

/// Where a campaign is made, as its records say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Build of the guest.
    pub build: String,
    /// The host in a few words.
    pub host: String,
    /// How pages are taken away.
    pub mechanism: String,
}

/// The line of a run.
pub fn record(evidence: &Evidence<'_>, judged: &Judged, place: &Place) -> RunRecord {
    let Experiment { id, level, workload, argument, seed, words, rules, kind, aimed, .. } =
        evidence.experiment;
    let ran = evidence.ran;
    let attempts =
        ran.faults.iter().map(|fault| fault.attempt).chain(ran.sites.iter().map(|site| site.attempt));
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    RunRecord {
        schema: SCHEMA.into(),
        id: id.clone(),
        workload: workload.name.into(),
        seed: *seed,
        argument: argument.pack(),
        words: words.clone(),
        rules: rules.clone(),
        level: level.word().into(),
        kind: kind.word().into(),
        aimed: aimed.iter().map(ToString::to_string).collect(),
        operation: evidence.experiment.operation().into(),
        build: place.build.clone(),
        host: place.host.clone(),
        mechanism: place.mechanism.clone(),
        verdict: judged.verdict.word().into(),
        violated: judged.violated.map(|oracle| oracle.name().into()),
        why: judged.why.clone(),
        faults: sums(ran),
        repeats: evidence.counted(Counter::VfsRepeats).unwrap_or(0),
        marks: evidence.counted(Counter::MarksSet).unwrap_or(0),
        attempts: attempts.max().unwrap_or(0),
        restore_us: micros(ran.restore),
        run_us: micros(ran.took),
        timeline: timeline(ran),
    }
}

fn sums(ran: &Ran) -> Sums {
    let counters = &ran.counters;
    Sums {
        armed: counters.armed,
        trapped: counters.trapped,
        reflected: counters.reflected,
        delayed: counters.delayed,
        poisoned: counters.poisoned,
        resolved: counters.resolved,
        never_touched: counters.never_touched,
        reflected_again: counters.reflected_again,
        disk: ran.disk_faults,
    }
}

/// Faults of a record that are described one by one.
const TIMELINE: usize = 64;

fn timeline(ran: &Ran) -> Vec<FaultTimes> {
    let told = ran.faults.iter().filter(|fault| fault.sequence != 0).take(TIMELINE);
    told.map(|fault| FaultTimes {
        sequence: fault.sequence,
        owner: match (fault.operation, fault.user) {
            (0, true) => "user".into(),
            (0, false) => "kernel".into(),
            (operation, _) => fs::operation_name(operation).into(),
        },
        request: fault.request,
        attempt: fault.attempt,
        page: fault.page,
        side: fault.side.map(|side| side.to_string()).unwrap_or_default(),
        access: match (fault.fetch, fault.write) {
            (true, _) => "fetch".into(),
            (false, true) => "write".into(),
            (false, false) => "read".into(),
        },
        exit: fault.exit_ns,
        decided: fault.decided_ns,
        resumed: fault.resumed_ns,
        back: fault.back_ns,
    })
    .collect()
}
