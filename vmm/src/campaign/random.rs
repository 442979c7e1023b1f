//! Level random: everything about a run follows from the campaign's seed and the run's number.
//!
//! Pure. The one thing to hold in mind: a number of a run means the same run in every shard, on every machine, at any time; so nothing
//! but the seed and the number may be drawn from.

use std::time::Duration;

use crate::inject::rule::OPERATIONS;
use refault_abi::fs;

use super::experiment::{Experiment, Level, policy};
use super::kind::{Kind, delayed};
use super::oracle::ends::FAULTS_PER_PAGE;
use super::plan::{Plan, Random};
use super::workload::Argument;

/// Numbers that follow from a seed: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
struct Numbers(u64);

impl Numbers {
    /// For one run of a campaign. Mixed, so that runs next to each other have nothing in common.
    fn of(seed: u64, run: u64) -> Self {
        let mut start = Self(seed);
        let salt = start.next();
        Self(salt ^ run.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..count`; 0 if there is none.
    fn below(&mut self, count: u64) -> u64 {
        self.next().checked_rem(count).unwrap_or(0)
    }

    /// One of these.
    fn of_these<T: Copy>(&mut self, these: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(these.len() as u64)).ok()?;
        these.get(at).copied()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The run of this number. `None` only for a plan without workloads.
pub fn draw(plan: &Plan, words: &str, number: u64) -> Option<Experiment> {
    let mut numbers = Numbers::of(plan.seed, number);
    let workloads: Vec<_> = plan.workloads().collect();
    let workload = numbers.of_these(&workloads)?;
    let random = &plan.random;
    let clients =
        if workload.repeats_itself { 1 } else { numbers.below(u64::from(random.clients.max(1))) as u8 + 1 };
    let seed = numbers.below(u64::from(random.seeds)) as u32;
    // Seeds of workloads differ from campaign to campaign, too.
    let seed = seed.wrapping_add((plan.seed as u32).wrapping_mul(0x9e37_79b9));
    let argument = Argument {
        clients,
        operations: random.operations,
        thorough: numbers.one_in(8),
        ..Argument::of(workload, seed)
    };
    let count = numbers.below(u64::from(random.rules)).saturating_add(1);
    // Where a workload has pages of its own to take away, they are what it is about.
    let mut rules: Vec<String> = workload.asks.then(|| "guest: allow".to_owned()).into_iter().collect();
    let (mut lasts, mut fails, mut reflects) = (false, false, 0);
    for _ in 0..count {
        let rule = match numbers.below(8) {
            0 | 1 if random.physical => physical(&mut numbers, random),
            2 if random.disk_errors && numbers.one_in(2) => {
                fails = true;
                format!("disk share={} : error", share(&mut numbers))
            }
            2 | 3 if random.disk_delays => {
                format!("disk share={} : {}", share(&mut numbers), late(&mut numbers, random))
            }
            _ => site(&mut numbers, random, &mut lasts, &mut reflects),
        };
        rules.push(rule);
    }
    Some(Experiment {
        id: format!("R/{}/{:x}/{number}", policy(words), plan.seed),
        rules,
        kind: Kind::Mixed,
        // For what rules draw. TOML has no numbers beyond 63 bits.
        seed: numbers.next() >> 1,
        log_sites: false,
        may_reject: lasts || fails,
        ..Experiment::fault_free(Level::Random, workload, argument, words)
    })
}

/// A share from all down to one of a million, halved each time.
fn share(numbers: &mut Numbers) -> String {
    let millionths = 1_000_000_u64 >> numbers.below(20);
    format!("{}.{:04}%", millionths / 10_000, millionths % 10_000)
}

fn late(numbers: &mut Numbers, random: &Random) -> String {
    let limit = u64::try_from(random.delay.as_micros()).unwrap_or(u64::MAX).max(1);
    // Geometric: short ones are as likely as long ones.
    let time = limit >> numbers.below(10);
    delayed(Duration::from_micros(time.max(1)))
}

/// Classes of which pages may come late without the guest noticing, on any host. Not tables that map memory: where a hypervisor shadows
/// them it reads them itself, and takes one that is away for an absent page (docs/fault-abi.md, section 5.1). Nor the kernel's image and
/// the descriptors: where ring 0 is interpreted, the interpreter fails at an instruction, or a stack in use, that it cannot get.
const LATE_CLASSES: [&str; 3] = ["virtqueues", "granttables", "messages"];

fn physical(numbers: &mut Numbers, random: &Random) -> String {
    if numbers.one_in(16)
        && let Some(class) = numbers.of_these(&LATE_CLASSES)
    {
        return format!("gpa=ram share={} class={class} : {}", share(numbers), late(numbers, random));
    }
    let action = match numbers.below(3) {
        0 => late(numbers, random),
        _ => "reflect".into(),
    };
    format!("gpa=ram share={} : {action}", share(numbers))
}

/// `reflects` are faults that one page may have by the rules before: together they stay below the bound at which VFS gives up.
fn site(numbers: &mut Numbers, random: &Random, lasts: &mut bool, reflects: &mut u64) -> String {
    let mut rule = String::new();
    if numbers.one_in(2)
        && let Some(operation) = numbers.of_these(&OPERATIONS)
    {
        rule.push_str(fs::operation_name(operation));
        rule.push(' ');
    }
    if numbers.one_in(2) {
        rule.push_str(if numbers.one_in(2) { "side=granter " } else { "side=grantee " });
    }
    match numbers.below(4) {
        0 => rule.push_str(&format!("page={} ", numbers.below(4))),
        1 => rule.push_str("page=last "),
        _ => {}
    }
    if numbers.one_in(4) {
        rule.push_str(&format!("attempt={} ", numbers.below(3).saturating_add(1)));
    }
    if numbers.one_in(2) {
        rule.push_str(&format!("share={} ", share(numbers)));
    }
    let action = match numbers.below(8) {
        0 | 1 => late(numbers, random),
        2 | 3 if *reflects < FAULTS_PER_PAGE / 2 => {
            let times = numbers.below(3).saturating_add(2);
            *reflects = reflects.saturating_add(times);
            format!("reflect*{times}")
        }
        4 if random.forever => {
            *lasts = true;
            "reflect*forever".into()
        }
        _ if *reflects < FAULTS_PER_PAGE => {
            *reflects = reflects.saturating_add(1);
            "reflect".into()
        }
        _ => late(numbers, random),
    };
    format!("{rule}: {action}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::presets;
    use crate::inject::parse_rule;

    #[test]
    fn a_number_is_a_run_and_every_rule_can_be_read() {
        let plan = presets::find("random").unwrap().unwrap();
        let mut kinds = std::collections::BTreeSet::new();
        let mut rules = std::collections::BTreeSet::new();
        for number in 0..2000 {
            let run = draw(&plan, "retry=hardened", number).unwrap();
            assert_eq!(draw(&plan, "retry=hardened", number).unwrap(), run);
            assert!((1..=4).contains(&run.rules.len()));
            for rule in run.rules {
                parse_rule(&rule).unwrap_or_else(|why| panic!("{why}"));
                assert!(!rule.contains("forever") && !rule.contains("error"), "{rule}");
                kinds.insert(rule.split_ascii_whitespace().next().unwrap().to_owned());
                rules.insert(rule);
            }
        }
        let classes = rules.iter().filter(|rule| rule.contains("class="));
        assert!(classes.clone().count() > 10 && classes.clone().all(|rule| rule.contains("delay")));
        for kind in ["disk", "gpa=ram", "read", "slink", "side=granter", "page=last", ":"] {
            assert!(kinds.contains(kind), "{kind} of {kinds:?}");
        }
        assert!(rules.len() > 1000, "{}", rules.len());
        let mut other = plan.clone();
        other.seed = 2;
        let same =
            (0..100).filter(|&n| draw(&plan, "", n).unwrap().rules == draw(&other, "", n).unwrap().rules);
        assert!(same.count() < 20);
    }

    #[test]
    fn what_may_end_in_an_error_says_so() {
        let mut plan = presets::find("random").unwrap().unwrap();
        plan.random.forever = true;
        plan.random.disk_errors = true;
        let mut rejecting = 0;
        for number in 0..500 {
            let run = draw(&plan, "", number).unwrap();
            let lasts = run.rules.iter().any(|rule| rule.contains("forever") || rule.contains(": error"));
            assert_eq!(run.may_reject, lasts, "{:?}", run.rules);
            rejecting += u32::from(lasts);
        }
        assert!(rejecting > 50);
    }
}
