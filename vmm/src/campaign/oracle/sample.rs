//! A run in which all is well, for oracles to be tried on: one page of a read faulted once, and the read was repeated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use refault_abi::counters::{Counter, WORDS};

use crate::campaign::baseline::Baseline;
use crate::campaign::experiment::{Experiment, Level, Site};
use crate::campaign::kind::Kind;
use crate::campaign::tree::{Entry, Inspected, Tree};
use crate::campaign::workload::{self, Argument};
use crate::inject::FaultCounters;
use crate::inject::injector::FaultEvent;
use crate::inject::matcher::SiteName;
use crate::inject::rule::{AccessKind, Side};
use crate::snapshot::Ran;
use crate::vm::End;

use super::{Evidence, Told};

/// The evidence, owned.
pub struct Sample {
    pub experiment: Experiment,
    pub ran: Ran,
    pub told: Told,
    pub baseline: Baseline,
    pub disk: Inspected,
}

pub fn site() -> Site {
    Site(SiteName {
        operation: refault_abi::fs::READ,
        request: 1,
        attempt: 1,
        copy: 2,
        page: 1,
        pages: 3,
        side: Side::Granter,
        access: AccessKind::Write,
    })
}

impl Sample {
    pub fn good() -> Self {
        let workload = workload::named("read").unwrap();
        let argument = Argument::of(workload, 1);
        let mut experiment = Experiment::fault_free(Level::One, workload, argument, "retry=hardened");
        experiment.kind = Kind::Once;
        experiment.aimed = vec![site()];
        let mut after = vec![0; WORDS];
        for (counter, value) in [
            (Counter::SoftFaultsSecondStage, 1),
            (Counter::MarksSet, 1),
            (Counter::VfsMarksSeen, 1),
            (Counter::VfsRepeats, 1),
            (Counter::VfsGrants, 2),
            (Counter::VfsRevokes, 2),
            // The last call of a program, which never returns.
            (Counter::VfsCalls, 3),
            (Counter::VfsAnswers, 2),
        ] {
            after[counter as usize] = value;
        }
        let fault = fault_at(1, &site());
        let entry = Entry { kind: 'f', size: 3, links: 1, fnv: 0xe71f_a219_0541_574b };
        let tree = Tree::of(BTreeMap::from([("/x".to_owned(), entry)]));
        let ran = Ran {
            end: End::Exited(0),
            counters: FaultCounters {
                sites: 4,
                armed: 1,
                trapped: 1,
                reflected: 1,
                asked_back: 1,
                ..Default::default()
            },
            faults: vec![fault],
            sites: Vec::new(),
            guest_before: Arc::from(vec![0; WORDS]),
            guest_after: after,
            reports: Vec::new(),
            events: Vec::new(),
            console: String::new(),
            disks: Vec::new(),
            disk_faults: 0,
            unfinished: Vec::new(),
            restore: Duration::from_micros(300),
            took: Duration::from_millis(5),
        };
        let baseline = Baseline {
            sites: vec![site()],
            cases: vec![("read".into(), true)],
            tree: tree.clone(),
            grants: Some(0),
            calls: Some(1),
        };
        let told = Told::read(&told_with(&[]));
        Self { experiment, ran, told, baseline, disk: Inspected { sound: None, tree: Ok(tree) } }
    }

    /// With what one case says. The case `read` is the one there is.
    pub fn with_case(mut self, name: &str, ok: bool, verdict: Option<&str>) -> Self {
        self.told = Told::read(&told_with(&[(name, ok, verdict)]));
        self
    }

    pub fn evidence(&self) -> Evidence<'_> {
        Evidence {
            experiment: &self.experiment,
            ran: &self.ran,
            told: &self.told,
            baseline: Some(&self.baseline),
            disk: Some(&self.disk),
        }
    }
}

/// A fault of a copy that was reflected at `site`.
pub fn fault_at(sequence: u64, site: &SiteName) -> FaultEvent {
    FaultEvent {
        sequence,
        gpa: 0x20_0000,
        gva: 0x40_0000,
        rip: 0x1000,
        write: site.access == AccessKind::Write,
        operation: site.operation,
        request: site.request,
        attempt: site.attempt,
        copy: site.copy,
        page: site.page,
        side: Some(site.side),
        ..FaultEvent::default()
    }
}

fn told_with(more: &[(&str, bool, Option<&str>)]) -> Vec<String> {
    let mut cases = vec![("read", true, None)];
    for case in more {
        cases.retain(|(name, ..)| *name != case.0);
        cases.push(*case);
    }
    let mut lines: Vec<String> = cases
        .iter()
        .map(|(name, ok, verdict)| {
            let verdict = verdict.map(|word| format!(",\"verdict\":\"{word}\"")).unwrap_or_default();
            format!("@case {{\"name\":\"{name}\",\"ok\":{ok}{verdict}}}")
        })
        .collect();
    lines.push("@file {\"path\":\"/x\",\"bytes\":3,\"fnv\":\"e71fa2190541574b\"}".into());
    lines.push(format!("@end {{\"cases\":{},\"skipped\":0}}", cases.len()));
    lines
}
