//! Rules of physical addresses: which pages they mean, and taking those away, for any guest.
//!
//! The one thing to hold in mind: all of it happens once for each rule, when it takes effect: when the machine starts or is put
//! back to its ready mark, or when the guest registers its trap records, where the rule needs them. A vCPU thread does it, before
//! it runs the guest, because only it can say where the guest's tables are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::book::{Cause, Filter, Wish};
use super::draw::draw;
use super::injector::Injector;
use super::rule::{Action, MemoryRule, PageClass, Rule, Span};

/// Sets the draws of memory apart from those of sites.
pub(super) const MEMORY: u64 = 0x6d65_6d00;

/// What a machine has beside memory, as far as rules need it.
pub struct Surroundings {
    /// Where the kernel was loaded.
    pub kernel: Vec<Span>,
    /// Where the rings of its virtio devices are now.
    pub rings: Box<dyn Fn() -> Vec<Span> + Send + Sync>,
    /// How many answers its disks have given.
    pub answers: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("kernel", &self.kernel).finish_non_exhaustive()
    }
}

impl Surroundings {
    pub(super) fn disk_answers(&self) -> u64 {
        (self.answers)()
    }
}

/// A rule, and whether it has taken effect.
#[derive(Debug)]
pub(super) struct Physical {
    pub rule: MemoryRule,
    pub filter: Arc<Filter>,
    done: bool,
}

impl Physical {
    /// Those among `rules`.
    pub fn all(rules: &[Rule]) -> Vec<Self> {
        let memory = rules.iter().filter_map(|rule| match rule {
            Rule::Memory(rule) => Some(rule.clone()),
            _ => None,
        });
        let with_filter = |rule: MemoryRule| {
            let filter =
                Arc::new(Filter { class: rule.class, access: rule.access, vcpus: rule.vcpus.clone() });
            Self { rule, filter, done: false }
        };
        memory.map(with_filter).collect()
    }

    /// Whether it waits to take effect.
    pub fn waits(&self) -> bool {
        !self.done
    }

    /// Whether the guest has to have trap records for it.
    fn needs_records(&self) -> bool {
        !matches!(self.rule.action, Action::Delay(_))
    }
}

impl Injector {
    /// Whether rules of physical addresses wait to take effect: then [`Injector::arm_memory`] before the guest runs on.
    pub fn is_pending(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Lets the rules of physical addresses take effect that can. `tables` are the pages that the processor's tables are in.
    pub fn arm_memory(&self, mut tables: BTreeMap<u64, PageClass>) {
        if !self.pending.swap(false, SeqCst) {
            return;
        }
        // The rings are asked for outside the lock: a disk's lock is taken for it.
        if let Some(around) = self.surroundings.get() {
            for page in pages_of(&around.kernel) {
                // What is found by the registers in the kernel's image is what it is.
                tables.entry(page).or_insert(PageClass::Kernel);
            }
            tables.extend(pages_of(&(around.rings)()).map(|page| (page, PageClass::Virtqueues)));
        }
        let mut state = self.lock();
        for (page, class) in &state.registered.named {
            tables.entry(*page).or_insert(*class);
        }
        let have_records = state.registered.records.is_some();
        let seed = state.seed;
        for index in 0..state.memory.len() {
            let Some(physical) = state.memory.get_mut(index) else { break };
            if physical.done || physical.needs_records() && !have_records {
                continue;
            }
            physical.done = true;
            let (rule, filter) = (physical.rule.clone(), physical.filter.clone());
            for page in pages(&rule, &self.ram, &tables, index as u64, seed) {
                let cause = Cause::Memory(filter.clone());
                let armed = self.arm(&mut state, page, cause, rule.action, Wish::of(rule.action));
                state.counters.memory_refused += u64::from(!armed);
            }
        }
    }
}

/// The pages that a rule means.
fn pages(
    rule: &MemoryRule,
    ram: &GuestRam,
    classes: &BTreeMap<u64, PageClass>,
    index: u64,
    seed: u64,
) -> Vec<u64> {
    let all: Vec<Span> =
        ram.pieces().iter().map(|p| Span { first: p.gpa, last: p.gpa + (p.len - 1) }).collect();
    let wanted = rule.ranges.as_deref().unwrap_or(&all);
    let every = usize::try_from(rule.every.unwrap_or(1)).unwrap_or(usize::MAX).max(1);
    let mut found = Vec::new();
    for range in wanted {
        let clipped: Vec<Span> = all
            .iter()
            .map(|ram| Span { first: range.first.max(ram.first), last: range.last.min(ram.last) })
            .filter(|span| span.first <= span.last)
            .collect();
        found.extend(
            pages_of(&clipped)
                .step_by(every)
                .filter(|page| rule.share.is_none_or(|s| s.takes(draw(seed, &[MEMORY, index, *page]))))
                .filter(|page| classes.get(page).copied() == rule.class),
        );
    }
    found
}

/// The pages that ranges of addresses touch.
fn pages_of(spans: &[Span]) -> impl Iterator<Item = u64> + '_ {
    spans
        .iter()
        .flat_map(|span| (span.first / PAGE_SIZE..=span.last / PAGE_SIZE).map(|number| number * PAGE_SIZE))
}

#[cfg(test)]
#[path = "physical_tests.rs"]
mod tests;
