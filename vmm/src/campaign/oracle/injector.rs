//! O11: the injector's own figures agree with one another.
//!
//! Traps that the guest is told of are numbered from 1 without a gap, and there are as many in the log as were counted. It needs a log that is
//! complete: one that has reached its limit is only looked at as far as it goes.

use crate::suite::verdict::Verdict;

use super::{Evidence, Finding, Oracle};

/// Looks for figures that do not agree.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let finding = |why: String| vec![Finding::new(Oracle::Injector, Verdict::Failed, why)];
    let numbers = evidence.ran.faults.iter().map(|fault| fault.sequence).filter(|&sequence| sequence != 0);
    let mut logged = 0_u64;
    for number in numbers {
        logged = logged.saturating_add(1);
        if number != logged {
            return finding(format!("the {logged}th reflected trap of the log has the number {number}"));
        }
    }
    let counters = &evidence.ran.counters;
    // What the guest was told by a machine check has its number, too.
    let told = [counters.all_reflected(), counters.poisoned, counters.poisoned_again];
    let counted = told.into_iter().fold(0, u64::saturating_add);
    if logged > counted || (logged < counted && evidence.ran.faults.len() < LOG_LIMIT) {
        return finding(format!("the guest was told of {counted} traps, and {logged} are in the log"));
    }
    Vec::new()
}

/// Faults beyond which a log may be incomplete.
const LOG_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn gaps_and_wrong_sums_are_found() {
        assert_eq!(check(&Sample::good().evidence()), []);
        let mut sample = Sample::good();
        sample.ran.faults[0].sequence = 2;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.ran.faults.clear();
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.ran.counters.reflected = 0;
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.ran.counters.poisoned = 1;
        assert_eq!(check(&sample.evidence()), []);
    }
}
