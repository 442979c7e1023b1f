//! How long the parts of a fault took, by mechanism and by owner.
//!
//! The one thing to hold in mind: a fault has three parts, and each is somebody else's doing. The monitor decides, the host lets the
//! processor go on, the guest deals with the fault and asks for the page back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::campaign::record::{FaultTimes, RunRecord};

use super::distribution::{Collector, Distribution};

/// A part of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// From the processor's exit to the injector's decision.
    ExitToDecision,
    /// From the decision until the processor was let go on.
    DecisionToReentry,
    /// From there until the guest asked for the page back.
    GuestHandling,
}

impl Part {
    /// All of them, in the order of time.
    pub const ALL: [Self; 3] = [Self::ExitToDecision, Self::DecisionToReentry, Self::GuestHandling];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExitToDecision => "exit → decision",
            Self::DecisionToReentry => "decision → re-entry",
            Self::GuestHandling => "guest handling",
        }
    }

    /// What happens in it.
    pub fn about(self) -> &'static str {
        match self {
            Self::ExitToDecision => "the monitor reads the registers, finds the page and decides",
            Self::DecisionToReentry => "the page fault is prepared and the processor let go on",
            Self::GuestHandling => "the guest deals with the fault and asks for the page back",
        }
    }

    /// How long it took in this fault; none if it did not end.
    ///
    /// # Errors
    /// It ended before it began.
    pub fn of(self, fault: &FaultTimes) -> Result<Option<u64>, Backwards> {
        let (from, to) = match self {
            Self::ExitToDecision => (fault.exit, fault.decided),
            Self::DecisionToReentry => (fault.decided, fault.resumed),
            Self::GuestHandling if fault.back == 0 => return Ok(None),
            Self::GuestHandling => (fault.resumed, fault.back),
        };
        to.checked_sub(from).map(Some).ok_or(Backwards)
    }
}

/// The times of a fault do not follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backwards;

/// One distribution, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How pages were taken away.
    pub mechanism: String,
    /// Operation that the fault fell into, or `user` or `kernel`; `all` for all of them.
    pub owner: String,
    /// Which part.
    pub part: Part,
    /// How long it took.
    pub ns: Distribution,
}

/// The owner under which all faults are counted.
pub const ALL_OWNERS: &str = "all";

/// All distributions, by mechanism, part and owner ([`ALL_OWNERS`] first); and the faults whose times contradict each other, which
/// are in none of them.
pub fn latencies(records: &[RunRecord]) -> (Vec<Latency>, u64) {
    let mut collected: BTreeMap<(&str, Part, bool, &str), Collector> = BTreeMap::new();
    let mut contradicting = 0;
    for record in records {
        for fault in &record.timeline {
            let parts: Result<Vec<_>, Backwards> = Part::ALL.iter().map(|part| part.of(fault)).collect();
            let Ok(parts) = parts else {
                contradicting += 1;
                continue;
            };
            for (part, ns) in Part::ALL.into_iter().zip(parts) {
                let Some(ns) = ns else { continue };
                let mechanism = record.mechanism.as_str();
                collected.entry((mechanism, part, false, ALL_OWNERS)).or_default().add(ns);
                collected.entry((mechanism, part, true, fault.owner.as_str())).or_default().add(ns);
            }
        }
    }
    let latency = |((mechanism, part, _, owner), collector): (_, Collector)| -> Option<Latency> {
        let (mechanism, owner): (&str, &str) = (mechanism, owner);
        Some(Latency { mechanism: mechanism.into(), owner: owner.into(), part, ns: collector.finish()? })
    };
    (collected.into_iter().filter_map(latency).collect(), contradicting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(owner: &str, times: [u64; 4]) -> FaultTimes {
        let [exit, decided, resumed, back] = times;
        FaultTimes { owner: owner.into(), exit, decided, resumed, back, ..FaultTimes::default() }
    }

    fn record(mechanism: &str, timeline: Vec<FaultTimes>) -> RunRecord {
        RunRecord { mechanism: mechanism.into(), timeline, ..RunRecord::default() }
    }

    #[test]
    fn parts_by_mechanism_and_owner() {
        let read = fault("read", [100, 110, 130, 1130]);
        let (latencies, contradicting) = latencies(&[
            record("poison", vec![read.clone(), fault("user", [0, 30, 31, 0])]),
            record("prot-none", vec![read]),
        ]);
        assert_eq!(contradicting, 0);
        let found = |mechanism: &str, part, owner: &str| {
            let mut these =
                latencies.iter().filter(|l| l.mechanism == mechanism && l.part == part && l.owner == owner);
            these.next().map(|l| (l.ns.n, l.ns.min, l.ns.max))
        };
        assert_eq!(found("poison", Part::ExitToDecision, ALL_OWNERS), Some((2, 10, 30)));
        assert_eq!(found("poison", Part::ExitToDecision, "read"), Some((1, 10, 10)));
        assert_eq!(found("poison", Part::DecisionToReentry, "user"), Some((1, 1, 1)));
        assert_eq!(found("prot-none", Part::GuestHandling, "read"), Some((1, 1000, 1000)));
        // What never came back was never dealt with.
        assert_eq!(found("poison", Part::GuestHandling, "user"), None);
        assert_eq!(latencies[0].owner, ALL_OWNERS);
    }

    #[test]
    fn times_that_contradict_each_other_are_counted_and_left_out() {
        let (latencies, contradicting) =
            latencies(&[record("poison", vec![fault("read", [5, 4, 6, 7]), fault("read", [1, 2, 9, 8])])]);
        assert_eq!((latencies.len(), contradicting), (0, 2));
    }
}
