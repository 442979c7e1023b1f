//! A trap as a value, whatever it looked like to the host, and the log line that becomes of it.
//!
//! A pending SIGBUS, a KVM_RUN that fails with a bare EFAULT, and an MMIO exit on an address that is RAM are the same event: one
//! processor was stopped by a page that is away. Whoever decides sees only this.

use std::time::Instant;

use refault_abi::doorbell::access;
use serde::Serialize;

use super::rule::{AccessKind, Side};

/// What the host noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// A pending SIGBUS.
    #[default]
    BusError,
    /// KVM_RUN failed.
    RunFailed,
    /// Code that the host interprets was handed over as MMIO.
    Interpreted,
}

/// Vector of the exception by which a guest is told of a page that is away.
pub const PAGE_FAULT: u8 = 14;
/// Vector of the one by which it is told of a page that is lost.
pub const MACHINE_CHECK: u8 = 18;

/// A touch of a page that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Guest physical address; of the page only, where the instruction could not be understood.
    pub gpa: u64,
    /// Guest virtual address; `None` where the instruction could not be understood.
    pub gva: Option<u64>,
    /// Bits of [`refault_abi::doorbell::access`], as far as known.
    pub access: u32,
    /// The stopped instruction.
    pub rip: u64,
    /// Privilege level it runs at.
    pub cpl: u8,
    /// Processor.
    pub vcpu: u8,
    /// What the host noticed.
    pub via: Via,
    /// When.
    pub at: Instant,
    /// Exceptions that can be delivered now, at this instruction, so that it can be repeated exactly afterwards: those with vectors
    /// below this, for which the guest has gates. 0 if none can.
    pub vectors: u16,
}

impl Trap {
    /// The guest virtual address, if this exception can be delivered for it.
    pub fn deliverable(&self, vector: u8) -> Option<u64> {
        self.gva.filter(|_| u16::from(vector) < self.vectors)
    }

    /// Reading or writing; `None` where that is not known.
    pub fn kind(&self) -> Option<AccessKind> {
        self.gva?;
        Some(if self.access & access::WRITE != 0 { AccessKind::Write } else { AccessKind::Read })
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The guest got a page fault.
    #[default]
    Reflected,
    /// The access was let through.
    Resolved,
    /// The access was let through later.
    Delayed,
    /// The guest got a machine check.
    Poisoned,
}

/// One line of the fault log. Times are nanoseconds since the machine was started, or put back to its ready mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FaultEvent {
    /// Number of the trap that the guest was told of; 0 for one that it was not.
    pub sequence: u64,
    /// What was decided.
    pub answer: Answer,
    /// Guest physical address.
    pub gpa: u64,
    /// Guest virtual address; 0 where it is not known.
    pub gva: u64,
    /// The stopped instruction.
    pub rip: u64,
    /// Whether the access was a write.
    pub write: bool,
    /// Whether it was an instruction fetch.
    pub fetch: bool,
    /// Whether it came from ring 3.
    pub user: bool,
    /// Privilege level.
    pub cpl: u8,
    /// Processor.
    pub vcpu: u8,
    /// What the host noticed.
    pub via: Via,
    /// How the page had been taken away.
    pub mechanism: &'static str,
    /// Operation of the site that had armed the page. This and the next five are 0 or none where there was no site: where the guest
    /// itself had asked, or a rule of physical addresses.
    pub operation: u16,
    /// Request number of that site.
    pub request: u32,
    /// Attempt of that site.
    pub attempt: u16,
    /// Copying call of that site.
    pub copy: u32,
    /// Page of that site.
    pub page: u32,
    /// Whose memory.
    pub side: Option<Side>,
    /// The processor's exit reached the monitor.
    pub exit_ns: u64,
    /// The decision was made.
    pub decided_ns: u64,
    /// The processor was let go on; 0 if it never was.
    pub resumed_ns: u64,
    /// The guest asked for the page back; 0 if it never did.
    pub back_ns: u64,
}
