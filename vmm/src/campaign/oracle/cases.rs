//! O1 bytes, O2 results, O3 positions and sizes, O9 nobody sees the middle: from the cases of the program.
//!
//! The program verifies each operation against its own model and says what did not hold; here that is told apart by oracle. It needs
//! a program that verifies: one that says nothing, or not all of it, violates O2.

use crate::suite::console::Case;
use crate::suite::verdict::Verdict;
use crate::vm::End;

use super::{Evidence, Finding, Oracle};

/// Which oracle a case that failed is about.
pub fn oracle_of(case: &Case) -> Oracle {
    let is_about = |words: &[&str]| words.iter().any(|word| case.name.contains(word));
    match case.judged() {
        Some(Verdict::Leak) => Oracle::Rest,
        _ if is_about(&["rest"]) => Oracle::Rest,
        _ if is_about(&["middle", "atomic", "whole"]) => Oracle::Middle,
        Some(Verdict::Corrupt) => Oracle::Bytes,
        Some(Verdict::Short) => Oracle::Results,
        _ if is_about(&["position", "size", "offset", "append"]) => Oracle::Positions,
        _ if is_about(&["bytes", "contents"]) => Oracle::Bytes,
        _ => Oracle::Results,
    }
}

/// Looks for what this oracle is about.
pub fn check(oracle: Oracle, evidence: &Evidence<'_>) -> Vec<Finding> {
    let failed = evidence.told.cases().filter(|case| !case.ok && oracle_of(case) == oracle);
    let mut found: Vec<Finding> = failed
        .map(|case| {
            let verdict = case.judged().unwrap_or(Verdict::Failed);
            Finding::new(oracle, verdict, format!("{}: {}", case.name, case.detail))
        })
        .collect();
    if oracle != Oracle::Results {
        return found;
    }
    let mut add = |why: String| found.push(Finding::new(oracle, Verdict::Failed, why));
    for case in evidence.told.cases().filter(|case| case.judged() == Some(Verdict::Rejected)) {
        if !evidence.experiment.may_reject {
            add(format!("{}: it ended in an error, though no fault was to last: {}", case.name, case.detail));
        }
    }
    if let End::Exited(status) = evidence.ran.end
        && !evidence.was_ended_by_poison()
    {
        for broken in &evidence.told.broken {
            add(broken.clone());
        }
        if status != 0 && evidence.told.cases().all(|case| case.ok) {
            add(format!("the program ended with {status}, though all its cases are well"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    fn found(sample: &Sample) -> Vec<(Oracle, Verdict)> {
        let all = [Oracle::Bytes, Oracle::Results, Oracle::Positions, Oracle::Middle];
        let found = all.into_iter().flat_map(|oracle| check(oracle, &sample.evidence()));
        found.map(|finding| (finding.oracle, finding.verdict)).collect()
    }

    #[test]
    fn each_failed_case_is_some_oracles_and_a_good_run_is_nobodys() {
        assert_eq!(found(&Sample::good()), []);
        for (name, verdict, expected) in [
            ("read", Some("CORRUPT"), (Oracle::Bytes, Verdict::Corrupt)),
            ("read", Some("SHORT"), (Oracle::Results, Verdict::Short)),
            ("read", None, (Oracle::Results, Verdict::Failed)),
            ("write.position", None, (Oracle::Positions, Verdict::Failed)),
            ("crowd.middle", Some("CORRUPT"), (Oracle::Middle, Verdict::Corrupt)),
        ] {
            assert_eq!(found(&Sample::good().with_case(name, false, verdict)), [expected], "{name}");
        }
        // A leak is O5's.
        assert_eq!(found(&Sample::good().with_case("rest", false, Some("LEAK"))), []);
    }

    #[test]
    fn an_error_is_well_only_where_a_fault_was_to_last() {
        let mut sample = Sample::good().with_case("read", true, Some("REJECTED"));
        assert_eq!(found(&sample), [(Oracle::Results, Verdict::Failed)]);
        sample.experiment.may_reject = true;
        assert_eq!(found(&sample), []);
    }

    #[test]
    fn silence_is_no_success() {
        let mut sample = Sample::good();
        sample.told = super::super::Told::read(&[]);
        assert_eq!(found(&sample), [(Oracle::Results, Verdict::Failed)]);
        let mut sample = Sample::good();
        sample.ran.end = End::Exited(1);
        assert_eq!(found(&sample), [(Oracle::Results, Verdict::Failed)]);
    }
}
