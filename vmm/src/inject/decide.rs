//! A touch of a page that is away: what the guest notices, and when the processor goes on.
//!
//! The one thing to hold in mind: whatever a rule wants, an exception is only given to the guest where it can be delivered exactly
//! and where the guest has said that it understands it; everything else is let through and counted as such.

use std::time::{Duration, Instant};

use refault_abi::doorbell::{TrapRecord, access};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromZeros, IntoBytes};

use super::book::{Arming, Cause, State};
use super::injector::Injector;
use super::rule::{Action, Awaited, Delay, PageClass, UNTIL_LIMIT};
use super::trap::{Answer, FaultEvent, MACHINE_CHECK, PAGE_FAULT, Trap};

/// Faults that are described one by one in reports; further ones are only counted.
const LOG_LIMIT: usize = 4096;

/// How often whoever waits for a disk looks whether it has answered.
const DISK_POLL: Duration = Duration::from_micros(100);

/// What a vCPU does about a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give the guest a page fault; its trap record is filled in.
    Reflect,
    /// Give the guest a machine check; its trap record is filled in.
    Poison,
    /// The page is back; run on.
    Resolve,
    /// Hold the access up ([`Injector::hold`]), then run on.
    Hold(Held),
    /// The page was away until a moment ago; run on.
    Stale,
    /// The page never was away: something else is wrong.
    NotMine,
}

/// An access that is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    page: u64,
    /// The taking-away it met.
    number: u64,
    deadline: Instant,
    until: Option<(Awaited, u64)>,
}

impl Injector {
    /// A vCPU has been stopped by `page`.
    pub fn touched(&self, page: u64, trap: &Trap) -> Decision {
        let mut state = self.lock();
        state.traps += 1;
        self.something_happened.notify_all();
        let Some(arming) = state.away.get_mut(&page) else {
            return if state.was_away.contains(&page) { Decision::Stale } else { Decision::NotMine };
        };
        let again = std::mem::replace(&mut arming.touched, true);
        let arming = arming.clone();
        state.counters.trapped += u64::from(!again);
        let sequence = state.sequence + 1;
        let answer = self.answer(&state, &arming, trap, sequence);
        let told = matches!(answer, Answer::Reflected | Answer::Poisoned);
        if told {
            state.sequence = sequence;
        }
        let counters = &mut state.counters;
        let counter = match (answer, again) {
            (Answer::Reflected, false) => &mut counters.reflected,
            (Answer::Reflected, true) => &mut counters.reflected_again,
            (Answer::Resolved, false) => &mut counters.resolved,
            (Answer::Resolved, true) => &mut counters.resolved_again,
            (Answer::Delayed, false) => &mut counters.delayed,
            (Answer::Delayed, true) => &mut counters.delayed_again,
            (Answer::Poisoned, false) => &mut counters.poisoned,
            (Answer::Poisoned, true) => &mut counters.poisoned_again,
        };
        *counter += 1;
        let line = self.log(&mut state, &arming, trap, answer, if told { sequence } else { 0 });
        let held = match answer {
            Answer::Delayed => Some(self.held(&state, page, &arming, trap.at)),
            _ => None,
        };
        if let Some(arming) = state.away.get_mut(&page) {
            match answer {
                Answer::Reflected => arming.wish.reflected = arming.wish.reflected.saturating_add(1),
                Answer::Delayed => arming.held_until = held.map(|held| held.deadline),
                Answer::Resolved | Answer::Poisoned => {}
            }
            arming.logged = if told { line } else { arming.logged };
        }
        match (answer, held) {
            (Answer::Reflected, _) => Decision::Reflect,
            (Answer::Poisoned, _) => Decision::Poison,
            (Answer::Delayed, Some(held)) => Decision::Hold(held),
            (Answer::Delayed | Answer::Resolved, _) => {
                self.disarm(&mut state, page);
                Decision::Resolve
            }
        }
    }

    /// Waits as long as the access is to be held up, then gives the page back. Ends early when `is_stopping` says so.
    pub fn hold(&self, held: Held, is_stopping: impl Fn() -> bool) {
        let mut state = self.lock();
        loop {
            // Given back by somebody else meanwhile: there is nothing left to wait for.
            let mine = state.away.get(&held.page).is_some_and(|arming| arming.number == held.number);
            if !mine || is_stopping() {
                break;
            }
            if held.until.is_some_and(|(what, seen)| self.count_of(&state, what) != seen) {
                break;
            }
            let left = held.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.counters.delay_expired += u64::from(held.until.is_some());
                break;
            }
            let poll = match held.until {
                Some((Awaited::Disk, _)) => left.min(DISK_POLL),
                _ => left,
            };
            // A poisoned lock is as good as any other here, see `lock`.
            state = match self.something_happened.wait_timeout(state, poll) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        if state.away.get(&held.page).is_some_and(|arming| arming.number == held.number) {
            self.disarm(&mut state, held.page);
        }
    }

    /// The processor is let go on, right now.
    pub fn resumed(&self, vcpu: u8) {
        let now = Instant::now();
        let mut state = self.lock();
        let ns = state.nanoseconds(now);
        if let Some(line) = state.stopped.remove(&vcpu).and_then(|at| state.log.get_mut(at)) {
            line.resumed_ns = ns;
        }
    }

    /// What the rules want, as far as it can be had.
    fn answer(&self, state: &State, arming: &Arming, trap: &Trap, sequence: u64) -> Answer {
        if let Cause::Memory(filter) = &arming.cause {
            let access = filter.access.is_none_or(|wanted| trap.kind().is_none_or(|is| is == wanted));
            let vcpu = filter.vcpus.as_ref().is_none_or(|vcpus| vcpus.contains(&u32::from(trap.vcpu)));
            if !access || !vcpu {
                return Answer::Resolved;
            }
            let tellable = filter.class.is_none_or(PageClass::is_tellable);
            if !tellable && !matches!(arming.action, Action::Delay(_)) {
                return Answer::Resolved;
            }
        }
        match arming.action {
            Action::Delay(_) => Answer::Delayed,
            Action::Reflect(_) if self.fill_record(state, trap, sequence, PAGE_FAULT) => Answer::Reflected,
            Action::Poison if self.fill_record(state, trap, sequence, MACHINE_CHECK) => Answer::Poisoned,
            Action::Reflect(_) | Action::Poison => Answer::Resolved,
        }
    }

    fn held(&self, state: &State, page: u64, arming: &Arming, from: Instant) -> Held {
        let (time, until) = match arming.action {
            Action::Delay(Delay::For(time)) => (time, None),
            Action::Delay(Delay::Until(what)) => (UNTIL_LIMIT, Some((what, self.count_of(state, what)))),
            Action::Reflect(_) | Action::Poison => (Duration::ZERO, None),
        };
        // Whoever comes later waits with the first, not longer.
        let deadline = arming.held_until.or_else(|| from.checked_add(time)).unwrap_or(from);
        Held { page, number: arming.number, deadline, until }
    }

    /// How often something has happened that can be waited for.
    fn count_of(&self, state: &State, what: Awaited) -> u64 {
        match what {
            Awaited::Site => state.counters.sites,
            Awaited::Trap => state.traps,
            Awaited::Disk => self.surroundings.get().map_or(0, |around| around.disk_answers()),
        }
    }

    /// Writes a line of the log; which one it is.
    fn log(
        &self,
        state: &mut State,
        arming: &Arming,
        trap: &Trap,
        answer: Answer,
        sequence: u64,
    ) -> Option<usize> {
        let at = state.log.len();
        if at >= LOG_LIMIT {
            return None;
        }
        let site = match &arming.cause {
            Cause::Site(site) => Some(site),
            Cause::Guest | Cause::Memory(_) => None,
        };
        state.log.push(FaultEvent {
            sequence,
            answer,
            gpa: trap.gpa,
            gva: trap.gva.unwrap_or(0),
            rip: trap.rip,
            write: trap.access & access::WRITE != 0,
            fetch: trap.access & access::FETCH != 0,
            user: trap.access & access::USER != 0,
            cpl: trap.cpl,
            vcpu: trap.vcpu,
            via: trap.via,
            mechanism: self.way(arming.writes_only).name(),
            operation: site.map_or(0, |site| site.operation),
            request: site.map_or(0, |site| site.request),
            attempt: site.map_or(0, |site| site.attempt),
            copy: site.map_or(0, |site| site.copy),
            page: site.map_or(0, |site| site.page),
            side: site.map(|site| site.side),
            exit_ns: state.nanoseconds(trap.at),
            decided_ns: state.nanoseconds(Instant::now()),
            resumed_ns: 0,
            back_ns: 0,
        });
        state.stopped.insert(trap.vcpu, at);
        Some(at)
    }

    /// Fills the processor's trap record, unless the exception cannot be delivered, there is no record, or the guest has not read
    /// the last one.
    fn fill_record(&self, state: &State, trap: &Trap, sequence: u64, vector: u8) -> bool {
        let Some(gva) = trap.deliverable(vector) else { return false };
        let extra = if vector == MACHINE_CHECK { access::POISON } else { 0 };
        let Some(records) = state.registered.records.filter(|_| trap.vcpu < self.processors) else {
            return false;
        };
        let at = GuestAddress(records + u64::from(trap.vcpu) * size_of::<TrapRecord>() as u64);
        let memory = self.ram.device_view();
        if !matches!(memory.read_obj::<u32>(at), Ok(0)) {
            return false;
        }
        let mut record = TrapRecord::new_zeroed();
        record.busy = TrapRecord::BUSY;
        record.access = trap.access | extra;
        record.sequence = sequence;
        record.gpa = trap.gpa;
        record.gva = gva;
        record.rip = trap.rip;
        memory.write_slice(record.as_bytes(), at).is_ok()
    }
}
