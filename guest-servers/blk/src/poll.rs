//! How long to look for an answer before sleeping until the interrupt.
//!
//! An interrupt costs several kernel entries; a disk that is a file in the host's memory often answers sooner.
//! But where the device needs the processor that is looking, looking is in vain. So the time is learnt: doubled
//! by success, quartered by failure.

/// The budget, in turns of the waiting loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(u32);

/// Most turns: below a millisecond everywhere.
const MOST: u32 = 1 << 14;
/// Fewest turns, so that a change is noticed.
const FEWEST: u32 = 1 << 6;

impl Budget {
    /// To begin with.
    pub const fn new() -> Budget {
        Budget(MOST)
    }

    /// Turns of the loop allowed now.
    pub const fn turns(self) -> u32 {
        self.0
    }

    /// What came of it.
    pub fn learn(&mut self, answered: bool) {
        self.0 = if answered { (self.0 * 2).min(MOST) } else { (self.0 / 4).max(FEWEST) };
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_costs_less_and_less_and_success_brings_it_back() {
        let mut budget = Budget::new();
        let mut wasted = 0;
        for _ in 0..100 {
            wasted += budget.turns();
            budget.learn(false);
        }
        assert!(wasted < 2 * MOST + 100 * FEWEST);
        for _ in 0..10 {
            budget.learn(true);
        }
        assert_eq!(budget, Budget::new());
    }
}
