//! O7: the fault really happened, and the sums come out.
//!
//! A run aimed at a site that did not fire shows nothing and fails; so does one in which something fires that was not asked for. Pages
//! taken away are touched or not, touched ones are reflected, late or resolved, and every fault that the monitor gave is one
//! that the guest counted. It needs the injector's sums, and for the last part the guest's counters.

use refault_abi::counters::Counter;

use crate::suite::verdict::Verdict;

use super::super::experiment::Level;
use super::super::kind::Kind;
use super::{Evidence, Finding, Oracle};

/// Looks for faults that did not happen, and for sums that do not come out.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |why: String| found.push(Finding::new(Oracle::Happened, Verdict::Failed, why));
    let counters = &evidence.ran.counters;
    if !counters.conserved() {
        add(format!("the injector's sums do not come out: {counters:?}"));
    }
    if let Some(why) = fired(evidence) {
        add(why);
    }
    if !evidence.has_ended() {
        return found;
    }
    let noticed = [Counter::SoftFaultsSecondStage, Counter::ReflectedUser, Counter::ReflectedKernel]
        .into_iter()
        .try_fold(0_u64, |sum, counter| Some(sum.wrapping_add(evidence.counted(counter)?)));
    if let Some(noticed) = noticed.filter(|noticed| *noticed != counters.all_reflected()) {
        add(format!("the guest was given {} faults and counted {noticed}", counters.all_reflected()));
    }
    // Marks belong to operations that lend with TRY, which are those that rules can name.
    let aimed = matches!(evidence.experiment.level, Level::One | Level::Two) && evidence.is_hardened();
    if aimed && counters.reflected > 0 && evidence.counted(Counter::MarksSet) == Some(0) {
        add("a copy met the fault, and no mark was set".into());
    }
    found
}

/// Why what was aimed at did not happen as it was to.
fn fired(evidence: &Evidence<'_>) -> Option<String> {
    let (experiment, counters) = (evidence.experiment, &evidence.ran.counters);
    let exactly = |wanted: u64, is: u64| {
        (is != wanted).then(|| format!("{is} faults happened where {wanted} were aimed at"))
    };
    if experiment.past_the_end || experiment.kind == Kind::None {
        return exactly(0, counters.armed);
    }
    match experiment.kind {
        Kind::Once | Kind::Nth | Kind::Delay => exactly(1, counters.trapped)
            .or_else(|| if experiment.kind == Kind::Nth { elsewhere(evidence) } else { None }),
        Kind::Poison => exactly(1, counters.poisoned),
        // Where operations are not repeated, a second fault has no place.
        Kind::Twice | Kind::Pair if evidence.is_hardened() => exactly(2, counters.trapped),
        Kind::Twice | Kind::Pair | Kind::Forever => {
            (counters.trapped == 0).then(|| "nothing happened at the site aimed at".to_owned())
        }
        // What is drawn may miss.
        Kind::Mixed | Kind::None => None,
    }
}

/// Why the fault was not at the site aimed at. Its request is not compared: where sites are only counted, requests that were not
/// looked at have no numbers. Nor is the access: at a site that is about to write, too, the first access is a load (docs/fault-abi.md,
/// section 4).
fn elsewhere(evidence: &Evidence<'_>) -> Option<String> {
    let (site, fault) = (evidence.experiment.aimed.first()?, evidence.ran.faults.first()?);
    let there = (site.attempt, site.page, Some(site.side));
    let here = (fault.attempt, fault.page, fault.side);
    (there != here).then(|| {
        let side = fault.side.map_or_else(|| "of no side".into(), |side| format!("of the {side}"));
        format!("it happened in attempt {} at page {} {side}, not at {site}", here.0, here.1)
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::inject::rule::Side;

    #[test]
    fn a_fault_that_did_not_happen_is_a_failure() {
        assert_eq!(check(&Sample::good().evidence()), []);
        let mut sample = Sample::good();
        sample.ran.counters = Default::default();
        sample.ran.guest_after[Counter::SoftFaultsSecondStage as usize] = 0;
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.experiment.kind = Kind::Forever;
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.experiment.kind = Kind::Mixed;
        assert_eq!(check(&sample.evidence()), []);
        sample.experiment.past_the_end = true;
        assert_eq!(check(&sample.evidence()), []);
    }

    #[test]
    fn one_too_many_is_one_too() {
        let mut sample = Sample::good();
        sample.experiment.kind = Kind::None;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.experiment.kind = Kind::Twice;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.experiment.kind = Kind::Nth;
        assert_eq!(check(&sample.evidence()), []);
        // The first access to a page is a load, whatever the copy is about to do.
        sample.ran.faults[0].write = false;
        assert_eq!(check(&sample.evidence()), []);
        sample.ran.faults[0].side = Some(Side::Grantee);
        assert_eq!(check(&sample.evidence()).len(), 1);
        sample.ran.faults[0].side = Some(Side::Granter);
        sample.ran.faults[0].page += 1;
        assert_eq!(check(&sample.evidence()).len(), 1);
    }

    #[test]
    fn sums_have_to_come_out_and_the_guest_has_to_agree() {
        let mut sample = Sample::good();
        sample.ran.counters.armed += 1;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.ran.guest_after[Counter::SoftFaultsSecondStage as usize] += 1;
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.ran.guest_after[Counter::MarksSet as usize] = 0;
        assert_eq!(check(&sample.evidence()).len(), 1);
    }
}
