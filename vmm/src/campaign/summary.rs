//! The document of a campaign: `refault.campaign/1`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::doctor::host::Host;
use crate::report::distribution::{Collector, Distribution};

use super::coverage::{Coverage, Loaded};
use super::kind::Kind;
use super::record::RunRecord;

/// Its schema.
pub const SCHEMA: &str = "refault.campaign/1";

/// A failure that was looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The run.
    pub id: String,
    /// Other runs that shrink to the same.
    pub also: Vec<String>,
    /// What it came to.
    pub verdict: String,
    /// The oracle violated.
    pub violated: String,
    /// Why, a sentence each.
    pub why: Vec<String>,
    /// The smallest schedule that fails in this way.
    pub rule: Vec<String>,
    /// The workload there.
    pub workload: String,
    /// What its program is given.
    pub argument: String,
    /// Whether it fails without any fault, too.
    pub without_faults: bool,
    /// Times it failed when it was repeated.
    pub failed: u32,
    /// Times it was repeated.
    pub replays: u32,
    /// The command that repeats it.
    pub replay: String,
}

/// The document.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Where it was made.
    pub host: &'static Host,
    /// Name of the plan.
    pub plan: String,
    /// The part.
    pub shard: String,
    /// Whether it was interrupted, so that there is more to do.
    pub interrupted: bool,
    /// Runs.
    pub runs: u64,
    /// Those in which an oracle was violated.
    pub violations: u64,
    /// Sites that are known.
    pub sites_known: u64,
    /// Of these, visited.
    pub sites_visited: u64,
    /// Pairs that are known.
    pub pairs_known: u64,
    /// Of these, visited.
    pub pairs_visited: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Runs by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Runs by the oracle first violated.
    pub violated: BTreeMap<String, u64>,
    /// Failures that were looked into.
    pub failures: Vec<Failure>,
    /// The matrix and what was not visited.
    pub coverage: Coverage,
    /// What is below the plan's floor.
    pub below_floor: Vec<String>,
    /// Microseconds it took to put machines back; none if none was.
    pub restore_us: Option<Distribution>,
    /// Wall time in milliseconds, of this invocation.
    pub wall_ms: u64,
}

impl Failure {
    /// Whether this is the same failure as another: the same smallest schedule, ending in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        let of = |failure: &Self| {
            let Self { verdict, violated, rule, workload, argument, .. } = failure.clone();
            (verdict, violated, rule, workload, argument)
        };
        of(self) == of(other)
    }
}

impl Summary {
    /// Of runs and their coverage.
    pub fn of(loaded: &Loaded, coverage: Coverage) -> Self {
        let mut verdicts = BTreeMap::new();
        let mut violated = BTreeMap::new();
        for RunRecord { verdict, violated: oracle, .. } in &loaded.records {
            *verdicts.entry(verdict.clone()).or_insert(0) += 1;
            if let Some(oracle) = oracle {
                *violated.entry(oracle.clone()).or_insert(0) += 1;
            }
        }
        Self {
            schema: SCHEMA,
            host: Host::here(),
            plan: String::new(),
            shard: String::new(),
            interrupted: false,
            runs: loaded.records.len() as u64,
            violations: violated.values().sum(),
            sites_known: coverage.sites_known,
            sites_visited: coverage.sites_visited,
            pairs_known: coverage.pairs_known,
            pairs_visited: coverage.pairs_visited,
            faults: coverage.faults,
            verdicts,
            violated,
            failures: Vec::new(),
            below_floor: Vec::new(),
            coverage,
            restore_us: restores(&loaded.records).finish(),
            wall_ms: 0,
        }
    }
}

/// How long machines took to be put back. The first run of a machine finds it at its mark, which is no putting back.
fn restores(records: &[RunRecord]) -> Collector {
    records.iter().filter(|record| record.kind != Kind::None.word()).map(|record| record.restore_us).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_the_same_if_they_shrink_to_the_same_and_end_in_the_same_way() {
        let one = Failure {
            id: "L1/3".into(),
            also: Vec::new(),
            verdict: "SHORT".into(),
            violated: "O2".into(),
            why: Vec::new(),
            rule: vec!["read page=1 : reflect".into()],
            workload: "read".into(),
            argument: "0x101".into(),
            without_faults: false,
            failed: 5,
            replays: 5,
            replay: "refault replay a".into(),
        };
        let other =
            Failure { id: "L1/4".into(), failed: 2, replay: "refault replay b".into(), ..one.clone() };
        assert!(one.is_same(&other));
        assert!(!one.is_same(&Failure { rule: vec!["read page=2 : reflect".into()], ..other.clone() }));
        assert!(!one.is_same(&Failure { verdict: "CORRUPT".into(), ..other.clone() }));
        assert!(!one.is_same(&Failure { workload: "bread".into(), ..other }));
    }
}
