//! Pages of a class that only the guest kernel can name, and what may become of a touch of a page of each class.
//!
//! The kernel names pages of its tables of grants and of asynchronous messages at the doorbell (`docs/fault-abi.md`, section 9); what a
//! processor's registers lead to, the image and the rings of devices are found without it ([`super::classes`]). The one thing to
//! hold in mind: a page is of one class at a time, what the guest says is bounded and may be a lie, and the worst a lie does is
//! that one of its own pages is away from it.

use refault_abi::doorbell::class;

use crate::layout::PAGE_SIZE;

use super::book::{Cause, State, Wish};
use super::draw::draw;
use super::injector::Injector;
use super::physical::MEMORY;
use super::rule::{MemoryRule, PageClass, Span};

/// Pages that one guest can have named at once: as many as can be away.
const NAMED_LIMIT: usize = 16_384;

impl PageClass {
    /// The class with this number at the doorbell: `Some(None)` for none any more, `None` for a number that is no class.
    pub fn from_doorbell(number: u64) -> Option<Option<Self>> {
        match number {
            class::NONE => Some(None),
            class::GRANT_TABLE => Some(Some(PageClass::GrantTables)),
            class::MESSAGE => Some(Some(PageClass::Messages)),
            _ => None,
        }
    }

    /// Whether the guest can be told of a touch of such a page by an exception. Not of what it needs to take one: its code, its own
    /// data and stacks, and its descriptor tables. Those are let through, at once or later.
    pub fn is_tellable(self) -> bool {
        !matches!(self, PageClass::Kernel | PageClass::Descriptors)
    }
}

impl Injector {
    /// The guest says that the page at `gpa` is of a class, or of none any more. A page that is away for a rule that does not
    /// mean its class comes back; rules that have taken effect and mean it, do so now.
    pub fn name_page(&self, gpa: u64, class: Option<PageClass>) {
        let page = gpa & !(PAGE_SIZE - 1);
        let mut state = self.lock();
        let named = &mut state.registered.named;
        let before = match class {
            Some(_) if named.len() >= NAMED_LIMIT && !named.contains_key(&page) => return,
            Some(class) => named.insert(page, class),
            None => named.remove(&page),
        };
        if before == class {
            return;
        }
        let is_other = |filter: &super::book::Filter| filter.class != class;
        let wrong = |cause: &Cause| matches!(cause, Cause::Memory(filter) if is_other(filter));
        if state.away.get(&page).is_some_and(|arming| wrong(&arming.cause)) {
            self.disarm(&mut state, page);
        }
        if class.is_some() {
            self.arm_named(&mut state, page, class);
        }
    }

    /// Takes a page away that has just been named, if a rule that has taken effect wants it.
    fn arm_named(&self, state: &mut State, page: u64, class: Option<PageClass>) {
        for index in 0..state.memory.len() {
            let Some(physical) = state.memory.get(index).filter(|physical| !physical.waits()) else {
                continue;
            };
            if physical.rule.class != class || !means(&physical.rule, page, index as u64, state.seed) {
                continue;
            }
            let (action, cause) = (physical.rule.action, Cause::Memory(physical.filter.clone()));
            let armed = self.arm(state, page, cause, action, Wish::of(action));
            state.counters.memory_refused += u64::from(!armed);
            return;
        }
    }
}

/// Whether a rule means this page by its address and its share. `every` counts pages of a range that is there from the beginning,
/// so a rule that has it means none of the pages that are named one by one.
fn means(rule: &MemoryRule, page: u64, index: u64, seed: u64) -> bool {
    let inside = |span: &Span| span.first / PAGE_SIZE * PAGE_SIZE <= page && page <= span.last;
    rule.every.is_none()
        && rule.ranges.as_ref().is_none_or(|ranges| ranges.iter().any(inside))
        && rule.share.is_none_or(|share| share.takes(draw(seed, &[MEMORY, index, page])))
}

#[cfg(test)]
#[path = "class_tests.rs"]
mod tests;
