//! O8: the side that faulted is the side that was cured.
//!
//! A mark names the side: the kernel counts those that blame the copier, and at sites of the lender there may be none of them.
//! What VFS has VM do follows from the mark. Who is blamed wrongly gets pages that were there, and the page that is away stays away,
//! so that the next attempt meets it again while it is still armed. So at sites of the lender no page may be touched again before it was
//! asked back, and on either side each one that was reflected has to be asked back. It needs rules that take pages away at sites,
//! in the policy that repeats with TRY.

use refault_abi::counters::Counter;

use crate::inject::rule::Side;
use crate::suite::verdict::Verdict;

use super::super::kind::Kind;
use super::{Evidence, Finding, Oracle};

/// Looks for pages that were not asked back.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let experiment = evidence.experiment;
    let once_each = matches!(experiment.kind, Kind::Nth | Kind::Once | Kind::Twice | Kind::Pair);
    if !once_each || experiment.past_the_end || !evidence.is_hardened() || !evidence.has_ended() {
        return Vec::new();
    }
    let counters = &evidence.ran.counters;
    let mut found = Vec::new();
    let mut add = |why: String| found.push(Finding::new(Oracle::Blame, Verdict::Failed, why));
    let sides = |side| experiment.aimed.iter().filter(|site| site.side == side).count() as u64;
    let (granter, grantee) = (sides(Side::Granter), sides(Side::Grantee));
    match evidence.counted(Counter::MarksGrantee) {
        Some(blamed) if grantee == 0 && blamed > 0 => {
            add(format!("{blamed} marks blame the copier, whose memory was there"));
        }
        Some(0) if granter == 0 && counters.reflected > 0 => {
            add("no mark blames the copier, whose memory was away".into());
        }
        _ => {}
    }
    if experiment.aimed.iter().all(|site| site.side == Side::Granter) && counters.reflected_again > 0 {
        add(format!("{} times a page was met again before it had been asked back", counters.reflected_again));
    }
    if counters.asked_back < counters.reflected {
        add(format!("{} pages were reflected and {} asked back", counters.reflected, counters.asked_back));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn a_page_that_stays_away_was_the_wrong_sides() {
        assert_eq!(check(&Sample::good().evidence()), []);
        let mut sample = Sample::good();
        sample.ran.counters.reflected_again = 7;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.ran.counters.asked_back = 0;
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.experiment.words = "retry=efault".into();
        assert_eq!(check(&sample.evidence()), []);
    }

    #[test]
    fn marks_have_to_name_the_side() {
        let mut sample = Sample::good();
        sample.ran.guest_after[Counter::MarksGrantee as usize] = 1;
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.experiment.aimed[0].0.side = Side::Grantee;
        assert_eq!(check(&sample.evidence()), []);
        sample.ran.guest_after[Counter::MarksGrantee as usize] = 0;
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.ran.counters.reflected = 0;
        assert_eq!(check(&sample.evidence()), []);
    }
}
