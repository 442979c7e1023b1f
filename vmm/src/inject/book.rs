//! The book of pages that are away: taking away, giving back, and what must never go away.
//!
//! The one thing to hold in mind: an arming is counted once when it begins and once when it ends, and nothing else here counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::layout::PAGE_SIZE;

use super::counters::FaultCounters;
use super::injector::Injector;
use super::matcher::{Matcher, SiteName};
use super::mechanism::AWAY_LIMIT;
use super::physical::Physical;
use super::rule::{AccessKind, Action, PageClass, Times};
use super::trap::FaultEvent;

/// Why a page is away.
#[derive(Debug, Clone)]
pub(super) enum Cause {
    /// A rule wanted it at this site.
    Site(SiteName),
    /// The guest itself.
    Guest,
    /// A rule named its address.
    Memory(Arc<Filter>),
}

/// The touches a rule of physical addresses means; others are let through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Filter {
    pub class: Option<PageClass>,
    pub access: Option<AccessKind>,
    pub vcpus: Option<Vec<u32>>,
}

/// One page that is away.
#[derive(Debug, Clone)]
pub(super) struct Arming {
    pub cause: Cause,
    pub action: Action,
    /// Which taking-away of the machine this is.
    pub number: u64,
    pub touched: bool,
    pub wish: Wish,
    /// Until when its touches are held up, once there was one.
    pub held_until: Option<Instant>,
    /// Its last reflected touch in the log.
    pub logged: Option<usize>,
    /// Only writes stop.
    pub writes_only: bool,
}

/// For how long a page is to stay away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// Accesses to be reflected; [`FOREVER`] for no end.
    pub times: u32,
    /// Accesses reflected so far.
    pub reflected: u32,
}

/// A site rule's: until it is asked for.
pub(super) const ONCE: Wish = Wish { times: 1, reflected: 0 };
/// [`Wish::times`] of a page that never comes back while the guest runs.
const FOREVER: u32 = u32::MAX;

impl Wish {
    /// As often as the guest asks for.
    pub fn times(times: u32) -> Self {
        Self { times: times.max(1), reflected: 0 }
    }

    /// As often as a rule of physical addresses says.
    pub fn of(action: Action) -> Self {
        match action {
            Action::Reflect(Times::Count(count)) => Self::times(count),
            Action::Reflect(Times::Forever) => Self::times(FOREVER),
            Action::Delay(_) | Action::Poison => ONCE,
        }
    }

    /// Whether the page comes back when it is asked for. One that was to be reflected once does in any case, as any page
    /// that a pager brings in; one that was to be reflected more often only when it has been.
    pub fn is_over(self) -> bool {
        self.times == 1 || self.times != FOREVER && self.reflected >= self.times
    }
}

/// What the guest has registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    pub(super) records: Option<u64>,
    pub(super) site_page: Option<u64>,
    pub(super) kept: BTreeMap<u64, u64>,
    pub(super) direct_map: Option<u64>,
    /// Pages of classes that only the guest can name.
    pub(super) named: BTreeMap<u64, PageClass>,
}

/// Why a page never goes away.
pub(super) enum Kept {
    Records,
    Sites,
    Other(u64),
}

/// Everything of an injector that changes.
#[derive(Debug)]
pub(super) struct State {
    pub matcher: Matcher,
    pub memory: Vec<Physical>,
    pub seed: u64,
    pub registered: Registered,
    pub away: BTreeMap<u64, Arming>,
    pub was_away: BTreeSet<u64>,
    pub counters: FaultCounters,
    pub sequence: u64,
    /// Touches of pages that are away, all of them: what `delay until=trap` waits for.
    pub traps: u64,
    pub log: Vec<FaultEvent>,
    /// Lines of the log whose processors have not been let go on yet, by processor.
    pub stopped: BTreeMap<u8, usize>,
    /// Sites passed, if they are to be named.
    pub sites: Option<Vec<SiteName>>,
    /// What the guest's countdown was last set to.
    pub countdown: u64,
    /// From when times are counted.
    pub began: Instant,
}

impl State {
    /// Nothing is away, and nothing has been counted.
    pub fn new(matcher: Matcher, memory: Vec<Physical>, seed: u64, registered: Registered) -> Self {
        Self {
            matcher,
            memory,
            seed,
            registered,
            away: BTreeMap::new(),
            was_away: BTreeSet::new(),
            counters: FaultCounters::default(),
            sequence: 0,
            traps: 0,
            log: Vec::new(),
            stopped: BTreeMap::new(),
            sites: None,
            countdown: 0,
            began: Instant::now(),
        }
    }

    /// Nanoseconds since the beginning.
    pub fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

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

impl Injector {
    /// Takes a page away; whether it is away then.
    pub(super) fn arm(&self, state: &mut State, page: u64, cause: Cause, action: Action, wish: Wish) -> bool {
        if state.away.contains_key(&page) {
            return true;
        }
        let refused =
            !self.ram.contains(page, PAGE_SIZE) || state.registered.kept.values().any(|&kept| kept == page);
        let wants_writes =
            matches!(&cause, Cause::Memory(filter) if filter.access == Some(AccessKind::Write));
        let writes_only = wants_writes && self.writes.is_some();
        let most = match cause {
            Cause::Memory(_) => self.way(writes_only).most(),
            // What a guest can ask for has the same limit with every mechanism.
            Cause::Site(_) | Cause::Guest => AWAY_LIMIT,
        };
        if refused || state.away.len() >= most {
            return false;
        }
        if let Err(why) = self.way(writes_only).arm(page) {
            tracing::warn!("page {page:#x} could not be taken away: {why}");
            return false;
        }
        state.counters.armed += 1;
        let number = state.counters.armed;
        state.away.insert(
            page,
            Arming {
                cause,
                action,
                number,
                touched: false,
                wish,
                held_until: None,
                logged: None,
                writes_only,
            },
        );
        state.was_away.insert(page);
        true
    }

    /// Notes a page that never goes away; if it is away, it comes back.
    pub(super) fn keep(&self, state: &mut State, why: Kept, gpa: Option<u64>) {
        state.keep(why, gpa);
        if let Some(gpa) = gpa {
            self.disarm(state, gpa & !(PAGE_SIZE - 1));
        }
    }

    /// Gives a page back, and ends the waiting of whoever waits for it.
    pub(super) fn disarm(&self, state: &mut State, page: u64) {
        if let Some(arming) = state.away.remove(&page) {
            state.counters.never_touched += u64::from(!arming.touched);
            if let Err(why) = self.way(arming.writes_only).disarm(page) {
                tracing::error!("page {page:#x} could not be given back: {why}");
            }
            self.something_happened.notify_all();
        }
    }
}
