//! The loop of a vCPU thread: run, look at the exit, act, run again.
//!
//! One small function per kind of exit, each answering with [`Step`]. The one thing to hold in mind: whatever
//! the guest does, this loop answers with a value; a machine ends by [`Ending`], never by a panic.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use kvm_ioctls::VcpuFd;
use refault_devices::bus::Access;

use crate::inject::mechanism::Notice;
use crate::vm::action::Action;
use crate::vm::ending::Ending;
use crate::vm::machine::Machine;

use super::exit::{self, Exit};
use super::measure::Stepper;
use super::registers;
use super::signals::{self, Taken};

/// Go on running the guest, or end the machine.
pub type Step = ControlFlow<Ending>;

/// A vCPU as its own thread sees it.
#[derive(Debug)]
pub struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) index: u8,
    pub(super) machine: Arc<Machine>,
    run_page_size: usize,
    stepper: Stepper,
    /// Whether a trap has been decided since the guest last ran.
    pub(super) trapped: bool,
}

impl Vcpu {
    /// A vCPU ready to run. `run_page_size` is KVM's size of the shared run page.
    pub fn new(fd: VcpuFd, index: u8, machine: Arc<Machine>, run_page_size: usize) -> Self {
        Self { fd, index, machine, run_page_size, stepper: Stepper::default(), trapped: false }
    }

    /// Makes the calling thread the vCPU's own: from now on it can be kicked.
    pub fn prepare_thread(&mut self) -> io::Result<()> {
        if self.machine.injector.is_some() {
            registers::keep_on_run_page(&mut self.fd);
        }
        signals::prepare_thread(&self.fd)
    }

    /// Runs the guest until the machine ends; `None` if somebody else ended it. Call on the prepared thread.
    pub fn run(&mut self) -> Option<Ending> {
        while !self.machine.is_stopping() {
            if let ControlFlow::Break(ending) = self.step() {
                return Some(ending);
            }
        }
        None
    }

    /// The vCPU itself, for its own thread outside of [`Vcpu::run`].
    pub fn file(&self) -> &VcpuFd {
        &self.fd
    }

    /// Drops kicks that came too late for the last run.
    pub fn forget_signals(&mut self) {
        while signals::take() != Taken::Nothing {}
    }

    fn step(&mut self) -> Step {
        if let Some(injector) = self.machine.injector.as_ref().filter(|injector| injector.is_pending()) {
            let injector = injector.clone();
            self.arm_memory(&injector);
        }
        if std::mem::take(&mut self.trapped)
            && let Some(injector) = &self.machine.injector
        {
            injector.resumed(self.index);
        }
        let exit = exit::next(&mut self.fd);
        self.machine.counters.count(exit.kind());
        self.act_on(exit)
    }

    /// Does what `exit` asks for.
    pub(super) fn act_on(&mut self, exit: Exit) -> Step {
        match exit {
            Exit::Io => self.io(),
            Exit::MmioRead { gpa, len } => self.mmio_read(gpa, len),
            Exit::MmioWrite { gpa, len, data } => self.mmio_write(gpa, data.get(..len).unwrap_or(&data)),
            Exit::Interrupted => self.interrupted(),
            Exit::MemoryFault { gpa } => self.memory_fault(gpa),
            Exit::Shutdown => self.fatal(|rip| Ending::TripleFault { rip }),
            Exit::Halted => Step::Break(Ending::Halted),
            Exit::Debug => or_end(self.stepper.stepped(&mut self.fd, self.machine.ram.device_view())),
            Exit::Internal { suberror, data } => {
                self.fatal(|rip| Ending::Internal { suberror, rip, detail: data })
            }
            Exit::FailEntry { reason } => Step::Break(Ending::FailEntry { reason }),
            Exit::SystemEvent { kind } => Step::Break(Ending::SystemEvent { kind }),
            Exit::Unexpected { reason } => self.fatal(|rip| Ending::Unexpected { reason, rip }),
            Exit::Failed { errno } => self.failed(errno),
        }
    }

    fn io(&mut self) -> Step {
        let machine = &self.machine;
        let access = exit::with_io(&mut self.fd, self.run_page_size, |io| match io.out {
            true => machine.ports.port_out(io.port, io.width, io.data),
            false => machine.ports.port_in(io.port, io.width, io.data),
        });
        self.act(access)
    }

    fn mmio_read(&mut self, gpa: u64, len: usize) -> Step {
        if self.machine.ram.contains(gpa, len as u64) {
            return self.interpreted_read(gpa, len);
        }
        let mut data = [0xff; 8];
        let Some(bytes) = data.get_mut(..len) else { return Step::Continue(()) };
        let access = self.machine.mmio.read(gpa, bytes);
        exit::answer_mmio(&mut self.fd, bytes);
        self.act(access)
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> Step {
        if self.machine.ram.contains(gpa, data.len() as u64) {
            return self.interpreted_write(gpa, data);
        }
        let access = self.machine.mmio.write(gpa, data);
        self.act(access)
    }

    fn act(&mut self, access: Access<Action>) -> Step {
        match access {
            Access::Then(Action::Ready) => self.ready(),
            Access::Then(action) => self.perform(action),
            Access::Done | Access::Refused(_) => Step::Continue(()),
        }
    }

    fn perform(&mut self, action: Action) -> Step {
        let Self { fd, machine, stepper, .. } = self;
        or_end(match action {
            Action::End(status) => Err(Ending::Guest { status }),
            Action::MeasureBegin(id) => stepper.begin(fd, id),
            Action::MeasureEnd(id) => stepper.end(fd, id, &machine.tallies),
            Action::KernelEntered => stepper.entered(fd, machine.ram.device_view()),
            Action::Ready => Ok(()),
        })
    }

    /// Stops behind the instruction by which the guest said that it is ready, if anybody waits for that.
    fn ready(&mut self) -> Step {
        if !self.machine.stops_when_ready() {
            return Step::Continue(());
        }
        self.finish_instruction()?;
        Step::Break(Ending::Ready)
    }

    fn interrupted(&mut self) -> Step {
        match signals::take() {
            Taken::MemoryGone { address } => self.touched(Notice::BusError { hva: address }),
            Taken::Kick | Taken::Nothing => Step::Continue(()),
        }
    }

    fn memory_fault(&mut self, gpa: Option<u64>) -> Step {
        self.touched(Notice::RunFailed { gpa })
    }

    fn failed(&mut self, errno: i32) -> Step {
        match errno {
            // A processor that has not been started yet; KVM asks for another try.
            libc::EAGAIN => Step::Continue(()),
            errno => Step::Break(Ending::Host { what: "KVM_RUN", errno: Some(errno) }),
        }
    }

    fn fatal(&mut self, ending: impl FnOnce(u64) -> Ending) -> Step {
        let rip = self.fd.get_regs().map(|r| r.rip).unwrap_or(0);
        Step::Break(ending(rip))
    }
}

fn or_end(done: Result<(), Ending>) -> Step {
    match done {
        Ok(()) => Step::Continue(()),
        Err(ending) => Step::Break(ending),
    }
}
