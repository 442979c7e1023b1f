//! A guest that is not there: a model of VFS's retry over a file system that answers partial counts, for the engine to be tried on.
//!
//! It passes sites through the real matcher, follows the real policies (`retry=efault` and `retry=hardened`), counts as the guest
//! does, and can have a mistake. It knows nothing of kinds, levels or oracles.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use refault_abi::counters::{Counter, WORDS};
use refault_abi::doorbell::Site as AbiSite;
use refault_abi::fs;
use refault_abi::grant::Tag;
use refault_abi::options::{Options, Retry};
use zerocopy::FromZeros as _;

use crate::inject::FaultCounters;
use crate::inject::injector::FaultEvent;
use crate::inject::matcher::{Matcher, Numbering, SiteName};
use crate::inject::rule::{Action, OPERATIONS, Side};
use crate::snapshot::{Ran, Run};
use crate::vm::End;

use super::lab::{Laboratories, Laboratory};
use super::workload::Argument;

/// A mistake of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A grant stays after each repeat of a WRITE.
    Leak,
    /// A fault that lasts is cured for ever.
    NoBound,
    /// Whoever faulted, the lender is blamed.
    Blame,
    /// The bytes of a repeated STAT are wrong.
    Bytes,
    /// Bytes of every READ are wrong, fault or not.
    Always,
    /// The second fault of one operation's repeat gets out as a short count.
    SecondFault,
}

/// Opens models.
#[derive(Default)]
pub struct Model {
    pub mistake: Option<Mistake>,
    pub opened: Cell<u32>,
    pub runs: std::rc::Rc<Cell<u32>>,
    /// After so many runs the host fails.
    pub fails_after: Option<u32>,
}

impl Model {
    pub fn with(mistake: Mistake) -> Self {
        Self { mistake: Some(mistake), ..Self::default() }
    }
}

pub struct Mock {
    retry: Retry,
    mistake: Option<Mistake>,
    runs: std::rc::Rc<Cell<u32>>,
    fails_after: Option<u32>,
}

impl Laboratories for Model {
    type Lab = Mock;

    async fn open(&self, words: &str) -> io::Result<Mock> {
        self.opened.set(self.opened.get() + 1);
        let retry = Options::parse(words).map_err(|bad| io::Error::other(bad.expected))?.retry;
        Ok(Mock { retry, mistake: self.mistake, runs: self.runs.clone(), fails_after: self.fails_after })
    }
}

impl Laboratory for Mock {
    async fn run(&mut self, run: Run) -> io::Result<Ran> {
        // As with a real machine, others get their turn in the middle.
        tokio::task::yield_now().await;
        self.runs.set(self.runs.get() + 1);
        if self.fails_after.is_some_and(|limit| self.runs.get() > limit) {
            return Err(io::Error::other("the host failed"));
        }
        Ok(Machine::new(self.retry, self.mistake, &run).run(Argument::unpack(run.argument)))
    }

    fn mechanism(&self) -> String {
        "model".into()
    }
}

/// What a copy met.
enum Met {
    Fault(Side),
    Nothing,
}

struct Machine {
    retry: Retry,
    mistake: Option<Mistake>,
    matcher: Matcher,
    log_sites: bool,
    counters: FaultCounters,
    guest: Vec<u64>,
    faults: Vec<FaultEvent>,
    sites: Vec<SiteName>,
    reports: Vec<String>,
    copies: u64,
    wedged: bool,
}

/// Pages of a request.
const PAGES: u32 = 2;
/// As VFS has it.
const PER_PAGE: u64 = 8;

impl Machine {
    fn new(retry: Retry, mistake: Option<Mistake>, run: &Run) -> Self {
        Self {
            retry,
            mistake,
            matcher: Matcher::new(&run.rules, Numbering::Seen, 1),
            log_sites: run.log_sites,
            counters: FaultCounters::default(),
            guest: vec![0; WORDS],
            faults: Vec::new(),
            sites: Vec::new(),
            reports: Vec::new(),
            copies: 0,
            wedged: false,
        }
    }

    fn count(&mut self, counter: Counter) {
        self.guest[counter as usize] += 1;
    }

    fn run(mut self, argument: Argument) -> Ran {
        let operations: Vec<u16> = match argument.workload {
            0 => OPERATIONS.to_vec(),
            n => OPERATIONS.get(usize::from(n) - 1).copied().into_iter().collect(),
        };
        let mut number = 1000;
        for &operation in &operations {
            number += 1;
            self.count(Counter::VfsCalls);
            self.operation(operation, number);
            self.count(Counter::VfsAnswers);
        }
        self.reports.push(format!("@end {{\"cases\":{},\"skipped\":0}}", operations.len()));
        let end = match self.wedged {
            true => End::Wedged(vec!["wait-for: vfs -> vm (handlemem)".into()]),
            false => End::Exited(0),
        };
        Ran {
            end,
            counters: self.counters,
            faults: self.faults,
            sites: self.sites,
            guest_before: Arc::from(vec![0; WORDS]),
            guest_after: self.guest,
            reports: self.reports,
            events: Vec::new(),
            console: String::new(),
            disks: Vec::new(),
            disk_faults: 0,
            unfinished: Vec::new(),
            restore: Duration::from_micros(1),
            took: Duration::from_micros(1),
        }
    }

    fn case(&mut self, operation: u16, ok: bool, verdict: Option<&str>) {
        let name = fs::operation_name(operation);
        let verdict = verdict.map(|word| format!(",\"verdict\":\"{word}\"")).unwrap_or_default();
        self.reports.push(format!("@case {{\"name\":\"{name}\",\"ok\":{ok}{verdict}}}"));
    }

    fn operation(&mut self, operation: u16, number: u32) {
        let (mut attempt, mut spent) = (1_u16, 0_u64);
        let mut pages_spent = std::collections::HashMap::new();
        let has = |mistake| self.mistake == Some(mistake);
        let (leaks, bound, second) = (has(Mistake::Leak), !has(Mistake::NoBound), has(Mistake::SecondFault));
        let (wrong_bytes, always) = (has(Mistake::Bytes), has(Mistake::Always));
        loop {
            self.count(Counter::VfsGrants);
            let (pages, met) = self.attempt(operation, number, attempt);
            self.count(Counter::VfsRevokes);
            let Met::Fault(side) = met else {
                let wrong =
                    wrong_bytes && operation == fs::STAT && attempt > 1 || always && operation == fs::READ;
                return self.case(operation, !wrong, wrong.then_some("CORRUPT"));
            };
            self.count(Counter::VfsMarksSeen);
            // A partial count hides the fault from who looks for EFAULT only; so does the mistake, in a repeat.
            if self.retry == Retry::Efault && pages > 0 || second && attempt == 2 && operation == fs::READ {
                return self.case(operation, false, Some("SHORT"));
            }
            spent += 1;
            let of_page: &mut u64 = pages_spent.entry((side, pages)).or_default();
            *of_page += 1;
            if bound && *of_page > PER_PAGE {
                return self.case(operation, true, Some("REJECTED"));
            }
            if spent > 10 * PER_PAGE {
                self.wedged = true;
                return;
            }
            self.count(Counter::VfsRepeats);
            if leaks && operation == fs::WRITE {
                self.count(Counter::VfsGrants);
            }
            attempt += 1;
        }
    }

    /// Copies page after page; the pages done, and what stopped it.
    fn attempt(&mut self, operation: u16, number: u32, attempt: u16) -> (u32, Met) {
        let gives = !matches!(operation, fs::WRITE | fs::BWRITE | fs::SLINK);
        for page in 0..PAGES {
            self.copies += 1;
            for side in [Side::Grantee, Side::Granter] {
                let mut site = AbiSite::new_zeroed();
                site.tag = Tag::new(operation, attempt, number).0;
                site.copy = self.copies;
                (site.page, site.pages) = (page, PAGES);
                site.side = u32::from(side == Side::Grantee);
                site.access = u32::from(gives == (side == Side::Granter));
                if self.touch(&site, side) {
                    return (page, Met::Fault(side));
                }
            }
        }
        (PAGES, Met::Nothing)
    }

    /// Whether touching the page of a site was a fault.
    fn touch(&mut self, site: &AbiSite, side: Side) -> bool {
        self.matcher.pass(1);
        let name = self.matcher.name(site);
        if self.log_sites {
            self.sites.push(name);
        }
        let Some(action) = self.matcher.decide(&name, 0) else { return false };
        self.counters.armed += 1;
        self.counters.trapped += 1;
        let Action::Reflect(_) = action else {
            // Late, and the guest does not know.
            self.counters.resolved += 1;
            return false;
        };
        self.counters.reflected += 1;
        self.counters.asked_back += 1;
        self.count(Counter::SoftFaultsSecondStage);
        self.count(Counter::MarksSet);
        if side == Side::Grantee && self.mistake != Some(Mistake::Blame) {
            self.count(Counter::MarksGrantee);
        }
        let sequence = self.counters.reflected;
        self.faults.push(super::oracle::sample::fault_at(sequence, &name));
        true
    }
}
