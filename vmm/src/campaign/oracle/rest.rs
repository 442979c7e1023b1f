//! O5: nothing is left over when the guest has ended.
//!
//! Grants made and revoked, requests begun and answered, compared with the fault-free run (the last call of a program is never
//! answered); requests of disks without an answer; and the program's own `rest` case, which asks the servers. It needs the guest's
//! counters.

use refault_abi::counters::Counter;

use crate::suite::verdict::Verdict;

use super::cases::oracle_of;
use super::{Evidence, Finding, Oracle};

/// Looks for what is left over.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let leak = |why: String| Finding::new(Oracle::Rest, Verdict::Leak, why);
    let failed = evidence.told.cases().filter(|case| !case.ok && oracle_of(case) == Oracle::Rest);
    let mut found: Vec<Finding> =
        failed.map(|case| leak(format!("{}: {}", case.name, case.detail))).collect();
    if !evidence.has_ended() {
        return found;
    }
    found.extend(evidence.ran.unfinished.iter().map(|what| leak(what.clone())));
    for (what, outstanding, usual) in [
        ("grants that VFS made and did not revoke", grants(evidence), evidence.baseline.map(|b| b.grants)),
        ("requests that VFS did not answer", calls(evidence), evidence.baseline.map(|b| b.calls)),
    ] {
        let usual = usual.unwrap_or(Some(0));
        if let (Some(outstanding), Some(usual)) = (outstanding, usual)
            && outstanding > usual.max(0)
            && evidence.baseline.is_some()
        {
            found.push(leak(format!("{outstanding} {what}; {usual} in the fault-free run")));
        }
    }
    found
}

fn balance(evidence: &Evidence<'_>, made: Counter, undone: Counter) -> Option<i64> {
    Some(evidence.counted(made)?.wrapping_sub(evidence.counted(undone)?) as i64)
}

/// Grants that VFS made and did not revoke since the ready mark.
pub fn grants(evidence: &Evidence<'_>) -> Option<i64> {
    balance(evidence, Counter::VfsGrants, Counter::VfsRevokes)
}

/// Requests that VFS has begun and not answered since the ready mark.
pub fn calls(evidence: &Evidence<'_>) -> Option<i64> {
    balance(evidence, Counter::VfsCalls, Counter::VfsAnswers)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn what_is_left_over_is_found() {
        assert_eq!(check(&Sample::good().evidence()), []);
        let mut sample = Sample::good();
        sample.ran.guest_after[Counter::VfsGrants as usize] += 1;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.ran.guest_after[Counter::VfsCalls as usize] += 1;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.ran.unfinished.push("disk 0: request 7 was never answered".into());
        assert_eq!(check(&sample.evidence())[0].verdict, Verdict::Leak);
        assert_eq!(check(&Sample::good().with_case("rest", false, Some("LEAK")).evidence()).len(), 1);
    }

    #[test]
    fn a_guest_that_was_stopped_need_not_be_at_rest() {
        let mut sample = Sample::good();
        sample.ran.guest_after[Counter::VfsGrants as usize] += 1;
        sample.ran.end = crate::vm::End::Wedged(Vec::new());
        assert_eq!(check(&sample.evidence()), []);
    }
}
