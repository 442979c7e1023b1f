//! The book of pages that are away.
//!
//! The doorbell brings the guest's side (sites, pages asked back, where its trap records are), vCPU threads bring
//! touches, the mechanism does the work; this file decides and counts. One lock around all of it: every entry is
//! a vCPU exit, and a machine that injects does not do so millions of times a second.
//!
//! The one thing to hold in mind: everything the guest says is read once and may be a lie. The worst a lying guest
//! gets is its own page taken away from itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use refault_abi::doorbell::{SITE_PROCESSORS, Site, SitePage, TIMES_POISON, TrapRecord, access};
use serde::Serialize;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::counters::FaultCounters;
use super::matcher::{Matcher, Numbering, SiteName};
use super::mechanism::{Mechanism, Notice, TrapPage};
use super::rule::{Action, Rule};

/// Faults that are described one by one in reports; further ones are only counted.
const LOG_LIMIT: usize = 4096;

/// Sites that are named one by one; further ones are only counted.
const SITES_LIMIT: usize = 1 << 20;

/// Pages away at once. Where pages are taken away by protection, each splits a mapping in two, and a process may have
/// 65530 of them (`vm.max_map_count`): without a limit a guest could leave none for the monitor itself.
const AWAY_LIMIT: usize = 16_384;

/// A touch of a page that is away, as far as the vCPU could make it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Guest physical address.
    pub gpa: u64,
    /// Guest virtual address.
    pub gva: u64,
    /// The stopped instruction.
    pub rip: u64,
    /// Bits of [`refault_abi::doorbell::access`].
    pub access: u32,
}

/// What a vCPU does about a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give the guest a page fault; its trap record is filled in.
    Reflect,
    /// Give the guest a machine check; its trap record is filled in.
    Poison,
    /// The page is back; run on.
    Resolve,
    /// The page was away until a moment ago; run on.
    Stale,
    /// The page never was away: something else is wrong.
    NotMine,
}

/// One line of the fault log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FaultEvent {
    /// Number of the reflected trap; 0 for a resolved one.
    pub sequence: u64,
    /// Guest physical address.
    pub gpa: u64,
    /// Guest virtual address.
    pub gva: u64,
    /// The stopped instruction.
    pub rip: u64,
    /// Whether the access was a write.
    pub write: bool,
    /// Whether it came from ring 3.
    pub user: bool,
    /// Request number of the site that had armed the page; this and the next two are 0 where the guest itself had asked.
    pub request: u32,
    /// Attempt of that site.
    pub attempt: u16,
    /// Page of that site.
    pub page: u32,
}

#[derive(Debug, Clone, Copy)]
struct Arming {
    site: Option<SiteName>,
    touched: bool,
    wish: Wish,
}

/// For how long a page is to stay away.
#[derive(Debug, Clone, Copy)]
struct Wish {
    /// Accesses to be reflected; [`FOREVER`] for no end.
    times: u32,
    /// Accesses reflected so far.
    reflected: u32,
}

/// A rule's: until it is asked for.
const ONCE: Wish = Wish { times: 1, reflected: 0 };
/// [`Wish::times`] of a page that never comes back while the guest runs.
const FOREVER: u32 = u32::MAX;
/// A page that is poisoned: it never comes back, and every access to it is a machine check.
const POISON: Wish = Wish { times: TIMES_POISON, reflected: 0 };

impl Wish {
    /// Whether the page is poisoned.
    fn is_poison(self) -> bool {
        self.times == TIMES_POISON
    }

    /// Whether the page comes back when it is asked for. One that was to be reflected once does in any case, as any page
    /// that a pager brings in; one that was to be reflected more often only when it has been.
    fn is_over(self) -> bool {
        self.times == 1 || self.times != FOREVER && !self.is_poison() && self.reflected >= self.times
    }
}

/// What the guest has registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    records: Option<u64>,
    site_page: Option<u64>,
    kept: BTreeMap<u64, u64>,
    direct_map: Option<u64>,
}

#[derive(Debug)]
struct State {
    matcher: Matcher,
    registered: Registered,
    away: BTreeMap<u64, Arming>,
    was_away: BTreeSet<u64>,
    counters: FaultCounters,
    sequence: u64,
    log: Vec<FaultEvent>,
    /// Sites passed, if they are to be named.
    sites: Option<Vec<SiteName>>,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Injector {
    ram: Arc<GuestRam>,
    mechanism: Box<dyn Mechanism>,
    processors: u8,
    state: Mutex<State>,
}

impl Injector {
    /// An injector with nothing armed.
    pub fn new(ram: Arc<GuestRam>, mechanism: Box<dyn Mechanism>, processors: u8, rules: Vec<Rule>) -> Self {
        let state = State {
            matcher: Matcher::new(&rules, Numbering::Lender, 0),
            registered: Registered::default(),
            away: BTreeMap::new(),
            was_away: BTreeSet::new(),
            counters: FaultCounters::default(),
            sequence: 0,
            log: Vec::new(),
            sites: None,
        };
        Self { ram, mechanism, processors, state: Mutex::new(state) }
    }

    /// Name of the mechanism in use.
    pub fn mechanism(&self) -> &'static str {
        self.mechanism.name()
    }

    /// The guest says where its trap records are; `None` withdraws them. The caller has checked the address.
    pub fn set_records(&self, gpa: Option<u64>) {
        let mut state = self.lock();
        state.registered.records = gpa;
        self.keep(&mut state, Kept::Records, gpa);
    }

    /// The guest says where its site page is, and gets the first countdown.
    pub fn set_site_page(&self, gpa: Option<u64>) {
        let mut state = self.lock();
        state.registered.site_page = gpa;
        self.keep(&mut state, Kept::Sites, gpa);
        self.set_countdown(&state);
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
            let name = state.matcher.name(&site);
            state.matcher.pass(1);
            if let Some(sites) = state.sites.as_mut().filter(|sites| sites.len() < SITES_LIMIT) {
                sites.push(name);
            }
            if let Some(action) = state.matcher.decide(&name, processor) {
                let wish = if action == Action::Poison { POISON } else { ONCE };
                let armed = self.arm(&mut state, site.gpa & !(PAGE_SIZE - 1), Some(name), wish);
                state.counters.sites_refused += u64::from(!armed);
            }
        }
        self.set_countdown(&state);
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
        let mut state = self.lock();
        state.counters.guest_asked += 1;
        let fresh = state.matcher.allows_guest() && !state.away.contains_key(&page);
        let armed = fresh && self.arm(&mut state, page, None, Wish { times: times.max(1), reflected: 0 });
        state.counters.guest_refused += u64::from(!armed);
    }

    /// The guest wants a page back.
    pub fn page_back(&self, gpa: u64) {
        let page = gpa & !(PAGE_SIZE - 1);
        let mut state = self.lock();
        let Some(arming) = state.away.get(&page).copied() else {
            state.counters.asked_back_idle += 1;
            return;
        };
        state.counters.asked_back += 1;
        match (arming.wish.is_over(), arming.touched) {
            // In vain.
            _ if arming.wish.is_poison() => {}
            (true, _) => self.disarm(&mut state, page),
            // What nobody has touched simply stays.
            (false, false) => {}
            // For the sums, this taking-away has had its trap, and another one begins.
            (false, true) => {
                state.counters.armed += 1;
                if let Some(arming) = state.away.get_mut(&page) {
                    arming.touched = false;
                }
            }
        }
    }

    /// The page that a notice is about. `candidates` are the pages the stopped instruction uses, for mechanisms that
    /// do not know.
    pub fn trapped_page(&self, notice: Notice, candidates: &[u64]) -> Option<u64> {
        match self.mechanism.trapped(notice) {
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

    /// A vCPU has been stopped by `page`. `touch` is what it made out, `None` if that was not enough to tell the
    /// guest; `processor` is the one whose record would be used.
    pub fn touched(&self, page: u64, processor: u8, touch: Option<Touch>) -> Decision {
        let mut state = self.lock();
        let Some(arming) = state.away.get_mut(&page) else {
            return if state.was_away.contains(&page) { Decision::Stale } else { Decision::NotMine };
        };
        let again = std::mem::replace(&mut arming.touched, true);
        let (site, wish) = (arming.site, arming.wish);
        if !again {
            state.counters.trapped += 1;
        }
        let sequence = state.sequence + 1;
        let poison = wish.is_poison();
        let touch = touch.map(|t| Touch { access: t.access | if poison { access::POISON } else { 0 }, ..t });
        let told = touch.filter(|t| self.fill_record(&state, processor, sequence, t));
        if let Some(arming) = state.away.get_mut(&page).filter(|_| told.is_some()) {
            arming.wish.reflected = arming.wish.reflected.saturating_add(1);
        }
        let counters = &mut state.counters;
        match (told, again) {
            (Some(_), false) if poison => counters.poisoned += 1,
            (Some(_), true) if poison => counters.poisoned_again += 1,
            (Some(_), false) => counters.reflected += 1,
            (Some(_), true) => counters.reflected_again += 1,
            (None, false) => counters.resolved += 1,
            (None, true) => counters.resolved_again += 1,
        }
        if let Some(touch) = touch.filter(|_| state.log.len() < LOG_LIMIT) {
            state.log.push(FaultEvent {
                sequence: if told.is_some() { sequence } else { 0 },
                gpa: touch.gpa,
                gva: touch.gva,
                rip: touch.rip,
                write: touch.access & access::WRITE != 0,
                user: touch.access & access::USER != 0,
                request: site.map_or(0, |site| site.request),
                attempt: site.map_or(0, |site| site.attempt),
                page: site.map_or(0, |site| site.page),
            });
        }
        match told {
            Some(_) => {
                state.sequence = sequence;
                if poison { Decision::Poison } else { Decision::Reflect }
            }
            None => {
                self.disarm(&mut state, page);
                Decision::Resolve
            }
        }
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
    /// and these rules hold, in which requests are numbered as they are seen. With `log_sites` every site is named.
    pub fn restart(&self, rules: Vec<Rule>, registered: &Registered, log_sites: bool) {
        self.finish();
        let mut state = self.lock();
        *state = State {
            matcher: Matcher::new(&rules, Numbering::Seen, 0),
            registered: registered.clone(),
            away: BTreeMap::new(),
            was_away: BTreeSet::new(),
            counters: FaultCounters::default(),
            sequence: 0,
            log: Vec::new(),
            sites: log_sites.then(Vec::new),
        };
        self.set_countdown(&state);
    }

    /// The sites passed since [`Injector::restart`], if they were to be named.
    pub fn sites(&self) -> Vec<SiteName> {
        self.lock().sites.clone().unwrap_or_default()
    }

    /// The sums so far.
    pub fn counters(&self) -> FaultCounters {
        self.lock().counters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and book are consistent at every point where a panic could have happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a page away; whether it is away then.
    fn arm(&self, state: &mut State, page: u64, site: Option<SiteName>, wish: Wish) -> bool {
        if state.away.contains_key(&page) {
            return true;
        }
        let refused =
            !self.ram.contains(page, PAGE_SIZE) || state.registered.kept.values().any(|&kept| kept == page);
        if refused || state.away.len() >= AWAY_LIMIT {
            return false;
        }
        if let Err(why) = self.mechanism.arm(page) {
            tracing::warn!("page {page:#x} could not be taken away: {why}");
            return false;
        }
        state.counters.armed += 1;
        state.away.insert(page, Arming { site, touched: false, wish });
        state.was_away.insert(page);
        true
    }

    /// Notes a page that never goes away; if it is away, it comes back.
    fn keep(&self, state: &mut State, why: Kept, gpa: Option<u64>) {
        state.keep(why, gpa);
        if let Some(gpa) = gpa {
            self.disarm(state, gpa & !(PAGE_SIZE - 1));
        }
    }

    fn disarm(&self, state: &mut State, page: u64) {
        if let Some(arming) = state.away.remove(&page) {
            state.counters.never_touched += u64::from(!arming.touched);
            if let Err(why) = self.mechanism.disarm(page) {
                tracing::error!("page {page:#x} could not be given back: {why}");
            }
        }
    }

    fn read_site(&self, state: &State, processor: u32) -> Option<Site> {
        let index = usize::try_from(processor).ok().filter(|&p| p < SITE_PROCESSORS)?;
        let at = state.registered.site_page?
            + (std::mem::offset_of!(SitePage, sites) + index * size_of::<Site>()) as u64;
        let mut bytes = [0; size_of::<Site>()];
        self.ram.device_view().read_slice(&mut bytes, GuestAddress(at)).ok()?;
        Site::read_from_bytes(&bytes).ok()
    }

    /// Rules want to see each site as long as there are rules.
    fn set_countdown(&self, state: &State) {
        let Some(page) = state.registered.site_page else { return };
        let countdown = u64::from(state.matcher.countdown() > 0 || state.sites.is_some());
        let at = GuestAddress(page + std::mem::offset_of!(SitePage, countdown) as u64);
        if let Err(why) = self.ram.device_view().write_obj(countdown, at) {
            tracing::warn!("the site page at {page:#x} cannot be written: {why}");
        }
    }

    /// Fills the processor's trap record, unless there is none or the guest has not read the last one.
    fn fill_record(&self, state: &State, processor: u8, sequence: u64, touch: &Touch) -> bool {
        let Some(records) = state.registered.records.filter(|_| processor < self.processors) else {
            return false;
        };
        let at = GuestAddress(records + u64::from(processor) * size_of::<TrapRecord>() as u64);
        let memory = self.ram.device_view();
        if !matches!(memory.read_obj::<u32>(at), Ok(0)) {
            return false;
        }
        let mut record = TrapRecord::new_zeroed();
        record.busy = TrapRecord::BUSY;
        record.access = touch.access;
        record.sequence = sequence;
        record.gpa = touch.gpa;
        record.gva = touch.gva;
        record.rip = touch.rip;
        memory.write_slice(record.as_bytes(), at).is_ok()
    }
}

/// Why a page never goes away.
enum Kept {
    Records,
    Sites,
    Other(u64),
}

impl State {
    fn keep(&mut self, why: Kept, gpa: Option<u64>) {
        let key = match why {
            Kept::Records => u64::MAX,
            Kept::Sites => u64::MAX - 1,
            Kept::Other(which) => which,
        };
        match gpa {
            Some(gpa) => self.registered.kept.insert(key, gpa & !(PAGE_SIZE - 1)),
            None => self.registered.kept.remove(&key),
        };
    }
}

#[cfg(test)]
#[path = "injector_tests.rs"]
mod tests;
