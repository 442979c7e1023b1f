//! O8: the side that faulted is the side that was cured.
//!
//! A mark names the side, and what VFS has VM do follows from it. Seen from outside: who is blamed wrongly gets pages that were there,
//! and the page that is away stays away, so that the next attempt meets it again while it is still armed. So at sites of
//! the lender no page may be touched again before it was asked back, and on either side each one that was reflected has to be asked
//! back. It needs rules that take pages away at sites, in the policy that repeats with TRY; the side in the mark itself is not
//! seen from here.

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
}
