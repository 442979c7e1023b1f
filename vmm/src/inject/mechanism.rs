//! The way a page is made to go away, and what a touch of it looks like.
//!
//! One trait, two implementations: [`super::poison`] where userfaultfd is allowed, [`super::protnone`] elsewhere.
//! The one thing to hold in mind: a mechanism works on the vCPU view and keeps no book; which pages are away and
//! why is the injector's knowledge.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use crate::memory::GuestRam;

use super::poison::Poison;
use super::protnone::ProtNone;

/// What a vCPU thread noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// SIGBUS with this host virtual address.
    BusError {
        /// Address in the vCPU view.
        hva: u64,
    },
    /// KVM_RUN failed to reach guest memory; some kernels say where.
    RunFailed {
        /// Guest physical address.
        gpa: Option<u64>,
    },
    /// An access of code that the host interprets failed and was handed over as MMIO.
    Interpreted {
        /// Guest physical address.
        gpa: u64,
    },
}

/// Where a noticed touch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapPage {
    /// In the page at this guest physical address.
    Known(u64),
    /// In one of the pages that are away; the stopped instruction has to tell which.
    Unknown,
    /// Not this mechanism's doing.
    NotMine,
}

/// Pages away at once, where nothing else is said.
pub const AWAY_LIMIT: usize = 16_384;

/// A way to take pages away.
pub trait Mechanism: Debug + Send + Sync {
    /// Name in reports.
    fn name(&self) -> &'static str;

    /// Takes away the page at guest physical address `page`. From the return on, each touch through the vCPU view
    /// stops its vCPU.
    fn arm(&self, page: u64) -> io::Result<()>;

    /// Lets it come back, with the bytes that the device view shows.
    fn disarm(&self, page: u64) -> io::Result<()>;

    /// How many pages may be away at once. Where pages are taken away by protection, each may split a mapping in two, and a process
    /// may have 65530 of them (`vm.max_map_count`): without a limit a guest could leave none for the monitor itself.
    fn most(&self) -> usize {
        AWAY_LIMIT
    }

    /// Which page a notice is about.
    fn trapped(&self, notice: Notice) -> TrapPage;
}

/// The mechanism that was asked for, by its name in the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// The best one that works.
    #[default]
    Best,
    /// UFFDIO_POISON or nothing.
    Poison,
    /// PROT_NONE.
    ProtNone,
}

/// No mechanism works.
#[derive(Debug, thiserror::Error)]
pub enum MechanismError {
    /// Poisoning was asked for and does not work.
    #[error("pages cannot be taken away by UFFDIO_POISON: {0}")]
    Poison(#[from] super::uffd::UffdError),
    /// A page was armed on trial and the host refused.
    #[error("a page could not be taken away on trial by {name}: {source}")]
    Trial {
        /// The mechanism.
        name: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

/// Sets up a mechanism for `ram`, having armed and disarmed a page of it on trial.
pub fn choose(ram: &Arc<GuestRam>, wanted: Wanted) -> Result<Box<dyn Mechanism>, MechanismError> {
    let poison =
        || -> Result<Box<dyn Mechanism>, MechanismError> { trial(Box::new(Poison::new(ram.clone())?)) };
    let protnone = || trial(Box::new(ProtNone::new(ram.clone())));
    match wanted {
        Wanted::Poison => poison(),
        Wanted::ProtNone => protnone(),
        Wanted::Best => poison().or_else(|why| {
            tracing::warn!("falling back to PROT_NONE: {why}");
            protnone()
        }),
    }
}

fn trial(mechanism: Box<dyn Mechanism>) -> Result<Box<dyn Mechanism>, MechanismError> {
    let page = 0;
    match mechanism.arm(page).and_then(|()| mechanism.disarm(page)) {
        Ok(()) => Ok(mechanism),
        Err(source) => Err(MechanismError::Trial { name: mechanism.name(), source }),
    }
}
