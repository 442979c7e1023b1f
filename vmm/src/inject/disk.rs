//! Rules of disks, as the plan that a disk carries out.
//!
//! Pure: request in, fault out. The first rule that wants a request decides. The one thing to hold in mind: `nth` counts the requests
//! that match everything else of its rule, and a share is drawn for the request's number, so that the same requests in the same
//! order always meet the same faults.

use refault_devices::virtio::blk::engine::Op;
use refault_devices::virtio::blk::faults::{DiskFault, FaultPlan, RequestSeen};

use super::draw::draw;
use super::rule::{DiskAction, DiskOp, DiskRule, Rule};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Sets the draws of disks apart from those of memory.
const DISK: u64 = 0x6469_736b;

/// What the rules want of one disk.
#[derive(Debug, Clone)]
pub struct DiskPlan {
    seed: u64,
    disk: u32,
    rules: Vec<Counted>,
}

/// A rule and how many requests it has matched.
#[derive(Debug, Clone)]
struct Counted {
    rule: DiskRule,
    matched: u64,
}

impl DiskPlan {
    /// What `rules` want of the disk with this number, from 0; `None` if nothing.
    pub fn new(rules: &[Rule], disk: u32, seed: u64) -> Option<Self> {
        let rules: Vec<Counted> = rules
            .iter()
            .filter_map(|rule| match rule {
                Rule::Disk(rule) if rule.disk.is_none_or(|wanted| wanted == disk) => {
                    Some(Counted { rule: rule.clone(), matched: 0 })
                }
                _ => None,
            })
            .collect();
        (!rules.is_empty()).then_some(Self { seed, disk, rules })
    }
}

impl FaultPlan for DiskPlan {
    fn decide(&mut self, request: &RequestSeen) -> Option<DiskFault> {
        let mut decided = None;
        // All of them see each request: the count of one does not depend on what another did.
        for (index, Counted { rule, matched }) in self.rules.iter_mut().enumerate() {
            if !matches(rule, request) {
                continue;
            }
            *matched = matched.saturating_add(1);
            let wanted = rule.nth.as_ref().is_none_or(|nth| nth.contains(matched));
            let what = [DISK, u64::from(self.disk), index as u64, request.number];
            let drawn = rule.share.is_none_or(|share| share.takes(draw(self.seed, &what)));
            if wanted && drawn && decided.is_none() {
                decided = Some(fault(rule.action));
            }
        }
        decided
    }
}

fn fault(action: DiskAction) -> DiskFault {
    match action {
        DiskAction::Error => DiskFault::Error,
        DiskAction::Delay(time) => DiskFault::Delay(time),
        DiskAction::Torn(sectors) => DiskFault::Torn { sectors },
        DiskAction::Short(sectors) => DiskFault::Short { sectors },
    }
}

fn matches(rule: &DiskRule, request: &RequestSeen) -> bool {
    let op = match request.op {
        Op::Read => DiskOp::Read,
        Op::Write { .. } => DiskOp::Write,
        Op::Flush => DiskOp::Flush,
    };
    rule.op.is_none_or(|wanted| wanted == op)
        && rule.sectors.as_ref().is_none_or(|sectors| {
            let first = request.offset / SECTOR;
            // A flush is about no sector.
            let last = request.bytes.checked_sub(1).map(|more| request.offset.saturating_add(more) / SECTOR);
            last.is_some_and(|last| sectors.iter().any(|span| span.first <= last && first <= span.last))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::parse_rule;
    use std::time::Duration;

    fn plan(rules: &[&str]) -> Option<DiskPlan> {
        let rules: Vec<Rule> = rules.iter().map(|text| parse_rule(text).unwrap()).collect();
        DiskPlan::new(&rules, 0, 7)
    }

    /// What becomes of requests of one operation, the n-th one at sector 8 (n - 1), 8 sectors each.
    fn decided(plan: &mut DiskPlan, op: Op, count: u64) -> Vec<Option<DiskFault>> {
        (1..=count)
            .map(|number| plan.decide(&RequestSeen { op, offset: (number - 1) * 4096, bytes: 4096, number }))
            .collect()
    }

    const WRITE: Op = Op::Write { durable: false };

    #[test]
    fn a_disk_that_no_rule_names_has_no_plan() {
        assert!(plan(&["read: reflect", "guest: allow", "disk n=1 : error"]).is_none());
        assert!(plan(&["disk n=0 : error"]).is_some());
    }

    #[test]
    fn the_nth_request_that_matches_is_meant() {
        let mut p = plan(&["disk op=write nth=2: error"]).unwrap();
        assert_eq!(decided(&mut p, Op::Read, 3), [None; 3]);
        assert_eq!(decided(&mut p, WRITE, 3), [None, Some(DiskFault::Error), None]);
    }

    #[test]
    fn sectors_are_those_that_a_request_touches() {
        let mut p = plan(&["disk sector=15-16,100: torn=3"]).unwrap();
        let torn = Some(DiskFault::Torn { sectors: 3 });
        assert_eq!(decided(&mut p, WRITE, 4), [None, torn, torn, None]);
        assert_eq!(p.decide(&RequestSeen { op: Op::Flush, offset: 0, bytes: 0, number: 9 }), None);
        let end = RequestSeen { op: WRITE, offset: u64::MAX, bytes: u64::MAX, number: 10 };
        assert_eq!(p.decide(&end), None);
    }

    #[test]
    fn the_first_rule_decides_and_the_others_count_on() {
        let mut p = plan(&["disk nth=1: delay=2ms", "disk nth=1,2: short=1"]).unwrap();
        let late = Some(DiskFault::Delay(Duration::from_millis(2)));
        assert_eq!(decided(&mut p, Op::Read, 3), [late, Some(DiskFault::Short { sectors: 1 }), None]);
    }

    #[test]
    fn a_share_is_drawn_from_the_seed() {
        let rules = [parse_rule("disk share=50%: error").unwrap()];
        let run = |seed| decided(&mut DiskPlan::new(&rules, 0, seed).unwrap(), WRITE, 64);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let hit = run(1).iter().flatten().count();
        assert!((16..48).contains(&hit), "{hit}");
    }
}
