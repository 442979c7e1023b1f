//! The injector: what the doorbell, the processors and a session call.
//!
//! The doorbell brings the guest's side (sites, pages asked back, where its trap records are), vCPU threads bring
//! touches, the mechanism does the work. One lock around all of it: every entry is a vCPU exit, and a machine that
//! injects does not do so millions of times a second.
//!
//! | where | idea |
//! |---|---|
//! | here | beginning and end, what the guest registers, sites, pages asked for |
//! | [`super::book`] | pages that are away |
//! | [`super::decide`] | a touch, and what becomes of it |
//! | [`super::physical`] | pages that go away by their address |
//!
//! The one thing to hold in mind: everything the guest says is read once and may be a lie. The worst a lying guest
//! gets is its own page taken away from itself.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use refault_abi::doorbell::{SITE_PROCESSORS, Site, SitePage, TIMES_POISON};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::FromBytes;

use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::book::{Cause, Kept, ONCE, State, Wish};
use super::counters::FaultCounters;
use super::matcher::{Matcher, Numbering, SiteName};
use super::mechanism::{Mechanism, Notice, TrapPage};
use super::physical::{Physical, Surroundings};
use super::rule::{Action, Rule, Times};

pub use super::book::Registered;
pub use super::decide::{Decision, Held};
pub use super::trap::FaultEvent;

/// Sites that are named one by one; further ones are only counted.
const SITES_LIMIT: usize = 1 << 20;

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Injector {
    pub(super) ram: Arc<GuestRam>,
    pub(super) mechanism: Box<dyn Mechanism>,
    /// A way that stops writes only, for the rules that want that.
    pub(super) writes: Option<Box<dyn Mechanism>>,
    pub(super) processors: u8,
    pub(super) surroundings: OnceLock<Surroundings>,
    /// Whether rules of physical addresses wait to take effect.
    pub(super) pending: AtomicBool,
    pub(super) state: Mutex<State>,
    /// Wakes those who hold a touch up: something that they may wait for has happened, or the machine is to stop.
    pub(super) something_happened: Condvar,
}

impl Injector {
    /// An injector with nothing armed.
    pub fn new(
        ram: Arc<GuestRam>,
        mechanism: Box<dyn Mechanism>,
        processors: u8,
        rules: &[Rule],
        seed: u64,
    ) -> Self {
        let memory = Physical::all(rules);
        let pending = AtomicBool::new(!memory.is_empty());
        let matcher = Matcher::new(rules, Numbering::Lender, seed);
        let state = Mutex::new(State::new(matcher, memory, seed, Registered::default()));
        Self {
            ram,
            mechanism,
            writes: None,
            processors,
            surroundings: OnceLock::new(),
            pending,
            state,
            something_happened: Condvar::new(),
        }
    }

    /// With a second way, that stops writes only, for rules of physical addresses with `access=write`.
    pub fn with_writes_by(self, mechanism: Option<Box<dyn Mechanism>>) -> Self {
        Self { writes: mechanism, ..self }
    }

    /// Says what the machine has beside memory. The first time counts.
    pub fn set_surroundings(&self, surroundings: Surroundings) {
        let _ = self.surroundings.set(surroundings);
    }

    /// Name of the mechanism in use.
    pub fn mechanism(&self) -> &'static str {
        self.mechanism.name()
    }

    pub(super) fn way(&self, writes_only: bool) -> &dyn Mechanism {
        match &self.writes {
            Some(writes) if writes_only => writes.as_ref(),
            _ => self.mechanism.as_ref(),
        }
    }

    /// The guest says where its trap records are; `None` withdraws them. The caller has checked the address.
    pub fn set_records(&self, gpa: Option<u64>) {
        let mut state = self.lock();
        state.registered.records = gpa;
        self.keep(&mut state, Kept::Records, gpa);
        if gpa.is_some() && state.memory.iter().any(Physical::waits) {
            self.pending.store(true, SeqCst);
        }
    }

    /// The guest says where its site page is, and gets the first countdown.
    pub fn set_site_page(&self, gpa: Option<u64>) {
        let mut state = self.lock();
        state.registered.site_page = gpa;
        self.keep(&mut state, Kept::Sites, gpa);
        self.set_countdown(&mut state);
    }

    /// A page registered at the doorbell, which never goes away.
    pub fn keep_page(&self, which: u64, gpa: Option<u64>) {
        self.keep(&mut self.lock(), Kept::Other(which), gpa);
    }

    /// The base of the guest kernel's linear map.
    pub fn set_direct_map(&self, base: u64) {
        self.lock().registered.direct_map = (base != 0).then_some(base);
    }

    /// The base of the guest kernel's linear map, if the guest told it.
    pub fn direct_map(&self) -> Option<u64> {
        self.lock().registered.direct_map
    }

    /// The guest is about to touch the page its descriptor names.
    pub fn site(&self, processor: u32) {
        let mut state = self.lock();
        if let Some(site) = self.read_site(&state, processor) {
            state.counters.sites += 1;
            // What the guest has counted down by itself, this one included.
            let passed = state.countdown.max(1);
            state.matcher.pass(passed);
            let name = state.matcher.name(&site);
            if let Some(sites) = state.sites.as_mut().filter(|sites| sites.len() < SITES_LIMIT) {
                sites.push(name);
            }
            if let Some(action) = state.matcher.decide(&name, processor) {
                let page = site.gpa & !(PAGE_SIZE - 1);
                let armed = self.arm(&mut state, page, Cause::Site(name), action, ONCE);
                state.counters.sites_refused += u64::from(!armed);
            }
            self.something_happened.notify_all();
        }
        self.set_countdown(&mut state);
    }

    /// Whether a rule lets the guest have pages of its own taken away.
    pub fn allows_guest(&self) -> bool {
        self.lock().matcher.allows_guest()
    }

    /// The guest wants a page of its own to be taken away and `times` accesses to it reflected, [`u32::MAX`] for all, or, for
    /// [`TIMES_POISON`], poisoned.
    /// Without a rule that allows it nothing happens.
    pub fn page_away(&self, gpa: u64, times: u32) {
        let page = gpa & !(PAGE_SIZE - 1);
        let (action, wish) = match times {
            TIMES_POISON => (Action::Poison, ONCE),
            _ => (Action::Reflect(Times::Count(1)), Wish::times(times)),
        };
        let mut state = self.lock();
        state.counters.guest_asked += 1;
        let fresh = state.matcher.allows_guest() && !state.away.contains_key(&page);
        let armed = fresh && self.arm(&mut state, page, Cause::Guest, action, wish);
        state.counters.guest_refused += u64::from(!armed);
    }

    /// The guest wants a page back.
    pub fn page_back(&self, gpa: u64) {
        let page = gpa & !(PAGE_SIZE - 1);
        let now = Instant::now();
        let mut state = self.lock();
        let Some(arming) = state.away.get(&page).cloned() else {
            state.counters.asked_back_idle += 1;
            return;
        };
        state.counters.asked_back += 1;
        let ns = state.nanoseconds(now);
        if let Some(line) =
            arming.logged.and_then(|at| state.log.get_mut(at)).filter(|line| line.back_ns == 0)
        {
            line.back_ns = ns;
        }
        match (arming.wish.is_over(), arming.touched) {
            // A poisoned page is gone for good, whether anybody has noticed or not.
            _ if arming.action == Action::Poison => {}
            (true, _) => self.disarm(&mut state, page),
            // What nobody has touched simply stays.
            (false, false) => {}
            // For the sums, this taking-away has had its trap, and another one begins.
            (false, true) => {
                state.counters.armed += 1;
                let number = state.counters.armed;
                if let Some(arming) = state.away.get_mut(&page) {
                    (arming.touched, arming.number) = (false, number);
                }
            }
        }
    }

    /// The page that a notice is about. `candidates` are the pages the stopped instruction uses, for mechanisms that
    /// do not know.
    pub fn trapped_page(&self, notice: Notice, candidates: &[u64]) -> Option<u64> {
        let ways = [Some(self.mechanism.as_ref()), self.writes.as_deref()];
        let told = ways.into_iter().flatten().map(|way| way.trapped(notice));
        match told.min_by_key(|told| match told {
            TrapPage::Known(_) => 0,
            TrapPage::Unknown => 1,
            TrapPage::NotMine => 2,
        })? {
            TrapPage::Known(page) => Some(page),
            TrapPage::Unknown => {
                let state = self.lock();
                let first = |is: &dyn Fn(&u64) -> bool| candidates.iter().copied().find(|page| is(page));
                // A page that another processor has just got back is no riddle either: the access is repeated.
                first(&|page| state.away.contains_key(page))
                    .or_else(|| first(&|page| state.was_away.contains(page)))
            }
            TrapPage::NotMine => None,
        }
    }

    /// Whether the page at `gpa` is away.
    pub fn is_away(&self, gpa: u64) -> bool {
        self.lock().away.contains_key(&(gpa & !(PAGE_SIZE - 1)))
    }

    /// Gives every page back and closes the book.
    pub fn finish(&self) -> (FaultCounters, Vec<FaultEvent>) {
        let mut state = self.lock();
        let away: Vec<u64> = state.away.keys().copied().collect();
        for page in away {
            self.disarm(&mut state, page);
        }
        (state.counters, state.log.clone())
    }

    /// What the guest has registered, for [`Injector::restart`].
    pub fn registered(&self) -> Registered {
        self.lock().registered.clone()
    }

    /// Begins anew for a machine that has been put back to where this was registered: nothing is away, nothing has been counted,
    /// and these rules hold, in which requests are numbered as they are seen, and shares are drawn from the seed. With `log_sites`
    /// every site is named.
    pub fn restart(&self, rules: &[Rule], registered: &Registered, log_sites: bool, seed: u64) {
        self.finish();
        let memory = Physical::all(rules);
        self.pending.store(!memory.is_empty(), SeqCst);
        let mut state = self.lock();
        let matcher = Matcher::new(rules, Numbering::Seen, seed);
        *state = State::new(matcher, memory, seed, registered.clone());
        state.sites = log_sites.then(Vec::new);
        self.set_countdown(&mut state);
    }

    /// The sites passed since [`Injector::restart`], if they were to be named.
    pub fn sites(&self) -> Vec<SiteName> {
        self.lock().sites.clone().unwrap_or_default()
    }

    /// The sums so far.
    pub fn counters(&self) -> FaultCounters {
        self.lock().counters
    }

    /// Ends all waiting, for whoever has just told the machine to stop.
    pub fn interrupt(&self) {
        // Under the lock: whoever has looked whether to stop and is about to wait would not hear it otherwise.
        let _state = self.lock();
        self.something_happened.notify_all();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and book are consistent at every point where a panic could have happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_site(&self, state: &State, processor: u32) -> Option<Site> {
        let index = usize::try_from(processor).ok().filter(|&p| p < SITE_PROCESSORS)?;
        let at = state.registered.site_page?
            + (std::mem::offset_of!(SitePage, sites) + index * size_of::<Site>()) as u64;
        let mut bytes = [0; size_of::<Site>()];
        self.ram.device_view().read_slice(&mut bytes, GuestAddress(at)).ok()?;
        Site::read_from_bytes(&bytes).ok()
    }

    /// Sets the guest's countdown to the next site that somebody wants to see.
    fn set_countdown(&self, state: &mut State) {
        let Some(page) = state.registered.site_page else { return };
        state.countdown = match state.sites {
            Some(_) => 1,
            None => state.matcher.countdown(),
        };
        let at = GuestAddress(page + std::mem::offset_of!(SitePage, countdown) as u64);
        if let Err(why) = self.ram.device_view().write_obj(state.countdown, at) {
            tracing::warn!("the site page at {page:#x} cannot be written: {why}");
        }
    }
}

#[cfg(test)]
#[path = "injector_tests.rs"]
mod tests;
