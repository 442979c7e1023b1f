//! Shrinking: from a run that failed to the smallest one that fails in the same way.
//!
//! In this order: without any fault (then it is no matter of faults), fewer operations, fewer clients, fewer rules, fewer pages and smaller
//! shares, shorter delays, faults that pass. Each candidate is tried several times, and taken as soon as it fails once in the same way:
//! the same oracle, the same verdict. The one thing to hold in mind: a failure may be rare, so what is kept in the end is tried
//! again, and how often it failed is said.

use std::io;
use std::time::Duration;

use crate::inject::parse_rule;
use crate::inject::rule::{Action, Delay, DiskAction, OPERATIONS, Rule, Times};
use refault_abi::fs;

use super::bench::{Bench, Done};
use super::experiment::Experiment;
use super::judge::Judged;
use super::kind::Kind;
use super::lab::Laboratories;
use super::oracle::Oracle;
use super::plan::Shrink;
use super::workload;

/// What shrinking came to.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest experiment found.
    pub experiment: Experiment,
    /// What it comes to.
    pub judged: Judged,
    /// Times that it failed in this way, of the last replays.
    pub failed: u32,
    /// Those replays.
    pub replays: u32,
    /// Whether it fails without any fault, too.
    pub without_faults: bool,
    /// Runs that this took.
    pub runs: u32,
}

/// Operations of each part of the workload `mix`, by itself.
const MIX: u16 = 10;

struct Shrinker<'b, 'a, L: Laboratories> {
    bench: &'b mut Bench<'a, L>,
    how: &'b Shrink,
    like: Judged,
    runs: u32,
}

/// Shrinks what failed as `judged` says.
///
/// # Errors
/// A run could not be made.
pub async fn shrink<L: Laboratories>(
    bench: &mut Bench<'_, L>,
    failed: &Experiment,
    judged: &Judged,
    how: &Shrink,
) -> io::Result<Shrunk> {
    let mut shrinker = Shrinker { bench, how, like: judged.clone(), runs: 0 };
    let mut best = failed.clone();
    // What a smaller schedule was aimed at is no longer a question, unless that is what failed.
    let about_aim = matches!(judged.violated, Some(Oracle::Happened | Oracle::Ends | Oracle::Blame));
    if !about_aim && best.kind != Kind::None {
        let free = Experiment { kind: Kind::Mixed, aimed: Vec::new(), ..best.clone() };
        shrinker.take(&mut best, free).await?;
    }
    let without = Experiment { rules: Vec::new(), kind: Kind::None, aimed: Vec::new(), ..best.clone() };
    let without_faults = best.rules.is_empty() || shrinker.take(&mut best, without).await?;
    shrinker.operations(&mut best).await?;
    if best.argument.clients > 1 {
        let mut alone = best.clone();
        alone.argument.clients = 1;
        shrinker.take(&mut best, alone).await?;
    }
    shrinker.rules(&mut best).await?;
    shrinker.inside_rules(&mut best).await?;
    let (mut again, mut last) = (0_u32, judged.clone());
    for _ in 0..how.replays {
        let Done { judged, .. } = shrinker.bench.run(&best).await?;
        shrinker.runs = shrinker.runs.saturating_add(1);
        if judged.is_like(&shrinker.like) {
            again = again.saturating_add(1);
            last = judged;
        }
    }
    Ok(Shrunk {
        experiment: best,
        judged: last,
        failed: again,
        replays: how.replays,
        without_faults,
        runs: shrinker.runs,
    })
}

impl<L: Laboratories> Shrinker<'_, '_, L> {
    /// Takes `candidate` for the best one if it fails in the same way.
    async fn take(&mut self, best: &mut Experiment, candidate: Experiment) -> io::Result<bool> {
        if candidate == *best {
            return Ok(false);
        }
        for _ in 0..self.how.times.max(1) {
            if self.runs >= self.how.budget {
                return Ok(false);
            }
            self.runs = self.runs.saturating_add(1);
            if self.bench.run(&candidate).await?.judged.is_like(&self.like) {
                *best = candidate;
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn operations(&mut self, best: &mut Experiment) -> io::Result<()> {
        // One request instead of all eight: of which, the rules may say.
        if best.workload.name == "requests" {
            for operation in OPERATIONS.map(fs::operation_name) {
                let named = |rule: &String| rule.split_ascii_whitespace().next() == Some(operation);
                if best.rules.is_empty() || best.rules.iter().any(named) {
                    let mut alone = best.clone();
                    if let Some(workload) = workload::named(operation) {
                        alone.workload = workload;
                        alone.argument.workload = workload.number;
                    }
                    // Requests have other numbers there.
                    alone.rules = best.rules.iter().map(|rule| without_requests(rule)).collect();
                    if self.take(best, alone).await? {
                        break;
                    }
                }
            }
        }
        // One part of the mixture instead of all.
        if best.workload.name == "mix" {
            for part in ["requests", "fsx", "names", "pipes", "crowd"].into_iter().filter_map(workload::named)
            {
                let mut alone = best.clone();
                alone.workload = part;
                alone.argument.workload = part.number;
                if part.is_seeded && alone.argument.operations == 0 {
                    alone.argument.operations = MIX;
                }
                if self.take(best, alone).await? {
                    break;
                }
            }
        }
        if !best.workload.is_seeded {
            return Ok(());
        }
        let mut count = 1_u16;
        while count < 1024 && (best.argument.operations == 0 || count < best.argument.operations) {
            let mut fewer = best.clone();
            fewer.argument.operations = count;
            if self.take(best, fewer).await? {
                break;
            }
            count = count.saturating_mul(2);
        }
        Ok(())
    }

    /// Leaves out rules: halves first, then smaller parts (Zeller's ddmin, which for a few rules is leaving out each).
    async fn rules(&mut self, best: &mut Experiment) -> io::Result<()> {
        let mut part = best.rules.len().div_ceil(2);
        while part > 0 && best.rules.len() > 1 {
            let mut at = 0;
            while at < best.rules.len() && best.rules.len() > 1 {
                let mut fewer = best.clone();
                let end = at.saturating_add(part).min(fewer.rules.len());
                fewer.rules.drain(at..end);
                if !self.take(best, fewer).await? {
                    at = end;
                }
            }
            part /= 2;
        }
        Ok(())
    }

    async fn inside_rules(&mut self, best: &mut Experiment) -> io::Result<()> {
        for at in 0..best.rules.len() {
            'again: while let Some(Ok(rule)) = best.rules.get(at).map(|rule| parse_rule(rule)) {
                for smaller in smaller(&rule) {
                    let mut candidate = best.clone();
                    if let Some(place) = candidate.rules.get_mut(at) {
                        *place = smaller.to_string();
                    }
                    if self.take(best, candidate).await? {
                        continue 'again;
                    }
                }
                break;
            }
        }
        Ok(())
    }
}

fn without_requests(rule: &str) -> String {
    match parse_rule(rule) {
        Ok(Rule::Site(mut rule)) => {
            rule.requests = None;
            Rule::Site(rule).to_string()
        }
        _ => rule.to_owned(),
    }
}

/// Rules that are a little smaller, the smallest first. There are finitely many below each.
fn smaller(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    match rule {
        Rule::Guest => {}
        Rule::Site(rule) => {
            let pages = rule.pages.iter().flatten().map(|page| vec![*page]);
            if rule.pages.as_ref().is_some_and(|pages| pages.len() > 1) {
                all.extend(pages.map(|pages| {
                    let mut rule = rule.clone();
                    rule.pages = Some(pages);
                    Rule::Site(rule)
                }));
            }
            all.extend(gentler(rule.action).into_iter().map(|action| {
                let mut rule = rule.clone();
                rule.action = action;
                Rule::Site(rule)
            }));
            if let Some(mut share) = rule.share.filter(|share| share.0 > 1) {
                share.0 /= 2;
                let mut rule = rule.clone();
                rule.share = Some(share);
                all.push(Rule::Site(rule));
            }
        }
        Rule::Memory(rule) => {
            all.extend(gentler(rule.action).into_iter().map(|action| {
                let mut rule = rule.clone();
                rule.action = action;
                Rule::Memory(rule)
            }));
            if let Some(mut share) = rule.share.filter(|share| share.0 > 1) {
                share.0 /= 2;
                let mut rule = rule.clone();
                rule.share = Some(share);
                all.push(Rule::Memory(rule));
            }
        }
        Rule::Disk(rule) => {
            if let DiskAction::Delay(time) = rule.action
                && let Some(time) = half(time)
            {
                let mut rule = rule.clone();
                rule.action = DiskAction::Delay(time);
                all.push(Rule::Disk(rule));
            }
            if let Some(mut share) = rule.share.filter(|share| share.0 > 1) {
                share.0 /= 2;
                let mut rule = rule.clone();
                rule.share = Some(share);
                all.push(Rule::Disk(rule));
            }
        }
    }
    all
}

/// A fault that passes, or comes sooner.
fn gentler(action: Action) -> Option<Action> {
    match action {
        Action::Reflect(Times::Count(1)) | Action::Poison => None,
        Action::Reflect(_) => Some(Action::Reflect(Times::Count(1))),
        Action::Delay(Delay::For(time)) => half(time).map(|time| Action::Delay(Delay::For(time))),
        Action::Delay(Delay::Until(_)) => None,
    }
}

/// Half of a time, down to a microsecond.
fn half(time: Duration) -> Option<Duration> {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX) / 2;
    (micros > 0).then(|| Duration::from_micros(micros))
}
