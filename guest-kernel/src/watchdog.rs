//! The watchdog: has the system come to a standstill?
//!
//! The one thing to hold in mind: a standstill is not silence. Servers beat, alarms ring, and VM may go round with one suspended
//! copy for ever; so what counts is progress (messages that are no notifications, interrupts of devices, processes that
//! compute), and beside it a circle in the wait-for graph that stays the same. What is not here: the graph (`graph`), the clock.

/// Looks per watchdog time: what holds at this many looks and between them has lasted.
const LOOKS: u32 = 4;
/// Suspensions of one call without progress between them that count as standing still, in a system that does not bound
/// them itself.
pub const SUSPENSIONS: u16 = 1000;

/// What has come to a standstill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standstill {
    /// Nothing went on at all.
    Silence,
    /// The same processes waited for one another all the time.
    Circle,
}

/// What one look sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// A process was computing.
    pub busy: bool,
    /// A number that grows with everything that counts as progress.
    pub progress: u64,
    /// The circle in the wait-for graph, by its fingerprint.
    pub circle: Option<u64>,
}

/// State between the looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Time stamps between two looks; 0 when nobody watches.
    interval: u64,
    /// Time stamp of the next look; `u64::MAX` when nobody watches.
    pub next: u64,
    last: Look,
    silent: u32,
    same: u32,
}

impl Watchdog {
    /// Never looks.
    pub const OFF: Watchdog = Watchdog {
        interval: 0,
        next: u64::MAX,
        last: Look { busy: true, progress: 0, circle: None },
        silent: 0,
        same: 0,
    };

    /// Looks from time stamp `now` on, so that a standstill of `milliseconds` is noticed; 0 for never. `khz`: time stamps per
    /// millisecond.
    pub fn new(milliseconds: u32, khz: u64, now: u64) -> Watchdog {
        if milliseconds == 0 {
            return Watchdog::OFF;
        }
        let interval = (u64::from(milliseconds).saturating_mul(khz) / u64::from(LOOKS)).max(1);
        Watchdog { interval, next: now.saturating_add(interval), ..Watchdog::OFF }
    }

    /// Whether it is time to look.
    #[inline(always)]
    pub fn due(&self, now: u64) -> bool {
        self.next <= now
    }

    /// Takes in a look at time stamp `now`.
    pub fn look(&mut self, now: u64, look: Look) -> Option<Standstill> {
        self.next = now.saturating_add(self.interval);
        let silent = !look.busy && look.progress == self.last.progress;
        let same = look.circle.is_some() && look.circle == self.last.circle;
        self.silent = if silent { self.silent + 1 } else { 0 };
        self.same = if same { self.same + 1 } else { 0 };
        self.last = look;
        if self.same < LOOKS && self.silent < LOOKS {
            return None;
        }
        // A circle explains more than silence does.
        Some(if look.circle.is_some() { Standstill::Circle } else { Standstill::Silence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Look = Look { busy: false, progress: 7, circle: None };

    fn looks(watchdog: &mut Watchdog, looks: &[Look]) -> Vec<Option<Standstill>> {
        looks.iter().map(|look| watchdog.look(watchdog.next, *look)).collect()
    }

    #[test]
    fn off_is_never_due() {
        let watchdog = Watchdog::new(0, 1000, 5);
        assert!(!watchdog.due(u64::MAX - 1));
    }

    #[test]
    fn silence_has_to_last() {
        let mut watchdog = Watchdog::new(2000, 1000, 100);
        assert!(!watchdog.due(500_099) && watchdog.due(500_100));
        // The first look only sets the mark to compare with.
        let said = looks(&mut watchdog, &[IDLE; 5]);
        assert_eq!(said, [None, None, None, None, Some(Standstill::Silence)]);
        assert_eq!(watchdog.next, 100 + 6 * 500_000);
    }

    #[test]
    fn progress_or_work_begins_anew() {
        for interruption in [Look { progress: 8, ..IDLE }, Look { busy: true, ..IDLE }] {
            let mut watchdog = Watchdog::new(4, 1000, 0);
            let after = Look { progress: interruption.progress, ..IDLE };
            let sequence = [IDLE, IDLE, IDLE, IDLE, interruption, after, after, after, after];
            let said = looks(&mut watchdog, &sequence);
            assert_eq!(said.iter().flatten().count(), 1);
            assert_eq!(said.last(), Some(&Some(Standstill::Silence)));
        }
    }

    #[test]
    fn a_circle_counts_whatever_else_runs() {
        let mut watchdog = Watchdog::new(4, 1000, 0);
        let with = |circle, progress| Look { busy: true, progress, circle };
        let sequence: Vec<Look> = (0..5).map(|progress| with(Some(1), progress)).collect();
        assert_eq!(looks(&mut watchdog, &sequence).last(), Some(&Some(Standstill::Circle)));
        // Another circle is another matter.
        let mut watchdog = Watchdog::new(4, 1000, 0);
        let sequence: Vec<Look> = (0..20).map(|at| with(Some(at / 4), at)).collect();
        assert_eq!(looks(&mut watchdog, &sequence).iter().flatten().count(), 0);
    }
}
