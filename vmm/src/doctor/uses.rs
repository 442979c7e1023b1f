//! From what was found to what will be used. Pure.

use serde::Serialize;

use super::finding::Facts;

/// Nanoseconds per instruction from which ring 0 counts as interpreted. Hardware needs well under 5, a
/// host that is itself emulated some 5, an interpreting KVM about 1000: there is nothing near the limit.
pub const INTERPRETED_FROM_NS: f64 = 50.0;

/// How ring-0 instructions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ring0 {
    /// By the processor.
    Native,
    /// One by one by KVM's instruction emulator.
    Interpreted,
    /// Could not be measured.
    Unknown,
}

impl Ring0 {
    /// Classifies a measured time per instruction.
    pub fn of(ns: Option<f64>) -> Self {
        match ns {
            Some(ns) if ns >= INTERPRETED_FROM_NS => Ring0::Interpreted,
            Some(_) => Ring0::Native,
            None => Ring0::Unknown,
        }
    }

    /// The word used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Ring0::Native => "native",
            Ring0::Interpreted => "interpreted",
            Ring0::Unknown => "unknown",
        }
    }
}

/// How a guest page is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Mechanism {
    /// UFFDIO_POISON: the trap says which page.
    #[serde(rename = "UFFDIO_POISON")]
    Poison,
    /// mprotect: the trap says that some page was touched.
    #[serde(rename = "PROT_NONE")]
    ProtNone,
    /// mprotect: writes stop, reads go on.
    #[serde(rename = "PROT_READ")]
    ProtRead,
    /// Not at all.
    #[serde(rename = "none")]
    None,
}

impl Mechanism {
    /// The word used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Poison => "UFFDIO_POISON",
            Mechanism::ProtNone => "PROT_NONE",
            Mechanism::ProtRead => "PROT_READ",
            Mechanism::None => "none",
        }
    }
}

/// How block requests are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Engine {
    /// io_uring.
    #[serde(rename = "io_uring")]
    IoUring,
    /// A pool of threads.
    #[serde(rename = "threads")]
    Threads,
}

impl Engine {
    /// The word used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::IoUring => "io_uring",
            Engine::Threads => "threads",
        }
    }
}

/// How a guest process calls its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TrapInstruction {
    /// SYSCALL.
    #[serde(rename = "SYSCALL")]
    Syscall,
    /// INT3.
    #[serde(rename = "INT3")]
    Int3,
    /// Neither works.
    #[serde(rename = "none")]
    None,
}

impl TrapInstruction {
    /// The word used in reports.
    pub fn name(self) -> &'static str {
        match self {
            TrapInstruction::Syscall => "SYSCALL",
            TrapInstruction::Int3 => "INT3",
            TrapInstruction::None => "none",
        }
    }
}

/// What will be used on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Uses {
    /// How pages are taken away.
    pub mechanism: Mechanism,
    /// How, where a rule wants writes alone to stop (`access=write`).
    pub writes: Mechanism,
    /// The block engine.
    pub engine: Engine,
    /// The system call instruction.
    pub trap_instruction: TrapInstruction,
}

impl Uses {
    /// The decision.
    pub fn decide(facts: &Facts) -> Self {
        let mechanism = match (facts.poison, facts.prot_none) {
            (true, _) => Mechanism::Poison,
            (false, true) => Mechanism::ProtNone,
            (false, false) => Mechanism::None,
        };
        let trap_instruction = match (facts.syscall, facts.int3) {
            (true, _) => TrapInstruction::Syscall,
            (false, true) => TrapInstruction::Int3,
            (false, false) => TrapInstruction::None,
        };
        let engine = if facts.io_uring { Engine::IoUring } else { Engine::Threads };
        let writes = if facts.prot_read { Mechanism::ProtRead } else { Mechanism::None };
        Self { mechanism, writes, engine, trap_instruction }
    }
}

/// What a guest can do on this host, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No guest runs.
    NoGuest,
    /// Guests run, but their pages cannot be taken away.
    NoInjection,
    /// Everything needed is there.
    Ready,
}

impl Verdict {
    /// The command's exit code: 0 ready, 3 no injection, 4 no guest.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Ready => 0,
            Verdict::NoInjection => 3,
            Verdict::NoGuest => 4,
        }
    }

    /// The verdict on what was found.
    pub fn of(facts: &Facts) -> Self {
        let uses = Uses::decide(facts);
        if !facts.kvm || !facts.irqchip || uses.trap_instruction == TrapInstruction::None {
            Verdict::NoGuest
        } else if uses.mechanism == Mechanism::None || !facts.reflect {
            Verdict::NoInjection
        } else {
            Verdict::Ready
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Facts {
        Facts {
            kvm: true,
            ring0_ns: Some(0.3),
            syscall: true,
            int3: true,
            poison: true,
            prot_none: true,
            prot_read: true,
            reflect: true,
            irqchip: true,
            io_uring: true,
        }
    }

    #[test]
    fn the_three_kinds_of_host_are_classified() {
        assert_eq!(Ring0::of(Some(0.3)), Ring0::Native);
        assert_eq!(Ring0::of(Some(4.5)), Ring0::Native);
        assert_eq!(Ring0::of(Some(1000.0)), Ring0::Interpreted);
        assert_eq!(Ring0::of(None), Ring0::Unknown);
    }

    #[test]
    fn the_best_that_works_is_used() {
        let best = Uses::decide(&all());
        assert_eq!(
            (best.mechanism, best.engine, best.trap_instruction),
            (Mechanism::Poison, Engine::IoUring, TrapInstruction::Syscall)
        );
        assert_eq!(best.writes, Mechanism::ProtRead);
        assert_eq!(Uses::decide(&Facts { prot_read: false, ..all() }).writes, Mechanism::None);
        let second = Uses::decide(&Facts { poison: false, syscall: false, io_uring: false, ..all() });
        assert_eq!(
            (second.mechanism, second.engine, second.trap_instruction),
            (Mechanism::ProtNone, Engine::Threads, TrapInstruction::Int3)
        );
        let none = Uses::decide(&Facts::default());
        assert_eq!((none.mechanism, none.trap_instruction), (Mechanism::None, TrapInstruction::None));
    }

    #[test]
    fn the_verdict_names_what_is_possible() {
        assert_eq!(Verdict::of(&all()), Verdict::Ready);
        assert_eq!(Verdict::of(&Facts { syscall: false, ..all() }), Verdict::Ready);
        assert_eq!(Verdict::of(&Facts { poison: false, ..all() }), Verdict::Ready);
        assert_eq!(Verdict::of(&Facts { poison: false, prot_none: false, ..all() }), Verdict::NoInjection);
        assert_eq!(Verdict::of(&Facts { reflect: false, ..all() }), Verdict::NoInjection);
        assert_eq!(Verdict::of(&Facts { syscall: false, int3: false, ..all() }), Verdict::NoGuest);
        assert_eq!(Verdict::of(&Facts { irqchip: false, ..all() }), Verdict::NoGuest);
        assert_eq!(Verdict::of(&Facts::default()), Verdict::NoGuest);
    }
}
