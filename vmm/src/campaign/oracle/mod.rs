//! Oracles: what has to hold after each run, whatever the faults.
//!
//! | module | oracles |
//! |---|---|
//! | [`cases`] | O1 bytes, O2 results, O3 positions and sizes, O9 nobody sees the middle: what the program itself verified |
//! | [`same`] | O4 as without faults |
//! | [`rest`] | O5 nothing left over |
//! | [`ends`] | O6 it ends, within the bound of attempts |
//! | [`happened`] | O7 the fault happened, and the sums come out |
//! | [`blame`] | O8 the side that faulted was cured |
//! | [`order`] | O10 histories of several clients can be put in an order |
//! | [`injector`] | O11 the injector's own figures agree with one another |
//! | [`image`] | the disk is a sound file system |
//!
//! All of them are pure: evidence in, findings out. The one thing to hold in mind: an oracle that cannot see says nothing, and what
//! it would have seen is then not shown. So each says in its documentation what it needs to see.

use std::fmt;

use serde::Deserialize;

use crate::snapshot::Ran;
use crate::suite::verdict::Verdict;
use refault_abi::counters::Counter;

use super::baseline::Baseline;
use super::experiment::Experiment;
use super::tree::Inspected;

pub mod blame;
pub mod cases;
pub mod ends;
pub mod happened;
pub mod image;
pub mod injector;
pub mod order;
pub mod rest;
pub mod same;
#[cfg(test)]
pub(super) mod sample;
pub mod told;

pub use told::Told;

/// Status of a program that was ended by SIGBUS.
const SIGBUS: u32 = 135;

/// An oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Oracle {
    /// O1: every byte says where it belongs.
    Bytes,
    /// O2: results are those of the model.
    Results,
    /// O3: so are positions and sizes.
    Positions,
    /// O4: it ends as the fault-free run does.
    Same,
    /// O5: nothing is left over.
    Rest,
    /// O6: it ends, within the bound of attempts.
    Ends,
    /// O7: the fault happened, and the sums come out.
    Happened,
    /// O8: the side that faulted was cured.
    Blame,
    /// O9: nobody sees the middle of an operation.
    Middle,
    /// O10: histories can be put in an order.
    Order,
    /// O11: the injector's own figures agree with one another.
    Injector,
    /// The disk is a sound file system.
    Image,
}

/// All of them, in the order in which they are named as the first one violated.
pub const ALL: [Oracle; 12] = [
    Oracle::Bytes,
    Oracle::Results,
    Oracle::Positions,
    Oracle::Same,
    Oracle::Rest,
    Oracle::Ends,
    Oracle::Happened,
    Oracle::Blame,
    Oracle::Middle,
    Oracle::Order,
    Oracle::Injector,
    Oracle::Image,
];

impl Oracle {
    /// Its name in plans and records.
    pub fn name(self) -> &'static str {
        match self {
            Oracle::Bytes => "O1",
            Oracle::Results => "O2",
            Oracle::Positions => "O3",
            Oracle::Same => "O4",
            Oracle::Rest => "O5",
            Oracle::Ends => "O6",
            Oracle::Happened => "O7",
            Oracle::Blame => "O8",
            Oracle::Middle => "O9",
            Oracle::Order => "O10",
            Oracle::Injector => "O11",
            Oracle::Image => "image",
        }
    }

    fn check(self, evidence: &Evidence<'_>) -> Vec<Finding> {
        match self {
            Oracle::Bytes | Oracle::Results | Oracle::Positions | Oracle::Middle => {
                cases::check(self, evidence)
            }
            Oracle::Same => same::check(evidence),
            Oracle::Rest => rest::check(evidence),
            Oracle::Ends => ends::check(evidence),
            Oracle::Happened => happened::check(evidence),
            Oracle::Blame => blame::check(evidence),
            Oracle::Order => order::check(evidence),
            Oracle::Injector => injector::check(evidence),
            Oracle::Image => image::check(evidence),
        }
    }
}

impl TryFrom<String> for Oracle {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        ALL.into_iter()
            .find(|oracle| oracle.name() == name)
            .ok_or_else(|| format!("{name:?} is no oracle; there are {}", ALL.map(Oracle::name).join(", ")))
    }
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which oracle says so.
    pub oracle: Oracle,
    /// What kind of failure it is.
    pub verdict: Verdict,
    /// A sentence.
    pub why: String,
}

impl Finding {
    /// Puts one together.
    pub fn new(oracle: Oracle, verdict: Verdict, why: impl Into<String>) -> Self {
        Self { oracle, verdict, why: why.into() }
    }
}

/// All that oracles may look at.
pub struct Evidence<'a> {
    /// What was to be done.
    pub experiment: &'a Experiment,
    /// What came of it.
    pub ran: &'a Ran,
    /// What the program said.
    pub told: &'a Told,
    /// The same workload without faults, unless this is that run.
    pub baseline: Option<&'a Baseline>,
    /// Its first disk, if the guest came to its end.
    pub disk: Option<&'a Inspected>,
}

impl Evidence<'_> {
    /// By how much a counter of the guest went up since the ready mark. `None` if the guest registered no counters.
    pub fn counted(&self, counter: Counter) -> Option<u64> {
        let at = counter as usize;
        Some(self.ran.guest_after.get(at)?.wrapping_sub(*self.ran.guest_before.get(at)?))
    }

    /// Whether the guest came to its end by itself: then, and only then, everything has to be at rest.
    pub fn has_ended(&self) -> bool {
        matches!(self.ran.end, crate::vm::End::Exited(_))
    }

    /// Whether the policy is the one that keeps all promises.
    pub fn is_hardened(&self) -> bool {
        let options = refault_abi::options::Options::parse(&self.experiment.words);
        options.is_ok_and(|options| {
            options.retry == refault_abi::options::Retry::Hardened
                && options.mode == refault_abi::options::Mode::Hardened
                && options.bug.is_none()
        })
    }

    /// Whether the program was ended because a page of its own was poisoned, as it has to be. It then says nothing more, and what
    /// it had begun is done in part.
    pub fn was_ended_by_poison(&self) -> bool {
        self.experiment.kind == super::kind::Kind::Poison
            && matches!(self.ran.end, crate::vm::End::Exited(SIGBUS))
    }

    /// Whether an operation ended in the error specified for it.
    pub fn was_rejected(&self) -> bool {
        self.told.cases().any(|case| case.judged() == Some(Verdict::Rejected))
    }
}

/// All that does not hold, in the order of [`ALL`], without the oracles that are `off`.
pub fn check(evidence: &Evidence<'_>, off: &[Oracle]) -> Vec<Finding> {
    ALL.into_iter().filter(|oracle| !off.contains(oracle)).flat_map(|oracle| oracle.check(evidence)).collect()
}
