//! What a probe finds, and what later probes may build on.
//!
//! A probe answers with one [`Finding`]: a state, a sentence, advice where something can be done, and at most
//! one [`Fact`] for the decision in [`super::uses`]. The one thing to hold in mind: `limited` means that it
//! works in another way or more slowly and the program copes; `missing` means that it does not work.

use serde::Serialize;

/// How well something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As on a host with hardware virtualisation and a current kernel.
    Ok,
    /// Differently, or slowly.
    Limited,
    /// Not at all.
    Missing,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How well it works.
    pub state: State,
    /// What was seen, with numbers.
    pub detail: String,
    /// What the user can do about it.
    pub advice: Option<String>,
    /// What the decision may rest on.
    pub fact: Option<Fact>,
}

impl Finding {
    /// It works.
    pub fn ok(detail: impl Into<String>) -> Self {
        Self { state: State::Ok, detail: detail.into(), advice: None, fact: None }
    }

    /// It works with a difference that `detail` states.
    pub fn limited(detail: impl Into<String>) -> Self {
        Self { state: State::Limited, ..Self::ok(detail) }
    }

    /// It does not work.
    pub fn missing(detail: impl Into<String>) -> Self {
        Self { state: State::Missing, ..Self::ok(detail) }
    }

    /// With advice.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// With a fact.
    pub fn knowing(mut self, fact: Fact) -> Self {
        self.fact = Some(fact);
        self
    }
}

/// One thing that a probe established.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fact {
    /// A virtual machine can be made.
    Kvm,
    /// Nanoseconds per ring-0 instruction.
    Ring0(f64),
    /// SYSCALL enters ring 0.
    Syscall,
    /// INT3 enters ring 0 and comes back.
    Int3,
    /// UFFDIO_POISON stops a ring-3 access exactly.
    Poison,
    /// PROT_NONE stops a ring-3 access.
    ProtNone,
    /// PROT_READ stops a ring-3 write and no read.
    ProtRead,
    /// A #PF injected at a trap in ring 3 arrives, and the access lands once afterwards.
    Reflect,
    /// The in-kernel interrupt controller delivers.
    Irqchip,
    /// io_uring completes a request.
    IoUring,
}

/// Everything established so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Facts {
    /// A virtual machine can be made.
    pub kvm: bool,
    /// Nanoseconds per ring-0 instruction, where measured.
    pub ring0_ns: Option<f64>,
    /// SYSCALL works.
    pub syscall: bool,
    /// INT3 works.
    pub int3: bool,
    /// UFFDIO_POISON works.
    pub poison: bool,
    /// PROT_NONE works.
    pub prot_none: bool,
    /// PROT_READ works.
    pub prot_read: bool,
    /// Reflecting a trap works.
    pub reflect: bool,
    /// The in-kernel interrupt controller works.
    pub irqchip: bool,
    /// io_uring works.
    pub io_uring: bool,
}

impl Facts {
    /// Adds one.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Kvm => self.kvm = true,
            Fact::Ring0(ns) => self.ring0_ns = Some(ns),
            Fact::Syscall => self.syscall = true,
            Fact::Int3 => self.int3 = true,
            Fact::Poison => self.poison = true,
            Fact::ProtNone => self.prot_none = true,
            Fact::ProtRead => self.prot_read = true,
            Fact::Reflect => self.reflect = true,
            Fact::Irqchip => self.irqchip = true,
            Fact::IoUring => self.io_uring = true,
        }
    }
}
