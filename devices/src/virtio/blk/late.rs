//! Answers that wait: requests which were carried out and are to be answered later.
//!
//! The one thing to hold in mind: the clock decides, not the timer. The timer only wakes the device loop; which answers are due is
//! asked of the clock each time, so that a wake-up too many or too early does nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

/// Longest time for which the timer is set. Whoever waits longer is looked at in between.
const LONGEST: Duration = Duration::from_secs(3600);
/// A timer set to nothing would be switched off.
const SHORTEST: Duration = Duration::from_nanos(1);

/// An answer that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LateAnswer {
    /// The chain's head.
    pub head: u16,
    /// Whether the request was carried out without an error.
    pub ok: bool,
    /// `None` for a time that the clock does not reach.
    due: Option<Instant>,
}

/// All answers of one disk that wait.
pub(super) struct Late {
    timer: TimerFd,
    /// In the order in which they came.
    waiting: Vec<LateAnswer>,
}

impl Late {
    pub fn new() -> io::Result<Self> {
        Ok(Self { timer: TimerFd::new()?, waiting: Vec::new() })
    }

    /// Another descriptor of the timer, which is readable when an answer is due. Only for waiting: whoever read it would block.
    pub fn timer(&self) -> io::Result<OwnedFd> {
        // SAFETY: the timer is open as long as `self`, which is borrowed.
        let timer = unsafe { BorrowedFd::borrow_raw(self.timer.as_raw_fd()) };
        timer.as_fd().try_clone_to_owned()
    }

    /// Keeps an answer back for `delay` from `now` on.
    pub fn hold(&mut self, head: u16, ok: bool, now: Instant, delay: Duration) {
        self.waiting.push(LateAnswer { head, ok, due: now.checked_add(delay) });
        self.arm(now);
    }

    /// Answers whose time has come, the earliest first, and those of one time in the order in which they came.
    pub fn take_due(&mut self, now: Instant) -> Vec<LateAnswer> {
        let mut due: Vec<_> =
            self.waiting.extract_if(.., |late| late.due.is_some_and(|due| due <= now)).collect();
        due.sort_by_key(|late| late.due);
        self.arm(now);
        due
    }

    /// All answers, due or not, in the order in which they came.
    pub fn take_all(&mut self) -> Vec<LateAnswer> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.waiting);
        self.arm(Instant::now());
        all
    }

    /// Sets the timer to the earliest answer. This also ends its being readable for those before.
    fn arm(&mut self, now: Instant) {
        let earliest = self.waiting.iter().filter_map(|late| late.due).min();
        let set = match earliest {
            Some(due) => {
                let left = due.saturating_duration_since(now).clamp(SHORTEST, LONGEST);
                self.timer.reset(left, None)
            }
            None => self.timer.clear(),
        };
        if let Err(error) = set {
            tracing::error!(%error, "the timer of a disk's late answers cannot be set");
        }
    }
}
