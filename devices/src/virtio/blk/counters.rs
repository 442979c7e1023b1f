//! What a disk has done so far.
//!
//! Counted by the device loop, read by anybody: plain relaxed counters, each exact, not a consistent set.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::faults::DiskFault;

/// Live counters of one disk. Figures come out through [`Counters::get`].
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) ids: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) unsupported: AtomicU64,
    pub(super) without_status: AtomicU64,
    pub(super) kicks: AtomicU64,
    pub(super) interrupts: AtomicU64,
    failed: AtomicU64,
    delayed: AtomicU64,
    torn: AtomicU64,
    short: AtomicU64,
    dropped: AtomicU64,
}

/// Faults of a plan, by kind. All that were decided are counted here once, or belong to requests in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InjectedFaults {
    /// Requests failed instead of being carried out.
    pub failed: u64,
    /// Requests answered late.
    pub delayed: u64,
    /// Requests carried in part and answered as if wholly.
    pub torn: u64,
    /// Requests carried in part and answered with an error.
    pub short: u64,
    /// Requests with a fault which were given up before their answer: the driver reset the disk, or the machine was put back.
    pub dropped: u64,
}

/// Figures of one disk at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlkCounts {
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Requests for the disk's name that succeeded.
    pub ids: u64,
    /// Bytes carried by successful reads.
    pub bytes_read: u64,
    /// Bytes carried by successful writes.
    pub bytes_written: u64,
    /// Requests answered with IOERR, malformed ones included.
    pub errors: u64,
    /// Requests answered with UNSUPP.
    pub unsupported: u64,
    /// Chains given back without an answer, because they had no byte to put it in.
    pub without_status: u64,
    /// Times that the driver's notification woke the device.
    pub kicks: u64,
    /// Times that the driver was interrupted.
    pub interrupts: u64,
    /// Faults of a plan.
    pub injected: InjectedFaults,
}

impl InjectedFaults {
    /// Faults that happened, whatever became of them.
    pub fn total(&self) -> u64 {
        [self.failed, self.delayed, self.torn, self.short, self.dropped]
            .iter()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

impl BlkCounts {
    /// Requests given back to the driver, whatever came of them.
    pub fn completed(&self) -> u64 {
        [self.reads, self.writes, self.flushes, self.ids, self.errors, self.unsupported, self.without_status]
            .iter()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

impl Counters {
    /// The figures now.
    pub fn get(&self) -> BlkCounts {
        BlkCounts {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
            ids: self.ids.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            errors: self.errors.load(Relaxed),
            unsupported: self.unsupported.load(Relaxed),
            without_status: self.without_status.load(Relaxed),
            kicks: self.kicks.load(Relaxed),
            interrupts: self.interrupts.load(Relaxed),
            injected: InjectedFaults {
                failed: self.failed.load(Relaxed),
                delayed: self.delayed.load(Relaxed),
                torn: self.torn.load(Relaxed),
                short: self.short.load(Relaxed),
                dropped: self.dropped.load(Relaxed),
            },
        }
    }

    /// Counts a fault whose request is being answered.
    pub(super) fn answered(&self, fault: DiskFault) {
        let counter = match fault {
            DiskFault::Error => &self.failed,
            DiskFault::Delay(_) => &self.delayed,
            DiskFault::Torn { .. } => &self.torn,
            DiskFault::Short { .. } => &self.short,
        };
        add(counter, 1);
    }

    /// Counts faults of requests that will not be answered.
    pub(super) fn dropped(&self, faults: u64) {
        add(&self.dropped, faults);
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
