//! O4: the run ends as the fault-free run of the same workload and seed does.
//!
//! The same cases with the same outcome, and the same tree on the disk: names, kinds, sizes, link counts, contents. Not times, and
//! not where on the disk anything is. It needs a workload that repeats itself; where an operation was rejected, what it would have
//! done is missing, so only what the program verified counts then (O1 to O3).

use crate::suite::verdict::Verdict;

use super::{Evidence, Finding, Oracle};

/// Differences that are told one by one.
const SHOWN: usize = 5;

/// Looks for differences.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let Some(baseline) = evidence.baseline.filter(|_| evidence.experiment.workload.repeats_itself) else {
        return Vec::new();
    };
    if !evidence.has_ended() || evidence.was_rejected() || evidence.was_ended_by_poison() {
        return Vec::new();
    }
    let mut different = Vec::new();
    let cases: Vec<(String, bool)> = evidence.told.cases().map(|case| (case.name.clone(), case.ok)).collect();
    for (here, there) in cases.iter().zip(&baseline.cases) {
        if here != there {
            different.push(format!("case {here:?} where the fault-free run has {there:?}"));
        }
    }
    if cases.len() != baseline.cases.len() {
        different.push(format!("{} cases; the fault-free run has {}", cases.len(), baseline.cases.len()));
    }
    if let Some(Ok(tree)) = evidence.disk.map(|disk| &disk.tree) {
        different.extend(tree.unlike(&baseline.tree));
    }
    let more = different.len().saturating_sub(SHOWN);
    different.truncate(SHOWN);
    if more > 0 {
        different.push(format!("and {more} more differences"));
    }
    different.into_iter().map(|why| Finding::new(Oracle::Same, Verdict::Corrupt, why)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn a_difference_is_found_in_cases_and_on_the_disk() {
        assert_eq!(check(&Sample::good().evidence()), []);
        assert_eq!(check(&Sample::good().with_case("more", true, None).evidence()).len(), 1);
        assert_eq!(check(&Sample::good().with_case("read", false, None).evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.disk.tree = Ok(crate::campaign::tree::Tree::default());
        assert_eq!(check(&sample.evidence()).len(), 1);
    }

    #[test]
    fn nothing_is_said_where_nothing_can_be_compared() {
        let mut sample = Sample::good().with_case("more", true, None);
        sample.experiment.workload = crate::campaign::workload::named("crowd").unwrap();
        assert_eq!(check(&sample.evidence()), []);
        let mut sample = Sample::good().with_case("read", true, Some("REJECTED"));
        sample.disk.tree = Ok(crate::campaign::tree::Tree::default());
        assert_eq!(check(&sample.evidence()), []);
    }
}
