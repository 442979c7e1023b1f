//! What injection did, in numbers that must add up.
//!
//! An *arming* is one taking-away of one page; it ends when the page comes back. Armings = trapped + never
//! touched, and trapped = reflected + delayed + resolved + poisoned. Further touches during one arming are counted apart,
//! so that the sums stay about pages.

use serde::Serialize;

/// The sums of one machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FaultCounters {
    /// Sites that the guest announced.
    pub sites: u64,
    /// Sites that a rule wanted but that could not be armed (not RAM, or a page that must stay).
    pub sites_refused: u64,
    /// Pages that the guest wanted to be taken away itself.
    pub guest_asked: u64,
    /// Those of them that were not (not RAM, a page that must stay, or already away).
    pub guest_refused: u64,
    /// Pages taken away.
    pub armed: u64,
    /// Armings whose page was touched.
    pub trapped: u64,
    /// Armings that ended without a touch.
    pub never_touched: u64,
    /// Trapped armings whose first touch became a page fault of the guest.
    pub reflected: u64,
    /// Trapped armings whose first touch was resolved by the host; the guest noticed nothing.
    pub resolved: u64,
    /// Trapped armings whose first touch was held up and then let through.
    pub delayed: u64,
    /// Touches that were held up until something happened, which did not happen in the time allowed.
    pub delay_expired: u64,
    /// Trapped armings answered by a machine check.
    pub poisoned: u64,
    /// Pages that a rule named by their address but that could not be armed.
    pub memory_refused: u64,
    /// Further touches of a page that was still away, reflected too.
    pub reflected_again: u64,
    /// Further touches of a page that was still away, resolved by the host.
    pub resolved_again: u64,
    /// Further touches of a page that was still away, held up too.
    pub delayed_again: u64,
    /// Further touches of a poisoned page.
    pub poisoned_again: u64,
    /// Pages that the guest asked back.
    pub asked_back: u64,
    /// Requests for pages that were not away.
    pub asked_back_idle: u64,
}

impl FaultCounters {
    /// Whether the sums come out for a machine that has ended.
    pub fn conserved(&self) -> bool {
        self.armed == self.trapped + self.never_touched
            && self.trapped == self.reflected + self.delayed + self.resolved + self.poisoned
    }

    /// All page faults that the guest was given.
    pub fn all_reflected(&self) -> u64 {
        self.reflected + self.reflected_again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_trap_is_noticed() {
        let good =
            FaultCounters { armed: 3, trapped: 2, never_touched: 1, reflected: 2, ..Default::default() };
        assert!(good.conserved());
        assert!(!FaultCounters { trapped: 3, ..good }.conserved());
        assert!(!FaultCounters { reflected: 1, ..good }.conserved());
    }
}
