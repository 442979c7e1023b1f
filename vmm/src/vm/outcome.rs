//! What came of a machine: how it ended, and every figure about it.
//!
//! Every figure is read from a counter of the machine, of its devices, or of the guest. What was not measured is
//! absent, not zero.

use std::collections::BTreeMap;
use std::time::Duration;

use refault_abi::counters::{ALL as GUEST_COUNTERS, Counter};
use serde::Serialize;

use crate::inject::FaultCounters;
use crate::inject::injector::FaultEvent;
use crate::vcpu::measure::Cost;

use super::ending::Ending;

/// How a run ended, from the user's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The guest ended by itself.
    Exited(u32),
    /// The guest's kernel panicked, and ended with this status if it still could.
    Panicked(Option<u32>),
    /// The guest's kernel found that nothing can go on: who waits for whom, one edge each.
    Wedged(Vec<String>),
    /// The time allowed was over.
    TimedOut(Duration),
    /// The guest brought the machine into a state from which it cannot go on.
    Crashed(Ending),
    /// The VMM or the host failed.
    Failed(Ending),
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Guest { status } => End::Exited(status),
            Ending::TripleFault { .. }
            | Ending::Halted
            | Ending::Internal { .. }
            | Ending::FailEntry { .. }
            | Ending::SystemEvent { .. } => End::Crashed(ending),
            Ending::Ready
            | Ending::Unexpected { .. }
            | Ending::MemoryFault { .. }
            | Ending::MemoryGone { .. }
            | Ending::Panicked
            | Ending::Host { .. } => End::Failed(ending),
        }
    }
}

/// Times since the program was started, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// The first vCPU runs its first instruction.
    pub first_instruction_us: Option<u64>,
    /// The guest is about to run its first ring-3 instruction.
    pub first_ring3_us: Option<u64>,
    /// The guest's first program starts.
    pub program_start_us: Option<u64>,
    /// The first line on the console.
    pub first_line_us: Option<u64>,
    /// The first line on the console after the program had started.
    pub first_program_line_us: Option<u64>,
    /// The end.
    pub end_us: u64,
}

/// One disk's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskStats {
    /// The engine in use.
    pub engine: &'static str,
    /// Read requests.
    pub reads: u64,
    /// Write requests.
    pub writes: u64,
    /// Flush requests.
    pub flushes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Requests that a rule let fail, come late, or be carried out in part.
    pub faults: u64,
    /// Kicks taken.
    pub kicks: u64,
    /// Interrupts raised.
    pub interrupts: u64,
}

/// Every figure of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Exits by kind.
    pub exits: BTreeMap<&'static str, u64>,
    /// Exits in all.
    pub exits_total: u64,
    /// Times.
    pub times: Times,
    /// Injection, where there were rules.
    pub faults: Option<FaultCounters>,
    /// How pages were taken away.
    pub mechanism: Option<&'static str>,
    /// The guest's own counters by name, where it registered them.
    pub guest: BTreeMap<&'static str, u64>,
    /// Ring-0 instructions of operations, where the guest had them counted.
    pub costs: Vec<Cost>,
    /// Disks.
    pub disks: Vec<DiskStats>,
    /// Accesses to addresses without a device, or refused by one.
    pub refused_accesses: u64,
    /// Bytes the guest printed.
    pub console_bytes: u64,
}

/// The state of all counters at a moment that the guest marked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Words of the guest's counters page.
    pub guest: Vec<u64>,
    /// Injection.
    pub faults: FaultCounters,
}

impl Snapshot {
    /// One of the guest's counters.
    pub fn guest(&self, counter: Counter) -> Option<u64> {
        self.guest.get(counter as usize).copied()
    }
}

/// An event that the guest signalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestEvent {
    /// Which ([`refault_abi::doorbell::event`]).
    pub code: u32,
    /// What belongs to it.
    pub value: u32,
    /// Since the machine was started.
    pub at: Duration,
    /// The counters then, for events that begin or end something.
    pub snapshot: Option<Box<Snapshot>>,
}

/// Everything about a machine that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Its figures.
    pub stats: Stats,
    /// Texts the guest reported, in order.
    pub reports: Vec<String>,
    /// Events the guest signalled, in order.
    pub events: Vec<GuestEvent>,
    /// Faults one by one, as far as they were kept.
    pub faults: Vec<FaultEvent>,
}

/// The guest's counters page as names and values, without those that are zero.
pub fn named_counters(words: &[u64]) -> BTreeMap<&'static str, u64> {
    GUEST_COUNTERS
        .iter()
        .filter_map(|&(counter, name)| Some((name, *words.get(counter as usize)?)))
        .filter(|&(_, value)| value != 0)
        .collect()
}
