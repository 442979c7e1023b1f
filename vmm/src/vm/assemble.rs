//! Putting a machine together, up to the moment before the first vCPU runs.

use std::ops::Range;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::boot::{self, BootData, BootError, KernelError};
use crate::host::{HostError, cpuid, open_kvm};
use crate::layout::KVM_TSS_ADDRESS;
use crate::memory::{GuestRam, MemoryError};

use super::config::Config;

/// Why a machine could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The host cannot run machines.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Guest RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The kernel.
    #[error("the kernel cannot be booted: {0}")]
    Kernel(#[from] KernelError),
    /// The boot data.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk image.
    #[error(transparent)]
    Image(#[from] refault_devices::virtio::blk::image::ImageError),
    /// An image under an overlay.
    #[error(transparent)]
    Overlay(#[from] refault_devices::virtio::blk::engine::overlay::OverlayError),
    /// A disk's engine.
    #[error(transparent)]
    Engine(#[from] refault_devices::virtio::blk::engine::EngineError),
    /// Too many disks.
    #[error("a machine can have at most {0} disks; leave some --disk out")]
    TooManyDisks(usize),
    /// Two devices at one address: a mistake in this program.
    #[error(transparent)]
    Bus(#[from] refault_devices::bus::BusError),
    /// A word of the guest program that the guest could not read back.
    #[error(
        "the program's argument {0:?} is empty or contains white space, which the guest's command line cannot carry; change it"
    )]
    ProgramWord(String),
    /// Number of processors.
    #[error("{0} processors: a machine can have 1 to {max}", max = crate::doorbell::MAX_PROCESSORS)]
    Processors(u8),
    /// No way to take pages away.
    #[error(transparent)]
    Mechanism(#[from] crate::inject::mechanism::MechanismError),
    /// Rules that this host cannot carry out.
    #[error(transparent)]
    Reach(#[from] crate::inject::reach::ReachError),
    /// The host refused something small.
    #[error("the host refused {what}: {source}")]
    Io {
        /// What for.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// A KVM call failed.
    #[error("{call} failed: {source}")]
    Kvm {
        /// The ioctl.
        call: &'static str,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
}

impl AssembleError {
    /// Names the KVM call that failed.
    pub fn kvm(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Kvm { call, source }
    }

    /// Names what the host refused.
    pub fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

fn kvm_error(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> AssembleError {
    AssembleError::kvm(call)
}

/// The bare machine: KVM objects, RAM with the kernel loaded, vCPUs at their entry point.
#[derive(Debug)]
pub struct Bare {
    /// KVM itself.
    pub kvm: Kvm,
    /// The virtual machine.
    pub vm: VmFd,
    /// RAM.
    pub ram: Arc<GuestRam>,
    /// One per processor, the first ready to run, the others waiting to be started by it.
    pub vcpus: Vec<VcpuFd>,
    /// Size of a vCPU's run page.
    pub run_page_size: usize,
}

/// Makes the VM with its interrupt controller and RAM.
pub fn bare(config: &Config) -> Result<Bare, AssembleError> {
    if config.cpus == 0 || config.cpus > crate::doorbell::MAX_PROCESSORS {
        return Err(AssembleError::Processors(config.cpus));
    }
    let kvm = open_kvm()?;
    let vm = kvm.create_vm().map_err(kvm_error("KVM_CREATE_VM"))?;
    vm.set_tss_address(KVM_TSS_ADDRESS).map_err(kvm_error("KVM_SET_TSS_ADDR"))?;
    vm.create_irq_chip().map_err(kvm_error("KVM_CREATE_IRQCHIP"))?;
    let ram = Arc::new(GuestRam::new(config.memory)?);
    for (slot, piece) in ram.pieces().iter().enumerate() {
        let region = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: piece.gpa,
            memory_size: piece.len,
            userspace_addr: piece.vcpu_hva,
        };
        // SAFETY: the mapping belongs to `ram`, which every holder of the VM's vCPUs keeps alive longer than
        // them; the slots do not overlap because the pieces do not.
        unsafe { vm.set_user_memory_region(region) }.map_err(kvm_error("KVM_SET_USER_MEMORY_REGION"))?;
    }
    let run_page_size = kvm.get_vcpu_mmap_size().map_err(kvm_error("KVM_GET_VCPU_MMAP_SIZE"))?;
    let mut bare = Bare { kvm, vm, ram, vcpus: Vec::new(), run_page_size };
    for index in 0..config.cpus {
        bare.add_vcpu(index, config.cpus)?;
    }
    Ok(bare)
}

impl Bare {
    fn add_vcpu(&mut self, index: u8, count: u8) -> Result<(), AssembleError> {
        let vcpu = self.vm.create_vcpu(u64::from(index)).map_err(kvm_error("KVM_CREATE_VCPU"))?;
        let tsc_khz = vcpu.get_tsc_khz().ok();
        let cpuid = cpuid::for_vcpu(&self.kvm, index, count, tsc_khz)
            .map_err(kvm_error("KVM_GET_SUPPORTED_CPUID"))?;
        vcpu.set_cpuid2(&cpuid).map_err(kvm_error("KVM_SET_CPUID2"))?;
        self.vcpus.push(vcpu);
        Ok(())
    }

    /// Loads kernel and boot data and puts the first vCPU at the entry point. Gives the addresses that the kernel takes.
    pub fn load(
        &self,
        kernel: &[u8],
        image: Option<&[u8]>,
        command_line: &str,
    ) -> Result<Vec<Range<u64>>, AssembleError> {
        let kernel = boot::kernel::load(&self.ram, kernel)?;
        let data = BootData { command_line, image, kernel: &kernel.occupied };
        let start_info = boot::start_info::write(&self.ram, data)?;
        if let Some(first) = self.vcpus.first() {
            let reset = first.get_sregs().map_err(kvm_error("KVM_GET_SREGS"))?;
            first.set_sregs(&boot::cpu_state::entry_sregs(reset)).map_err(kvm_error("KVM_SET_SREGS"))?;
            first
                .set_regs(&boot::cpu_state::entry_regs(kernel.entry, start_info))
                .map_err(kvm_error("KVM_SET_REGS"))?;
        }
        Ok(kernel.occupied)
    }
}
