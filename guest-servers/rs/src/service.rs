//! One watched server: heartbeats, death, back-off.

use refault_abi::Endpoint;
use refault_abi::rs::{BACK_OFF_MAX, MISSED, PERIOD, RESTARTS_MAX, Watched};

/// Periods without a crash after which earlier ones count no more.
pub const QUIET: u32 = 60;

/// What is to be done with a server at a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Ask it whether it is alive.
    Ask,
    /// It has not answered: end it.
    End,
    /// Make it again.
    Restart,
}

/// What becomes of a server that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was known already, or is not this server's present incarnation.
    Stale,
    /// It is made again after so many periods.
    Restart(u32),
    /// It has died too often.
    GivenUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Serving. `asked` since the last answer; `missed` periods in a row.
    Up { asked: bool, missed: u32 },
    /// Has to be ended; its death has not been told yet.
    Ending,
    /// Dead; made again after so many periods.
    Down { wait: u32 },
    /// Dead for good.
    GivenUp,
}

/// A watched server.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Which.
    pub watched: Watched,
    /// Its present incarnation, or the last one.
    pub endpoint: Endpoint,
    /// Restarts since the machine started.
    pub restarts: u32,
    /// Heartbeats answered.
    pub beats: u64,
    /// Crashes that still count.
    recent: u32,
    quiet: u32,
    state: State,
}

impl Service {
    /// A server that runs.
    pub const fn new(watched: Watched, endpoint: Endpoint) -> Service {
        let state = State::Up { asked: false, missed: 0 };
        Service { watched, endpoint, restarts: 0, beats: 0, recent: 0, quiet: 0, state }
    }

    /// Whether it serves.
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether it will not come back.
    pub const fn is_given_up(&self) -> bool {
        matches!(self.state, State::GivenUp)
    }

    /// Whether time has to pass before it is made again.
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// It has answered.
    pub fn beat(&mut self) {
        if let State::Up { asked, missed } = &mut self.state
            && *asked
        {
            (*asked, *missed) = (false, 0);
            self.beats = self.beats.wrapping_add(1);
        }
    }

    /// A period is over. `excused`: the server cannot answer because it waits for somebody else.
    pub fn period(&mut self, excused: bool) -> Step {
        match &mut self.state {
            State::Up { asked, missed } => {
                self.quiet = self.quiet.saturating_add(1);
                if self.quiet >= QUIET {
                    self.recent = 0;
                }
                if !*asked {
                    *asked = true;
                    return Step::Ask;
                }
                if !excused {
                    *missed += 1;
                }
                if *missed < MISSED {
                    return Step::Nothing;
                }
                self.state = State::Ending;
                Step::End
            }
            State::Down { wait: 0 } => Step::Restart,
            State::Down { wait } => {
                *wait -= 1;
                if *wait == 0 { Step::Restart } else { Step::Nothing }
            }
            State::Ending | State::GivenUp => Step::Nothing,
        }
    }

    /// The incarnation `dead` is gone.
    pub fn died(&mut self, dead: Endpoint) -> Fate {
        if dead != self.endpoint || matches!(self.state, State::Down { .. } | State::GivenUp) {
            return Fate::Stale;
        }
        self.crashed()
    }

    /// Making it again failed.
    pub fn not_made(&mut self) -> Fate {
        self.crashed()
    }

    fn crashed(&mut self) -> Fate {
        if self.recent >= RESTARTS_MAX {
            self.state = State::GivenUp;
            return Fate::GivenUp;
        }
        let wait = back_off(self.recent);
        self.recent += 1;
        self.quiet = 0;
        self.state = State::Down { wait };
        Fate::Restart(wait)
    }

    /// Another incarnation has taken its place.
    pub fn made(&mut self, endpoint: Endpoint) {
        self.endpoint = endpoint;
        self.restarts += 1;
        self.state = State::Up { asked: false, missed: 0 };
    }
}

/// Periods to wait before the restart that follows `before` others: none, then one, and twice as many each time.
fn back_off(before: u32) -> u32 {
    // Both are constants: thirty periods.
    let most = (BACK_OFF_MAX / PERIOD) as u32;
    match before.checked_sub(1) {
        None => 0,
        Some(doublings) => 1u32.checked_shl(doublings).unwrap_or(most).min(most),
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
