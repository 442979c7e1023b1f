//! A running machine, as an async handle.
//!
//! [`Vm::start`] makes the machine and starts its threads; [`Vm::run`] waits for its end and says what came of it;
//! dropping the handle stops the machine and joins its threads, whatever state it is in. Nothing is shared between two
//! machines, so any number of them can live in one process.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_ioctls::{VcpuFd, VmFd};
use refault_abi::doorbell::event;
use refault_devices::serial::Serial;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::doorbell::Doorbell;
use crate::vcpu::exit::ExitKind;
use crate::vcpu::signals::kick;
use crate::vcpu::thread::Vcpu;

use super::assemble::AssembleError;
use super::config::Config;
use super::console::ConsoleTimes;
use super::device_loop::DeviceLoop;
use super::devices::DiskHandle;
use super::ending::Ending;
use super::event::VmEvent;
use super::machine::Machine;
use super::news::News;
use super::outcome::{DiskStats, GuestEvent, Outcome, Stats, Times, named_counters};
use super::parts::Parts;
use super::patience;

/// A machine and its threads. See the [module documentation](self).
pub struct Vm {
    machine: Arc<Machine>,
    doorbell: Arc<Doorbell>,
    serial: Arc<Serial>,
    disks: Vec<DiskHandle>,
    console: Arc<ConsoleTimes>,
    news: UnboundedReceiver<VmEvent>,
    vcpus: Vec<JoinHandle<()>>,
    device_loop: DeviceLoop,
    command_line: String,
    started: Instant,
    running_since: Instant,
    timeout: Option<Duration>,
    ending: Option<patience::EndSignal>,
    /// Kept until the threads, which use its processors, have ended.
    _vm: VmFd,
}

impl Vm {
    /// Makes a machine and lets its first processor run.
    pub fn start(config: Config) -> Result<Self, AssembleError> {
        let parts = Parts::make(config)?;
        let mut vm = Self {
            machine: parts.machine,
            doorbell: parts.doorbell,
            serial: parts.serial,
            disks: parts.disks,
            console: parts.console,
            news: parts.news,
            vcpus: Vec::new(),
            device_loop: parts.device_loop,
            command_line: parts.command_line,
            started: parts.started,
            running_since: Instant::now(),
            timeout: parts.timeout,
            ending: parts.ending,
            _vm: parts.vm,
        };
        vm.start_vcpus(parts.vcpus, parts.run_page_size, &parts.tell)?;
        Ok(vm)
    }

    /// The kernel command line that the guest was given.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Starts a thread for each processor. None runs the guest before all are ready to be stopped again.
    fn start_vcpus(
        &mut self,
        vcpus: Vec<VcpuFd>,
        run_page_size: usize,
        tell: &UnboundedSender<VmEvent>,
    ) -> Result<(), AssembleError> {
        let (ready, all_ready) = mpsc::channel();
        let mut gates = Vec::new();
        for (index, fd) in (0..=u8::MAX).zip(vcpus) {
            let mut vcpu = Vcpu::new(fd, index, self.machine.clone(), run_page_size);
            let (gate, go) = mpsc::channel::<()>();
            let (ready, tell) = (ready.clone(), tell.clone());
            let body = move || {
                let news = TellEnd { tell, ending: Some(Ending::Panicked) };
                let prepared = vcpu.prepare_thread();
                let fine = prepared.is_ok();
                let started = ready.send(prepared).is_ok() && go.recv().is_ok();
                news.say(if fine && started { vcpu.run() } else { None });
            };
            let thread = std::thread::Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(body)
                .map_err(AssembleError::io("a vCPU thread"))?;
            self.vcpus.push(thread);
            gates.push(gate);
            all_ready
                .recv()
                .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended at once")))
                .map_err(AssembleError::io("the signals of a vCPU thread"))?;
        }
        self.running_since = Instant::now();
        for gate in gates {
            // A thread that is gone tells so itself.
            let _ = gate.send(());
        }
        Ok(())
    }

    /// Waits until the machine ends or its time is over, and takes it down.
    pub async fn run(mut self) -> Outcome {
        let mut told = News::default();
        // A time that ends after the clock does is none.
        let deadline = self.timeout.and_then(|t| Some((t, self.running_since.checked_add(t)?.into())));
        let heard = told.until_end(&mut self.news, deadline).await;
        let ended = self.started.elapsed();
        self.stop();
        told.catch_up(&mut self.news);
        let end = told.end(heard);
        let News { reports, events, .. } = told;
        let (stats, faults) = self.stats(&events, ended);
        Outcome { end, stats, reports, events, faults }
    }

    /// Stops the processors and the device loop, and waits for their threads.
    fn stop(&mut self) {
        self.machine.stop();
        if let Some(ending) = &self.ending {
            ending.declare();
        }
        self.vcpus.iter().for_each(kick);
        for thread in self.vcpus.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a vCPU thread panicked");
            }
        }
        self.device_loop.stop();
    }

    fn stats(
        &self,
        events: &[GuestEvent],
        ended: Duration,
    ) -> (Stats, Vec<crate::inject::injector::FaultEvent>) {
        let at = |code| events.iter().find(|e| e.code == code).map(|e| micros(e.at));
        let exits: std::collections::BTreeMap<_, _> =
            ExitKind::ALL.into_iter().map(|kind| (kind.name(), self.machine.counters.get(kind))).collect();
        let (faults, log) = self.machine.injector.as_ref().map(|i| i.finish()).unzip();
        let buses = [self.machine.ports.counts(), self.machine.mmio.counts()];
        let stats = Stats {
            exits_total: exits.values().sum(),
            exits,
            times: Times {
                first_instruction_us: Some(micros(self.running_since - self.started)),
                first_ring3_us: at(event::FIRST_RING3),
                program_start_us: at(event::PROGRAM_START),
                first_line_us: self.console.first_line().map(micros),
                first_program_line_us: self.console.first_program_line().map(micros),
                end_us: micros(ended),
            },
            faults,
            mechanism: self.machine.injector.as_ref().map(|i| i.mechanism()),
            guest: named_counters(&self.doorbell.guest_counters()),
            costs: self.machine.tallies.costs(),
            disks: self.disks.iter().map(disk_stats).collect(),
            refused_accesses: buses.iter().map(|b| b.refused + b.unclaimed_reads + b.unclaimed_writes).sum(),
            console_bytes: self.serial.counts().out,
        };
        (stats, log.unwrap_or_default())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells the end of a vCPU thread, even if that is a panic.
struct TellEnd {
    tell: UnboundedSender<VmEvent>,
    ending: Option<Ending>,
}

impl TellEnd {
    fn say(mut self, ending: Option<Ending>) {
        self.ending = ending;
    }
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            // Nobody listens any more when the handle is gone.
            let _ = self.tell.send(VmEvent::Ended(ending));
        }
    }
}

fn disk_stats(disk: &DiskHandle) -> DiskStats {
    let counts = disk.counters.get();
    DiskStats {
        engine: disk.engine,
        reads: counts.reads,
        writes: counts.writes,
        flushes: counts.flushes,
        bytes_read: counts.bytes_read,
        bytes_written: counts.bytes_written,
        errors: counts.errors,
        faults: counts.injected.total(),
        kicks: counts.kicks,
        interrupts: counts.interrupts,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
