//! O6: it ends, within the bound of attempts.
//!
//! A guest that hangs is wedged, and its kernel's watchdog says who waits for whom; one whose fault lasts has to end in the error that
//! is specified, and no earlier and no later than the bound says: eight faults of a page of the lender, and the one that is too many.
//! It needs the faults one by one, and for repeats the guest's counters.

use std::collections::BTreeMap;

use refault_abi::counters::Counter;

use crate::cli::report;
use crate::inject::rule::Side;
use crate::suite::verdict::Verdict;
use crate::vm::End;

use super::super::kind::Kind;
use super::{Evidence, Finding, Oracle};

/// Faults of a page that VFS allows an operation (its `FAULTS_PER_PAGE`).
pub const FAULTS_PER_PAGE: u64 = 8;

/// Looks at the end and at the attempts.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let finding = |verdict, why: String| Finding::new(Oracle::Ends, verdict, why);
    let (_, _, text) = report::describe(&evidence.ran.end);
    match &evidence.ran.end {
        End::Exited(_) => {}
        End::Wedged(_) | End::TimedOut(_) => return vec![finding(Verdict::Wedged, text)],
        End::Panicked(_) | End::Crashed(_) => return vec![finding(Verdict::Crash, text)],
        End::Failed(_) => return vec![finding(Verdict::Failed, text)],
    }
    let mut found = Vec::new();
    let experiment = evidence.experiment;
    if !evidence.is_hardened() {
        return found;
    }
    if experiment.kind == Kind::Poison {
        found.extend(poisoned(evidence).map(|why| finding(Verdict::Failed, why)));
    }
    if experiment.kind == Kind::Forever && !evidence.was_rejected() {
        found.push(finding(
            Verdict::Failed,
            "the fault lasted, and no operation ended in the error specified".into(),
        ));
    }
    if let [site] = experiment.aimed.as_slice() {
        let mut pages: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for fault in evidence.ran.faults.iter().filter(|fault| fault.request == site.request && !fault.user) {
            *pages.entry((fault.request, fault.page)).or_default() += 1;
        }
        let lent = evidence.baseline.and_then(|clean| clean.lent(site.request)).unwrap_or(site.pages);
        let allowed = site.faults_allowed(FAULTS_PER_PAGE, lent);
        for ((request, page), faults) in pages {
            if faults > allowed {
                let why =
                    format!("page {page} of request {request} met {faults} faults; {allowed} are the bound");
                found.push(finding(Verdict::Failed, why));
            }
        }
    }
    let counted = (evidence.counted(Counter::VfsRepeats), evidence.counted(Counter::VfsMarksSeen));
    if let (Some(repeats), Some(marks)) = counted
        && repeats > marks
    {
        found.push(finding(Verdict::Failed, format!("{repeats} repeats for {marks} marks")));
    }
    found
}

/// Why a lost page did not end as it has to: whose it was ends, so that the program is ended by SIGBUS for a page that it lent, and gets an
/// error for one of the file system's.
fn poisoned(evidence: &Evidence<'_>) -> Option<String> {
    let site = evidence.experiment.aimed.first()?;
    match site.side {
        Side::Granter if !evidence.was_ended_by_poison() => {
            Some("the program went on after a page of its own had been lost".into())
        }
        Side::Grantee if !evidence.was_rejected() => {
            Some("a page of the file system was lost, and no operation ended in the error specified".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn a_guest_that_does_not_end_is_found() {
        assert_eq!(check(&Sample::good().evidence()), []);
        for (end, verdict) in [
            (End::Wedged(vec!["mfs -> vm (page fault)".into()]), Verdict::Wedged),
            (End::TimedOut(std::time::Duration::from_secs(1)), Verdict::Wedged),
            (End::Panicked(None), Verdict::Crash),
        ] {
            let mut sample = Sample::good();
            sample.ran.end = end;
            assert_eq!(check(&sample.evidence())[0].verdict, verdict);
        }
    }

    #[test]
    fn a_fault_that_lasts_ends_in_an_error_at_the_bound() {
        let mut sample = Sample::good();
        sample.experiment.kind = Kind::Forever;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = sample.with_case("read", true, Some("REJECTED"));
        assert_eq!(check(&sample.evidence()), []);
        let fault = sample.ran.faults[0];
        sample.ran.faults = vec![fault; 9];
        assert_eq!(check(&sample.evidence()), []);
        sample.ran.faults.push(fault);
        assert_eq!(check(&sample.evidence()).len(), 1);
        // The copier's pages are bounded together, by what was lent.
        sample.experiment.aimed[0].0.side = Side::Grantee;
        sample.experiment.aimed[0].0.pages = 1;
        let lent = sample.baseline.lent(sample.experiment.aimed[0].request).unwrap();
        assert!(lent > 1);
        sample.ran.faults = vec![fault; (lent as usize + 1) * 8];
        assert_eq!(check(&sample.evidence()), []);
        sample.ran.faults.push(fault);
        assert_eq!(check(&sample.evidence()).len(), 1);
        // Who does not keep that promise is not asked.
        sample.experiment.words = "retry=mark".into();
        assert_eq!(check(&sample.evidence()), []);
    }

    #[test]
    fn a_page_that_is_lost_ends_whose_it_was() {
        let mut sample = Sample::good();
        sample.experiment.kind = Kind::Poison;
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.ran.end = End::Exited(135);
        assert_eq!(check(&sample.evidence()), []);
        sample.experiment.aimed[0].0.side = Side::Grantee;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let sample = Sample { told: Sample::good().with_case("read", true, Some("REJECTED")).told, ..sample };
        assert_eq!(check(&sample.evidence()), []);
    }

    #[test]
    fn repeats_need_marks() {
        let mut sample = Sample::good();
        sample.ran.guest_after[Counter::VfsRepeats as usize] += 1;
        assert_eq!(check(&sample.evidence()).len(), 1);
    }
}
