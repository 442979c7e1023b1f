//! A session, as an async handle: a machine that is booted once, and put back to its ready mark before each run.
//!
//! ```text
//!   boot ──▶ ready mark ──▶ take: memory, processors, interrupt controllers, devices, doorbell, injector
//!                              │
//!                ┌─────────────┴─────────────┐
//!                ▼                           │
//!   put back ▶ rules, argument ▶ run ▶ end ▶ stop, let disks come to rest, look at everything
//! ```
//!
//! The one thing to hold in mind: what a run leaves behind must not be seen by the next. Whatever a guest can change is either put
//! back here or not there at all (no network, no clock but the processor's); a test compares all of memory.
//!
//! What this is not: copy-on-write of a running machine. Nothing is taken while the guest runs, and one session is one machine; who
//! wants to go faster has several.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip};
use kvm_ioctls::{Kvm, VmFd};

use crate::doorbell::Registers;
use crate::host::open_kvm;
use crate::inject::Injector;
use crate::inject::injector::Registered;
use crate::inject::mechanism::Wanted;
use crate::inject::reach::{Reach, ReachError};
use crate::vcpu::thread::Vcpu;
use crate::vm::End;
use crate::vm::assemble::AssembleError;
use crate::vm::config::{Config, Console, Disk};
use crate::vm::console::Capture;
use crate::vm::devices::plan_faults;
use crate::vm::ending::Ending;
use crate::vm::news::{Heard, News};
use crate::vm::parts::Parts;

use super::devices::{self, DeviceError, DeviceStates};
use super::memory::MemoryImage;
use super::parking::Parked;
use super::processor::{StateError, failed, kept_msrs};
use super::run::{Ran, Run};
use super::shadows::{self, Shadows};

/// How long a guest may take to become ready, where the configuration does not say.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Why there is no session, or no more.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The machine could not be put together.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The guest did not become ready.
    #[error("the guest did not say that it is ready ({how}); the end of its console:\n{console}")]
    NotReady {
        /// What happened instead.
        how: String,
        /// What it had printed.
        console: String,
    },
    /// A device had work in flight when the guest said that it was ready.
    #[error("the guest said that it is ready while {0}; it has to wait for its devices first")]
    NotAtRest(String),
    /// A device could not be put back.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The host's KVM failed in the middle.
    #[error("the machine could not be put back: {0}")]
    State(#[from] StateError),
    /// This host cannot carry out the rules of a run; the session is as good as before.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// A trial that decides how to put a machine back failed.
    #[error("it could not be found out how this host has to be used: {0}")]
    Trial(#[from] crate::doctor::microguest::LabError),
}

/// What was taken at the ready mark, besides processors and memory.
struct Mark {
    devices: DeviceStates,
    chips: [kvm_irqchip; 3],
    registers: Registers,
    registered: Registered,
    guest: Arc<[u64]>,
}

/// See the [module documentation](self).
pub struct Session {
    // Dropped in this order: threads first, then what they used.
    processors: Vec<Parked>,
    parts: Parts,
    injector: Arc<Injector>,
    memory: MemoryImage,
    shadows: Option<Shadows>,
    kvm: Kvm,
    mechanism: Wanted,
    reach: Reach,
    mark: Mark,
    console: Capture,
    /// Whether a run has been made since the machine was last as at the ready mark.
    used: bool,
}

impl Session {
    /// Boots a machine up to its ready mark. Its console and its rules are the session's own business, and its disks are overlays, so
    /// that no image is ever written; `config.timeout` is how long the boot may take.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn boot(config: Config) -> Result<Self, SessionError> {
        let kvm = open_kvm().map_err(AssembleError::from)?;
        let shadowed = shadows::needed(&kvm)?;
        let console = Capture::default();
        let mechanism = config.mechanism;
        let limit = config.timeout.unwrap_or(BOOT_LIMIT);
        let disks = config.disks.into_iter().map(|disk| Disk { overlay: true, ..disk }).collect();
        let mut parts = Parts::make(Config {
            session: true,
            disks,
            console: Console { output: Box::new(console.clone()), input: None },
            ..config
        })?;
        let shadows = match shadowed {
            true => Some(Shadows::new(&parts.vm)?),
            false => None,
        };
        let msrs: Arc<[u32]> = kept_msrs(&kvm).into();
        let mut processors = Vec::new();
        for (index, fd) in (0..=u8::MAX).zip(std::mem::take(&mut parts.vcpus)) {
            let vcpu = Vcpu::new(fd, index, parts.machine.clone(), parts.run_page_size);
            let parked = Parked::new(vcpu, format!("vcpu{index}"), parts.tell.clone(), msrs.clone());
            processors.push(parked.map_err(AssembleError::io("a vCPU thread"))?);
        }
        // A session always has an injector; see `Config::session`.
        let no_injector =
            || StateError { call: "the injector", source: kvm_ioctls::Error::new(libc::ENODEV) };
        let injector = parts.machine.injector.clone().ok_or_else(no_injector)?;
        parts.machine.stop_when_ready(true);
        let mut told = News::default();
        go(&mut processors)?;
        let heard = told.until_end(&mut parts.news, Some((limit, (Instant::now() + limit).into()))).await;
        stop(&parts, &mut processors)?;
        told.catch_up(&mut parts.news);
        if heard != Heard::Ended(Ending::Ready) {
            let how = crate::cli::report::describe(&told.end(heard)).2;
            return Err(SessionError::NotReady { how, console: console.text() });
        }
        parts.machine.stop_when_ready(false);
        if let Some(what) = devices::unfinished(&parts.disks).into_iter().next() {
            return Err(SessionError::NotAtRest(what));
        }
        // Devices before processors: what they have signalled by then is in the interrupt controllers that are taken.
        let states = DeviceStates::take(&parts.serial, &parts.disks);
        parts.lines.settle(&parts.vm).map_err(failed("KVM_IRQFD"))?;
        for processor in &processors {
            processor.take()?;
        }
        let mark = Mark {
            devices: states,
            chips: take_chips(&parts.vm)?,
            registers: parts.doorbell.registers(),
            registered: injector.registered(),
            guest: parts.doorbell.guest_counters().into(),
        };
        let memory = MemoryImage::take(&parts.vm, parts.machine.ram.clone())?;
        Ok(Self {
            processors,
            parts,
            injector,
            memory,
            shadows,
            kvm,
            mechanism,
            reach: Reach::default(),
            mark,
            console,
            used: false,
        })
    }

    /// How pages are taken away in it.
    pub fn mechanism(&self) -> &'static str {
        self.injector.mechanism()
    }

    /// The kernel command line that the guest was given.
    pub fn command_line(&self) -> &str {
        &self.parts.command_line
    }

    /// Puts the machine back, if it has run, and runs it with what `run` says.
    ///
    /// # Errors
    /// [`SessionError::Reach`] where the host cannot do what the rules say. Otherwise the host failed, and the session is of no use any
    /// more.
    pub async fn run(&mut self, run: Run) -> Result<Ran, SessionError> {
        self.reach.check(&self.kvm, self.mechanism, &run.rules)?;
        let begun = Instant::now();
        if std::mem::replace(&mut self.used, true) {
            self.put_back()?;
        }
        self.console.clear();
        self.parts.doorbell.begin(&self.mark.registers, run.argument);
        self.injector.restart(&run.rules, &self.mark.registered, run.log_sites, run.seed);
        plan_faults(&self.parts.disks, &run.rules, run.seed);
        let disk_faults = devices::faults(&self.parts.disks);
        self.parts.machine.resume();
        let running = Instant::now();
        go(&mut self.processors)?;
        let deadline = run.timeout.and_then(|limit| Some((limit, running.checked_add(limit)?.into())));
        let mut told = News::default();
        let heard = told.until_end(&mut self.parts.news, deadline).await;
        let ended = Instant::now();
        stop(&self.parts, &mut self.processors)?;
        told.catch_up(&mut self.parts.news);
        let end = told.end(heard);
        let unfinished = match end {
            End::Exited(_) => devices::unfinished(&self.parts.disks),
            // What was under way when a machine could not go on is nobody's fault.
            _ => Vec::new(),
        };
        let (counters, faults) = self.injector.finish();
        Ok(Ran {
            end,
            counters,
            faults,
            sites: self.injector.sites(),
            guest_before: self.mark.guest.clone(),
            guest_after: self.parts.doorbell.guest_counters(),
            reports: told.reports,
            events: told.events,
            console: self.console.text(),
            disks: devices::contents(&self.parts.disks),
            disk_faults: devices::faults(&self.parts.disks).saturating_sub(disk_faults),
            unfinished,
            restore: running - begun,
            took: ended - running,
        })
    }

    /// Puts everything back to the ready mark.
    fn put_back(&mut self) -> Result<(), SessionError> {
        self.mark.devices.park(&self.parts.disks);
        // An interrupt of the last run that is still under way would arrive in this one, through the processor's own controller.
        self.parts.lines.settle(&self.parts.vm).map_err(failed("KVM_IRQFD"))?;
        for processor in &self.processors {
            processor.put_back()?;
        }
        let done = self.memory.put_back(&self.parts.vm).and_then(|_| {
            if let Some(shadows) = &mut self.shadows {
                shadows.forget(&self.parts.vm)?;
            }
            Ok(())
        });
        for processor in &self.processors {
            processor.is_back()?;
        }
        done?;
        for chip in &self.mark.chips {
            self.parts.vm.set_irqchip(chip).map_err(failed("KVM_SET_IRQCHIP"))?;
        }
        self.mark.devices.put_back(&self.parts.serial, &self.parts.disks)?;
        Ok(())
    }

    /// Puts the machine back and says the first page that is then not as it was at the ready mark; for tests.
    ///
    /// # Errors
    /// The host failed.
    pub fn first_difference_when_put_back(&mut self) -> Result<Option<u64>, SessionError> {
        self.put_back()?;
        self.used = false;
        Ok(self.memory.first_difference())
    }
}

fn go(processors: &mut [Parked]) -> Result<(), StateError> {
    processors.iter_mut().try_for_each(Parked::go)
}

/// Stops all processors and waits until they have.
fn stop(parts: &Parts, processors: &mut [Parked]) -> Result<(), StateError> {
    parts.machine.stop();
    processors.iter().for_each(Parked::kick);
    processors.iter_mut().try_for_each(Parked::stopped)
}

impl Drop for Session {
    fn drop(&mut self) {
        self.parts.machine.stop();
    }
}

/// The states of the interrupt controllers in the kernel.
fn take_chips(vm: &VmFd) -> Result<[kvm_irqchip; 3], StateError> {
    let mut chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC]
        .map(|chip_id| kvm_irqchip { chip_id, ..Default::default() });
    for chip in &mut chips {
        vm.get_irqchip(chip).map_err(failed("KVM_GET_IRQCHIP"))?;
    }
    Ok(chips)
}
