//! `refault doctor`: what this host can do, found out by doing it.
//!
//! Each item is probed with a micro-guest or a system call of its own, never concluded from a name or a
//! capability flag. The one thing to hold in mind: probes are independent and bounded in time; whatever one of
//! them meets, the others still run and the report is complete.
//!
//! | module | idea |
//! |---|---|
//! | [`microguest`] | a virtual machine of a dozen instructions, run to its next event |
//! | [`device`], [`cpu`], [`traps`], [`away`], [`events`], [`system`] | the probes |
//! | [`finding`], [`uses`] | what a probe says, and the decision that follows |
//! | [`host`] | the part of the report that other documents carry too |
//! | [`advice`], [`render`], [`command`] | words for the user |

pub mod advice;
mod away;
pub mod command;
mod cpu;
mod device;
mod events;
pub mod finding;
pub mod host;
pub mod microguest;
pub mod render;
mod system;
mod traps;
pub mod uses;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use kvm_ioctls::Kvm;
use serde::Serialize;

use crate::host::open_kvm;

use self::finding::{Facts, Finding, State};
use self::host::Host;
use self::microguest::LabError;
use self::uses::{Uses, Verdict};

/// Version of the JSON document.
pub const SCHEMA: &str = "refault.doctor/1";

/// What a probe says that needs /dev/kvm and cannot have it.
pub const NOT_TRIED: &str = "not tried: /dev/kvm cannot be used";

/// Longest time one probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// How a probe is called.
#[derive(Clone, Copy)]
enum Run {
    /// Needs nothing.
    Host(fn() -> Finding),
    /// Needs /dev/kvm.
    Guest(fn(&Kvm) -> Result<Finding, LabError>),
}

/// All probes, in the order of the report.
const PROBES: [(&str, Run); 31] = [
    ("host", Run::Host(system::kernel)),
    ("memory", Run::Host(system::memory)),
    ("huge-pages", Run::Host(system::huge_pages)),
    ("kvm-device", Run::Host(device::open)),
    ("kvm-api", Run::Host(device::api)),
    ("kvm-machine", Run::Guest(device::machine)),
    ("processors", Run::Guest(cpu::processors)),
    ("ring0-speed", Run::Guest(cpu::ring0)),
    ("ring3-speed", Run::Guest(cpu::ring3)),
    ("syscall", Run::Guest(traps::syscall)),
    ("int-n", Run::Guest(traps::int_n)),
    ("int3", Run::Guest(traps::int3)),
    ("userfaultfd", Run::Host(system::userfaultfd)),
    ("poison-ring3", Run::Guest(away::poison_ring3)),
    ("poison-ring0", Run::Guest(away::poison_ring0)),
    ("prot-none", Run::Guest(away::prot_none)),
    ("prot-read", Run::Guest(away::prot_read)),
    ("write-protect", Run::Guest(away::write_protect)),
    ("reflect-ring3", Run::Guest(away::reflect_ring3)),
    ("reflect-ring0", Run::Guest(away::reflect_ring0)),
    ("irqchip", Run::Guest(events::irqchip)),
    ("irqfd", Run::Guest(events::irqfd)),
    ("ioeventfd", Run::Guest(events::ioeventfd)),
    ("apic-timer", Run::Guest(events::apic_timer)),
    ("sync-regs", Run::Guest(events::sync_regs)),
    ("immediate-exit", Run::Guest(events::immediate_exit)),
    ("kick", Run::Guest(events::kick)),
    ("tsc", Run::Guest(cpu::tsc)),
    ("no-execute", Run::Guest(cpu::no_execute)),
    ("cpuid", Run::Guest(cpu::features)),
    ("io_uring", Run::Host(system::io_uring)),
];

/// Optional extras, after the rest.
const EXTRAS: [(&str, Run); 1] = [("minix-tools", Run::Host(system::minix_tools))];

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was probed.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// The same with the middle value.
    pub state: State,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// The whole report; serialises to the JSON document.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Which host.
    pub host: Host,
    /// What was found.
    pub probes: Vec<Probe>,
    /// What will be used.
    pub uses: Uses,
    /// What the verdict rests on.
    #[serde(skip)]
    pub facts: Facts,
}

impl Report {
    /// What guests can do here.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.facts)
    }
}

/// Runs all probes.
pub fn examine() -> Report {
    let mut facts = Facts::default();
    let mut probes = Vec::new();
    for (name, run) in PROBES.into_iter().chain(EXTRAS) {
        let finding = bounded(run, PROBE_LIMIT);
        if let Some(fact) = finding.fact {
            facts.learn(fact);
        }
        let Finding { state, detail, advice, .. } = finding;
        probes.push(Probe { name, ok: state == State::Ok, state, detail, advice });
    }
    Report { schema: SCHEMA, host: Host::with(&facts), probes, uses: Uses::decide(&facts), facts }
}

/// Only what [`Host`] and [`Uses`] need.
fn facts_for_host() -> Facts {
    let wanted = [
        "kvm-machine",
        "ring0-speed",
        "syscall",
        "int3",
        "poison-ring3",
        "prot-none",
        "prot-read",
        "io_uring",
    ];
    let mut facts = Facts::default();
    for (_, run) in PROBES.into_iter().filter(|(name, _)| wanted.contains(name)) {
        if let Some(fact) = bounded(run, PROBE_LIMIT).fact {
            facts.learn(fact);
        }
    }
    facts
}

/// Runs one probe in a thread of its own: its signals, its alarm and its misfortunes are its own.
fn bounded(run: Run, limit: Duration) -> Finding {
    let (sender, receiver) = mpsc::channel();
    let spawned = std::thread::Builder::new().name("doctor".into()).spawn(move || {
        // Nobody listens any more only if this took too long, which is already reported.
        let _ = sender.send(perform(run));
    });
    if let Err(error) = spawned {
        return Finding::missing(format!("not tried: no thread could be started ({error})"));
    }
    match receiver.recv_timeout(limit) {
        Ok(finding) => finding,
        Err(RecvTimeoutError::Timeout) => Finding::missing(format!("no answer within {} s", limit.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Finding::missing("the probe itself failed"),
    }
}

fn perform(run: Run) -> Finding {
    let guest = match run {
        Run::Host(probe) => return probe(),
        Run::Guest(probe) => probe,
    };
    let Ok(kvm) = open_kvm() else {
        return Finding::missing(NOT_TRIED);
    };
    guest(&kvm).unwrap_or_else(|error| Finding::missing(error.to_string()))
}

#[cfg(test)]
mod tests;
