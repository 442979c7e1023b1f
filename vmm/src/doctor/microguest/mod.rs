//! Micro-guests: virtual machines of a dozen instructions that find out what a host really does.
//!
//! A [`Lab`] is one VM with 2 MiB of RAM, long mode, a handler for every vector and a program of a few bytes.
//! [`Lab::run`] runs it to its next event and says what that was. The one thing to hold in mind: a Lab
//! belongs to the thread that made it, because signals and its alarm are that thread's.
//!
//! Nothing here judges; what an event means for the host is the probes' business.

mod alarm;
mod error;
mod event;
pub mod image;
pub mod programs;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvm_bindings::{
    KVM_EXIT_MEMORY_FAULT, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use crate::host::cpuid;
use crate::layout::KVM_TSS_ADDRESS;
use crate::memory::{GuestRam, MIN_RAM};
use crate::vcpu::exit::{self, Exit};
use crate::vcpu::signals::{self, Taken};

use self::alarm::Alarm;
use self::error::io_error;
pub use self::error::{LabError, kvm_error};
pub use self::event::{Event, Trap};
pub use self::image::Ring;

/// Longest time one KVM_RUN may take before it is kicked.
pub const RUN_LIMIT: Duration = Duration::from_secs(2);

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;
const RFLAGS_FIXED: u64 = 1 << 1;
const RFLAGS_IOPL_3: u64 = 3 << 12;
const RFLAGS_IF: u64 = 1 << 9;
const NX_LEAF: u32 = 0x8000_0001;
const NX_BIT: u32 = 1 << 20;

/// One VM with its program.
#[derive(Debug)]
pub struct Lab {
    /// The virtual machine.
    pub vm: VmFd,
    /// Its processors.
    pub cpus: Vec<VcpuFd>,
    /// Whether it has an in-kernel interrupt controller.
    pub irqchip: bool,
    ring: Ring,
    no_execute: bool,
    /// Longest time one run may take; [`RUN_LIMIT`] unless changed.
    pub limit: Duration,
    run_page_size: usize,
    alarm: Alarm,
    ram: Arc<GuestRam>,
}

impl Lab {
    /// A VM with one processor, at the first instruction of `program`.
    pub fn new(kvm: &Kvm, ring: Ring, program: &[u8]) -> Result<Self, LabError> {
        Self::with_cpus(kvm, ring, program, 1)
    }

    /// The same with `count` processors.
    pub fn with_cpus(kvm: &Kvm, ring: Ring, program: &[u8], count: u8) -> Result<Self, LabError> {
        let vm = kvm.create_vm().map_err(kvm_error("KVM_CREATE_VM"))?;
        vm.set_tss_address(KVM_TSS_ADDRESS).map_err(kvm_error("KVM_SET_TSS_ADDR"))?;
        let irqchip = vm.create_irq_chip().is_ok();
        let ram = Arc::new(GuestRam::new(MIN_RAM)?);
        for (slot, piece) in (0..).zip(ram.pieces()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: piece.gpa,
                memory_size: piece.len,
                userspace_addr: piece.vcpu_hva,
            };
            // SAFETY: the mapping belongs to `ram`, which the Lab drops after its VM and processors.
            unsafe { vm.set_user_memory_region(region) }.map_err(kvm_error("KVM_SET_USER_MEMORY_REGION"))?;
        }
        let run_page_size = kvm.get_vcpu_mmap_size().map_err(kvm_error("KVM_GET_VCPU_MMAP_SIZE"))?;
        let alarm = Alarm::new().map_err(io_error("timer_create"))?;
        let supported =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(kvm_error("KVM_GET_SUPPORTED_CPUID"))?;
        let no_execute =
            supported.as_slice().iter().any(|leaf| leaf.function == NX_LEAF && leaf.edx & NX_BIT != 0);
        let mut lab = Self {
            vm,
            cpus: Vec::new(),
            irqchip,
            ring,
            no_execute,
            limit: RUN_LIMIT,
            run_page_size,
            alarm,
            ram,
        };
        for (at, bytes) in image::contents(ring, program) {
            lab.write(at, &bytes)?;
        }
        for index in 0..count {
            let cpu = lab.make_cpu(kvm, index, count)?;
            lab.cpus.push(cpu);
        }
        Ok(lab)
    }

    fn make_cpu(&self, kvm: &Kvm, index: u8, count: u8) -> Result<VcpuFd, LabError> {
        let cpu = self.vm.create_vcpu(u64::from(index)).map_err(kvm_error("KVM_CREATE_VCPU"))?;
        let leaves =
            cpuid::for_vcpu(kvm, index, count, None).map_err(kvm_error("KVM_GET_SUPPORTED_CPUID"))?;
        cpu.set_cpuid2(&leaves).map_err(kvm_error("KVM_SET_CPUID2"))?;
        let reset = cpu.get_sregs().map_err(kvm_error("KVM_GET_SREGS"))?;
        cpu.set_sregs(&image::system_registers(reset, self.ring, self.no_execute))
            .map_err(kvm_error("KVM_SET_SREGS"))?;
        cpu.set_regs(&self.start_registers()).map_err(kvm_error("KVM_SET_REGS"))?;
        signals::prepare_thread(&cpu).map_err(io_error("preparing the thread's signals"))?;
        Ok(cpu)
    }

    /// General registers at the start of the program: RDI is the page under test.
    pub fn start_registers(&self) -> kvm_regs {
        let io = if self.ring == Ring::Three { RFLAGS_IOPL_3 } else { 0 };
        kvm_regs {
            rip: image::PROGRAM,
            rsp: image::stack_top(self.ring),
            rdi: image::TARGET,
            rflags: RFLAGS_FIXED | io,
            ..Default::default()
        }
    }

    /// Has SYSCALL lead to [`image::SYSCALL_TARGET`].
    pub fn enable_syscall(&self) -> Result<(), LabError> {
        let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
        let wanted = [
            entry(MSR_STAR, image::STAR),
            entry(MSR_LSTAR, image::SYSCALL_TARGET),
            entry(MSR_SFMASK, RFLAGS_IF),
        ];
        let refused = || LabError::Kvm { call: "KVM_SET_MSRS", source: kvm_ioctls::Error::new(libc::EINVAL) };
        let msrs = Msrs::from_entries(&wanted).map_err(|_| refused())?;
        match self.cpu()?.set_msrs(&msrs).map_err(kvm_error("KVM_SET_MSRS"))? {
            3 => Ok(()),
            _ => Err(refused()),
        }
    }

    /// The first processor.
    pub fn cpu(&self) -> Result<&VcpuFd, LabError> {
        self.cpus.first().ok_or(LabError::Layout(0))
    }

    fn cpu_mut(&mut self, index: usize) -> Result<&mut VcpuFd, LabError> {
        self.cpus.get_mut(index).ok_or(LabError::Layout(0))
    }

    /// General registers of the first processor.
    pub fn registers(&self) -> Result<kvm_regs, LabError> {
        self.cpu()?.get_regs().map_err(kvm_error("KVM_GET_REGS"))
    }

    /// Sets them.
    pub fn set_registers(&self, regs: &kvm_regs) -> Result<(), LabError> {
        self.cpu()?.set_regs(regs).map_err(kvm_error("KVM_SET_REGS"))
    }

    /// Writes guest memory through the device view.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), LabError> {
        self.ram.device_view().write_slice(bytes, GuestAddress(gpa)).map_err(|_| LabError::Layout(gpa))
    }

    /// Reads eight bytes of guest memory through the device view.
    pub fn read(&self, gpa: u64) -> Result<u64, LabError> {
        self.ram.device_view().read_obj(GuestAddress(gpa)).map_err(|_| LabError::Layout(gpa))
    }

    /// Its memory, for taking pages away.
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// Host virtual address of the page under test in the vCPU view.
    pub fn target_hva(&self) -> Result<u64, LabError> {
        self.ram.vcpu_hva(image::TARGET).ok_or(LabError::Layout(image::TARGET))
    }

    /// Runs the first processor to its next event.
    pub fn run(&mut self) -> Result<Event, LabError> {
        self.run_cpu(0)
    }

    /// Runs processor `index` to its next event.
    pub fn run_cpu(&mut self, index: usize) -> Result<Event, LabError> {
        let (exit, _) = self.run_timed(index)?;
        self.event_of(index, exit)
    }

    /// Runs processor `index` and says how long KVM_RUN took; no other call is made in that time.
    pub fn run_timed(&mut self, index: usize) -> Result<(Exit, Duration), LabError> {
        // A kick that came too late for the last run must not end this one.
        while signals::take() != Taken::Nothing {}
        self.alarm.set(self.limit).map_err(io_error("timer_settime"))?;
        let cpu = self.cpu_mut(index)?;
        // KVM leaves the reason alone when it fails, so an old one must not be mistaken for a new one.
        cpu.get_kvm_run().exit_reason = u32::MAX;
        let before = Instant::now();
        let exit = exit::next(cpu);
        let taken = before.elapsed();
        self.alarm.cancel().map_err(io_error("timer_settime"))?;
        Ok((exit, taken))
    }

    /// Completes the instruction that the last exit interrupted, without running the next one.
    pub fn finish(&mut self) -> Result<(), LabError> {
        self.cpu_mut(0)?.set_kvm_immediate_exit(1);
        let (exit, _) = self.run_timed(0)?;
        self.cpu_mut(0)?.set_kvm_immediate_exit(0);
        match exit {
            Exit::Interrupted => Ok(()),
            _ => Err(kvm_error("KVM_RUN with immediate_exit")(kvm_ioctls::Error::new(libc::EIO))),
        }
    }

    /// Gives a pending MMIO read its bytes.
    pub fn answer(&mut self, bytes: &[u8]) -> Result<(), LabError> {
        exit::answer_mmio(self.cpu_mut(0)?, bytes);
        Ok(())
    }

    /// What an exit of processor `index` was.
    pub fn event_of(&mut self, index: usize, exit: Exit) -> Result<Event, LabError> {
        Ok(match exit {
            Exit::Io => self.port(index)?,
            Exit::MmioRead { gpa, len } => Event::MmioRead { gpa, len },
            Exit::MmioWrite { gpa, len, data } => Event::MmioWrite { gpa, len, data },
            Exit::Interrupted => match signals::take() {
                Taken::MemoryGone { address } => Event::Gone { hva: address },
                Taken::Kick | Taken::Nothing => Event::Stuck,
            },
            Exit::MemoryFault { gpa } => Event::Fault { gpa: gpa.or(self.reported_gpa(index)?) },
            other => Event::Other(other),
        })
    }

    /// The address of an EFAULT, where the host's KVM reports one.
    fn reported_gpa(&mut self, index: usize) -> Result<Option<u64>, LabError> {
        let run = self.cpu_mut(index)?.get_kvm_run();
        if run.exit_reason != KVM_EXIT_MEMORY_FAULT {
            return Ok(None);
        }
        // SAFETY: the exit reason says that KVM filled in this member of the union.
        Ok(Some(unsafe { run.__bindgen_anon_1.memory_fault }.gpa))
    }

    fn port(&mut self, index: usize) -> Result<Event, LabError> {
        let size = self.run_page_size;
        let cpu = self.cpu_mut(index)?;
        let port = exit::with_io(cpu, size, |io| io.port);
        let sregs = cpu.get_sregs().map_err(kvm_error("KVM_GET_SREGS"))?;
        let cpl = sregs.ss.dpl;
        if port != programs::VECTOR {
            return Ok(Event::Port { port, cpl });
        }
        let regs = cpu.get_regs().map_err(kvm_error("KVM_GET_REGS"))?;
        let vector = (regs.rip.wrapping_sub(image::HANDLERS) / image::HANDLER_SIZE) as u8;
        let (error, frame) = match image::has_error_code(vector) {
            true => (Some(self.read(regs.rsp)?), regs.rsp.wrapping_add(8)),
            false => (None, regs.rsp),
        };
        let from = (self.read(frame.wrapping_add(8))? & 3) as u8;
        Ok(Event::Vector(Trap { vector, error, rip: self.read(frame)?, from, cpl, cr2: sregs.cr2 }))
    }

    /// Delivers a page fault at the present instruction.
    pub fn inject_page_fault(&self, address: u64, error: u32) -> Result<(), LabError> {
        let cpu = self.cpu()?;
        let mut sregs = cpu.get_sregs().map_err(kvm_error("KVM_GET_SREGS"))?;
        sregs.cr2 = address;
        cpu.set_sregs(&sregs).map_err(kvm_error("KVM_SET_SREGS"))?;
        let mut events = cpu.get_vcpu_events().map_err(kvm_error("KVM_GET_VCPU_EVENTS"))?;
        events.exception.injected = 1;
        events.exception.nr = 14;
        events.exception.has_error_code = 1;
        events.exception.error_code = error;
        cpu.set_vcpu_events(&events).map_err(kvm_error("KVM_SET_VCPU_EVENTS"))
    }
}
