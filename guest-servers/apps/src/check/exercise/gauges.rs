//! Counters as a workload looks at them: what an operation met, and whether an error is one that it may end in.
//!
//! The counters page is mapped into test programs, so looking costs no kernel call: where ring 0 is interpreted, a look by
//! kernel calls around each operation would cost as much as the operation.

use refault_abi::Errno;
use refault_abi::counters::Counter;
use refault_rt::info::counter;

use crate::check::suite::Record;

/// The counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    faults: u64,
    touches: u64,
    repeats: u64,
    given_up: u64,
    disk_errors: u64,
    poisoned: u64,
}

impl Gauges {
    /// Now.
    pub fn now() -> Gauges {
        let sum = |which: &[Counter]| which.iter().fold(0u64, |sum, which| sum.wrapping_add(counter(*which)));
        Gauges {
            faults: sum(&[Counter::SoftFaultsFirstStage, Counter::SoftFaultsSecondStage]),
            touches: sum(&[Counter::ReflectedUser]),
            repeats: sum(&[Counter::VfsRepeats, Counter::VfsRawRepeats]),
            given_up: sum(&[Counter::VfsGivenUp, Counter::SuspensionsGivenUp]),
            disk_errors: sum(&[Counter::BlkErrors]),
            poisoned: sum(&[Counter::PoisonedUser, Counter::PoisonedCopy]),
        }
    }

    /// What happened from then to now: copies that met an absent page, and operations repeated.
    pub fn record(&self) -> Record {
        let now = Gauges::now();
        Record {
            faults: now.faults.wrapping_sub(self.faults),
            repeats: now.repeats.wrapping_sub(self.repeats),
        }
    }

    /// The same with what ring 3 met itself: its accesses to pages that had been taken away.
    pub fn record_with_touches(&self) -> Record {
        let mut record = self.record();
        let touches = Gauges::now().touches.wrapping_sub(self.touches);
        record.faults = record.faults.saturating_add(touches);
        record
    }

    /// Whether an operation begun then may end in this error: EFAULT if an operation has been given up at the bound of its repeats,
    /// EIO if the disk has failed, or if a page was lost: with it goes the server that had it, and with that one the request. Nothing
    /// else is defined.
    pub fn defined(&self, error: Errno) -> bool {
        let now = Gauges::now();
        match error {
            Errno::EFAULT => now.given_up != self.given_up,
            Errno::EIO => (now.disk_errors, now.poisoned) != (self.disk_errors, self.poisoned),
            _ => false,
        }
    }
}
