//! What all threads of one machine share.
//!
//! Everything here is either fixed before the first vCPU runs or atomic. The one thing to hold in mind: the
//! machine owns no thread; [`super::assemble`] makes the parts and the handle owns the threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use refault_devices::bus::Bus;

use crate::inject::Injector;
use crate::memory::GuestRam;
use crate::vcpu::exit::ExitKind;
use crate::vcpu::measure::Tallies;

use super::action::Action;

/// Exits by kind, over all vCPUs.
#[derive(Debug, Default)]
pub struct Counters {
    by_kind: [AtomicU64; ExitKind::ALL.len()],
}

impl Counters {
    /// Counts one exit.
    pub fn count(&self, kind: ExitKind) {
        if let Some(counter) = self.by_kind.get(kind as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Exits of `kind` so far.
    pub fn get(&self, kind: ExitKind) -> u64 {
        self.by_kind.get(kind as usize).map_or(0, |c| c.load(Relaxed))
    }
}

/// The shared part of a machine.
#[derive(Debug)]
pub struct Machine {
    /// Guest RAM.
    pub ram: Arc<GuestRam>,
    /// Port devices.
    pub ports: Bus<Action>,
    /// Memory-mapped devices.
    pub mmio: Bus<Action>,
    /// The injector, where there are rules.
    pub injector: Option<Arc<Injector>>,
    /// What happened so far.
    pub counters: Counters,
    /// What measured operations cost in ring 0.
    pub tallies: Tallies,
    stopping: AtomicBool,
    stops_when_ready: AtomicBool,
}

impl Machine {
    /// A machine that has not started.
    pub fn new(
        ram: Arc<GuestRam>,
        ports: Bus<Action>,
        mmio: Bus<Action>,
        injector: Option<Arc<Injector>>,
    ) -> Self {
        Self {
            ram,
            ports,
            mmio,
            injector,
            counters: Counters::default(),
            tallies: Tallies::default(),
            stopping: AtomicBool::new(false),
            stops_when_ready: AtomicBool::new(false),
        }
    }

    /// Whether the machine stops when the guest says that it is ready. It did not until now.
    pub fn stop_when_ready(&self, whether: bool) {
        self.stops_when_ready.store(whether, SeqCst);
    }

    /// Whether it does.
    pub fn stops_when_ready(&self) -> bool {
        self.stops_when_ready.load(SeqCst)
    }

    /// Takes back that the machine is to end. No vCPU runs.
    pub fn resume(&self) {
        self.stopping.store(false, SeqCst);
    }

    /// Asks every thread to end; a vCPU in the guest has to be kicked besides.
    pub fn stop(&self) {
        self.stopping.store(true, SeqCst);
        // Whoever holds an access up has no kick to hear.
        if let Some(injector) = &self.injector {
            injector.interrupt();
        }
    }

    /// Whether the machine is to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }
}
