//! The parts of a machine, put together and not yet running: what [`super::Vm`] and a session begin with.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvm_ioctls::{VcpuFd, VmFd};
use refault_devices::serial::Serial;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::doorbell::Doorbell;
use crate::host::open_kvm;
use crate::inject::physical::Surroundings;
use crate::inject::reach::Reach;
use crate::inject::rule::Span;
use crate::inject::{Injector, Rule, mechanism};
use crate::memory::GuestRam;

use super::assemble::{self, AssembleError};
use super::config::Config;
use super::console::ConsoleTimes;
use super::device_loop::DeviceLoop;
use super::devices::{Devices, DiskHandle, command_line, plan_faults};
use super::event::VmEvent;
use super::lines::Lines;
use super::machine::Machine;
use super::patience;

/// A machine whose device loop runs and whose processors do not.
pub struct Parts {
    /// The virtual machine. To be kept until no thread uses its processors.
    pub vm: VmFd,
    /// What all threads share.
    pub machine: Arc<Machine>,
    /// The doorbell.
    pub doorbell: Arc<Doorbell>,
    /// The serial line.
    pub serial: Arc<Serial>,
    /// Disks.
    pub disks: Vec<DiskHandle>,
    /// Interrupt lines of the devices.
    pub lines: Lines,
    /// When the console said something for the first time.
    pub console: Arc<ConsoleTimes>,
    /// What the machine tells.
    pub news: UnboundedReceiver<VmEvent>,
    /// The other end, for its threads.
    pub tell: UnboundedSender<VmEvent>,
    /// The device loop.
    pub device_loop: DeviceLoop,
    /// The kernel command line that the guest is given.
    pub command_line: String,
    /// Processors, one for each thread to come.
    pub vcpus: Vec<VcpuFd>,
    /// Size of a vCPU's run page.
    pub run_page_size: usize,
    /// The moment from which times are counted.
    pub started: Instant,
    /// How long the machine may run.
    pub timeout: Option<Duration>,
    /// Declared when the machine is told to end.
    pub ending: Option<patience::EndSignal>,
}

impl Parts {
    /// Makes them.
    ///
    /// # Errors
    /// Whatever the host or the configuration does not allow.
    pub fn make(config: Config) -> Result<Self, AssembleError> {
        let bare = assemble::bare(&config)?;
        let (tell, news) = unbounded_channel();
        let console = Arc::new(ConsoleTimes::new(config.started));
        let injector = injector(&config, &bare.ram)?;
        let doorbell = Arc::new(Doorbell::new(
            bare.ram.clone(),
            injector.clone(),
            config.cpus,
            config.started,
            console.clone(),
            tell.clone(),
        ));
        let mut devices = Devices::new(&bare.vm, config.console, console.clone())?;
        devices.add_doorbell(doorbell.clone())?;
        for disk in &config.disks {
            devices.add_disk(&bare.vm, &bare.ram, disk)?;
        }
        plan_faults(&devices.disks, &config.rules, config.seed.unwrap_or(0));
        let command_line = command_line(&devices.announcements, &config.command_line, &config.program)?;
        let kernel = bare.load(&config.kernel, config.image.as_deref(), &command_line)?;
        if let Some(injector) = &injector {
            injector.set_surroundings(surroundings(kernel, &devices.disks));
        }
        let machine = Arc::new(Machine::new(bare.ram.clone(), devices.ports, devices.mmio, injector));
        let device_loop =
            DeviceLoop::start(devices.subscribers).map_err(AssembleError::io("the device loop"))?;
        Ok(Self {
            vm: bare.vm,
            machine,
            doorbell,
            serial: devices.serial,
            disks: devices.disks,
            lines: devices.lines,
            console,
            news,
            tell,
            device_loop,
            command_line,
            vcpus: bare.vcpus,
            run_page_size: bare.run_page_size,
            started: config.started,
            timeout: config.timeout,
            ending: config.ending,
        })
    }
}

/// The injector, where there are rules or will be.
fn injector(config: &Config, ram: &Arc<GuestRam>) -> Result<Option<Arc<Injector>>, AssembleError> {
    if !config.rules.iter().any(Rule::is_about_memory) && !config.session {
        return Ok(None);
    }
    Reach::default().check(&open_kvm()?, config.mechanism, &config.rules)?;
    let mechanism = mechanism::choose(ram, config.mechanism)?;
    let seed = config.seed.unwrap_or(0);
    let writes = mechanism::for_writes(ram, mechanism.as_ref());
    let injector = Injector::new(ram.clone(), mechanism, config.cpus, &config.rules, seed);
    Ok(Some(Arc::new(injector.with_writes_by(writes))))
}

/// What rules have to know of the machine beside its memory.
fn surroundings(kernel: Vec<Range<u64>>, disks: &[DiskHandle]) -> Surroundings {
    let kernel = kernel.into_iter().filter(|part| !part.is_empty());
    let kernel = kernel.map(|part| Span { first: part.start, last: part.end - 1 }).collect();
    let devices: Vec<_> = disks.iter().map(|disk| disk.device.clone()).collect();
    let interrupts: Vec<_> = devices.iter().map(|device| device.interrupt().clone()).collect();
    Surroundings {
        kernel,
        rings: Box::new(move || {
            let areas = devices.iter().flat_map(|device| device.ring_areas());
            areas
                .map(|(start, len)| Span { first: start, last: start.saturating_add(len.max(1) - 1) })
                .collect()
        }),
        answers: Box::new(move || interrupts.iter().map(|interrupt| interrupt.raised()).sum()),
    }
}
