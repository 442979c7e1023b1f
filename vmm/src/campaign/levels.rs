//! Which runs there are: level 1 and level 2, from the sites of fault-free runs.
//!
//! Pure. The one thing to hold in mind: the list follows from the plan and the sites alone, so that every shard makes the same list and
//! takes its part.

use super::baseline::Baseline;
use super::experiment::{Experiment, Level, Site, policy};
use super::kind::Kind;
use super::plan::Plan;
use super::workload::{Argument, Workload};

/// A workload under a policy, and what it does without faults.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The workload.
    pub workload: &'static Workload,
    /// What the program is given.
    pub argument: Argument,
    /// The kernel's words.
    pub words: &'a str,
    /// Its fault-free run.
    pub baseline: &'a Baseline,
}

impl Subject<'_> {
    fn experiment(&self, level: Level, kind: Kind) -> Experiment {
        Experiment {
            kind,
            log_sites: false,
            may_reject: kind.may_reject(),
            ..Experiment::fault_free(level, self.workload, self.argument, self.words)
        }
    }

    /// Sites that rules can name, with their numbers among all sites, from 1.
    fn sites(&self) -> impl Iterator<Item = (usize, Site)> {
        (1..).zip(self.baseline.sites.iter().copied()).filter(|(_, site)| site.is_nameable())
    }

    /// Level 1: each site in each kind, and behind the last one nothing.
    pub fn level_1(&self, plan: &Plan) -> Vec<Experiment> {
        let mut all = Vec::new();
        for kind in plan.kinds() {
            let first = all.len();
            let name =
                |number: usize| format!("L1/{}/{}/{number}/{kind}", policy(self.words), self.workload.name);
            for (number, site) in self.sites() {
                let mut experiment = self.experiment(Level::One, kind);
                experiment.id = name(number);
                experiment.rules = kind.rule(&site, number, plan.delay).into_iter().collect();
                experiment.aimed = vec![site];
                all.push(experiment);
            }
            thorough_at_last(all.get_mut(first..).unwrap_or_default());
            // Counting on until nothing fires: had there been more sites than were listed, one of them would.
            if kind == Kind::Nth {
                let past = self.baseline.sites.len().saturating_add(1);
                let mut experiment = self.experiment(Level::One, kind);
                experiment.id = name(past);
                experiment.rules = vec![format!("nth={past} : reflect")];
                experiment.past_the_end = true;
                all.push(experiment);
            }
        }
        all
    }

    /// Level 2, its first half: for each site a run that lists the sites in the repeat.
    pub fn level_2_first(&self, plan: &Plan) -> Vec<Experiment> {
        let first = self.sites().take(plan.bounds.first);
        first
            .filter_map(|(number, site)| {
                let mut experiment = self.experiment(Level::Two, Kind::Once);
                experiment.id = format!("L2/{}/{}/{number}", policy(self.words), self.workload.name);
                experiment.rules = vec![Kind::Once.rule(&site, number, plan.delay)?];
                experiment.aimed = vec![site];
                experiment.log_sites = true;
                Some(experiment)
            })
            .collect()
    }
}

/// In the last run of each request, what is left over is looked for in every table. That takes longer, and what leaks at one site of a
/// request leaks at another.
fn thorough_at_last(all: &mut [Experiment]) {
    let mut seen = std::collections::HashSet::new();
    for experiment in all.iter_mut().rev() {
        experiment.argument.thorough = seen.insert(experiment.operation());
    }
}

/// The sites in the repeat of the request that `first` belongs to, among those that its run passed.
pub fn in_the_repeat(first: &Site, passed: &[Site], plan: &Plan) -> Vec<Site> {
    let again = |site: &&Site| {
        site.operation == first.operation && site.request == first.request && site.attempt > first.attempt
    };
    passed.iter().filter(again).filter(|site| site.is_nameable()).take(plan.bounds.second).copied().collect()
}

/// Level 2, its second half: the first site together with each of those in its repeat.
pub fn pairs(first: &Experiment, second: &[Site]) -> Vec<Experiment> {
    let pair = |(number, site): (usize, &Site)| {
        let mut experiment = first.clone();
        experiment.id = format!("{}/{number}", first.id);
        experiment.kind = Kind::Pair;
        experiment.rules.push(format!("{site} : reflect"));
        experiment.aimed.push(*site);
        experiment.log_sites = false;
        experiment
    };
    (1..).zip(second).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::oracle::sample;
    use crate::campaign::{presets, workload};

    #[test]
    fn the_last_run_of_each_request_in_each_kind_is_thorough_and_none_behind_the_end() {
        let plan = presets::find("level1").unwrap().unwrap();
        let mut sites = vec![sample::site(); 3];
        sites[1].0.operation = refault_abi::fs::WRITE;
        sites[2].0.operation = refault_abi::fs::WRITE;
        let baseline =
            Baseline { sites, cases: Vec::new(), tree: Default::default(), grants: None, calls: None };
        let workload = workload::named("requests").unwrap();
        let argument = Argument::of(workload, 0);
        let subject = Subject { workload, argument, words: "", baseline: &baseline };
        let runs = subject.level_1(&plan);
        let kinds = plan.kinds().count();
        assert_eq!(runs.len(), 3 * kinds + 1);
        let thorough: Vec<bool> = runs.iter().map(|run| run.argument.thorough).collect();
        assert_eq!(thorough.iter().filter(|it| **it).count(), 2 * kinds);
        // The kind that counts on has one more, behind the last site, in which more sites must not come.
        assert_eq!(thorough[..4], [true, false, true, false]);
        assert!(runs[3].past_the_end);
    }
}
