//! One row of the table: what one machine showed, and the verdict on it.
//!
//! Pure: an [`Outcome`] in, a row out.

use std::fmt;

use refault_abi::counters::Counter;
use refault_abi::doorbell::event;
use serde::{Deserialize, Serialize};

use crate::vm::outcome::{GuestEvent, Snapshot};
use crate::vm::{End, Outcome};

/// Where the faults of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Pages taken away by the injector.
    SecondStage,
    /// Pages never touched.
    FirstStage,
}

impl Source {
    /// The name, also of the program's case.
    pub fn name(self) -> &'static str {
        match self {
            Source::SecondStage => "second-stage",
            Source::FirstStage => "first-stage",
        }
    }
}

/// What a run amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// All bytes, without a repeat.
    Pass,
    /// All bytes, after repeats.
    Retried,
    /// A defined error.
    Rejected,
    /// A partial result reached the program.
    Short,
    /// A byte is not where it belongs.
    Corrupt,
    /// The machine did not end in time.
    Wedged,
    /// The guest did not survive.
    Crash,
    /// No fault happened where one had to, or nothing was reported: the run shows nothing.
    Void,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "PASS",
            Verdict::Retried => "RETRIED",
            Verdict::Rejected => "REJECTED",
            Verdict::Short => "SHORT",
            Verdict::Corrupt => "CORRUPT",
            Verdict::Wedged => "WEDGED",
            Verdict::Crash => "CRASH",
            Verdict::Void => "VOID",
        })
    }
}

/// What the program `softread` reports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Seen {
    case: String,
    asked: u64,
    got: u64,
    error: Option<String>,
    right: bool,
    untouched_ok: bool,
    position_ok: bool,
}

/// A row. Figures that nobody reported are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Retry policy.
    pub policy: &'static str,
    /// What the file system answers after a failed copy.
    pub fs: &'static str,
    /// Where the faults come from.
    pub source: Source,
    /// Bytes asked for.
    pub asked: Option<u64>,
    /// Bytes the read answered.
    pub got: Option<u64>,
    /// The read's error.
    pub error: Option<String>,
    /// Page faults that the injector gave the guest during the read.
    pub reflected: Option<u64>,
    /// Copies that met a page absent at the first stage during the read.
    pub soft_faults_first_stage: Option<u64>,
    /// Copies that met a page taken away during the read.
    pub soft_faults_second_stage: Option<u64>,
    /// Marks stored in grants during the read.
    pub marks: Option<u64>,
    /// Times the file server repeated the operation.
    pub repeats: Option<u64>,
    /// Whether every byte delivered is right and no other byte has changed.
    pub bytes_right: Option<bool>,
    /// What it amounts to.
    pub verdict: Verdict,
}

impl Row {
    /// What the machine showed.
    pub fn of(policy: &'static str, fs: &'static str, source: Source, outcome: &Outcome) -> Self {
        let seen = outcome
            .reports
            .iter()
            .filter_map(|text| serde_json::from_str::<Seen>(text).ok())
            .find(|seen| seen.case == source.name());
        let begin = snapshot(&outcome.events, event::CASE_BEGIN);
        let end = snapshot(&outcome.events, event::CASE_END);
        let during = |counter| Some(end?.guest(counter)?.saturating_sub(begin?.guest(counter)?));
        let reflected = || Some(end?.faults.all_reflected().saturating_sub(begin?.faults.all_reflected()));
        let mut row = Self {
            policy,
            fs,
            source,
            asked: seen.as_ref().map(|s| s.asked),
            got: seen.as_ref().map(|s| s.got),
            error: seen.as_ref().and_then(|s| s.error.clone()),
            reflected: reflected(),
            soft_faults_first_stage: during(Counter::SoftFaultsFirstStage),
            soft_faults_second_stage: during(Counter::SoftFaultsSecondStage),
            marks: during(Counter::MarksSet),
            repeats: during(Counter::VfsRepeats),
            bytes_right: seen.as_ref().map(|s| s.right && s.untouched_ok),
            verdict: Verdict::Void,
        };
        row.verdict = row.judge(&outcome.end, seen.as_ref());
        row
    }

    /// Faults of the kind that this row is about.
    pub fn faults(&self) -> Option<u64> {
        match self.source {
            Source::SecondStage => self.reflected,
            Source::FirstStage => self.soft_faults_first_stage,
        }
    }

    /// What the policy must show.
    pub fn expected(&self) -> Verdict {
        match self.policy {
            "efault" => Verdict::Short,
            _ => Verdict::Retried,
        }
    }

    fn judge(&self, end: &End, seen: Option<&Seen>) -> Verdict {
        match end {
            End::TimedOut(_) | End::Wedged(_) => return Verdict::Wedged,
            End::Panicked(_) | End::Crashed(_) | End::Failed(_) => return Verdict::Crash,
            End::Exited(_) => {}
        }
        let Some(seen) = seen else { return Verdict::Void };
        if !seen.right || !seen.untouched_ok || !seen.position_ok {
            return Verdict::Corrupt;
        }
        if self.faults().unwrap_or(0) == 0 {
            return Verdict::Void;
        }
        match (&seen.error, seen.got) {
            (Some(_), _) => Verdict::Rejected,
            (None, got) if got < seen.asked => Verdict::Short,
            (None, _) if self.repeats.unwrap_or(0) > 0 => Verdict::Retried,
            (None, _) => Verdict::Pass,
        }
    }
}

fn snapshot(events: &[GuestEvent], code: u32) -> Option<&Snapshot> {
    events.iter().find(|e| e.code == code)?.snapshot.as_deref()
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
