//! A processor's state: taken at the ready mark, put back before each run.
//!
//! Everything that KVM keeps of a vCPU and that a guest can change: registers, extended state, debug registers, local APIC with what
//! is left of its timer, pending events, and the time stamp counter. To be used on the vCPU's own thread, outside KVM_RUN, when no
//! instruction is half done.
//!
//! The one thing to hold in mind: the order matters. The APIC base (system registers) and the time stamp come before the local
//! APIC, whose timer starts when it is set; pending events come last, because other calls may drop them.
//!
//! The time stamp is put back by its offset to the host's (KVM_VCPU_TSC_OFFSET). Writing the register would not do: KVM takes a value
//! that is less than a second off for a guest's attempt to keep its processors in step, and ignores it.

use std::arch::x86_64::_rdtsc;
use std::os::fd::AsRawFd;

use kvm_bindings::{
    KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_debugregs, kvm_device_attr, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::layout::PAGE_SIZE;

/// `_IOW(0xae, 0xe1, struct kvm_device_attr)`; on this architecture kvm-ioctls does not offer it for processors.
const KVM_SET_DEVICE_ATTR: u64 = 1 << 30 | (size_of::<kvm_device_attr>() as u64) << 16 | 0xae << 8 | 0xe1;

/// IA32_TIME_STAMP_COUNTER.
const TIME_STAMP: u32 = 0x10;

/// Model-specific registers that a guest can change and that are in none of the other sets. The time stamp counter is kept apart.
const CANDIDATES: [u32; 12] = [
    0x174,       // IA32_SYSENTER_CS
    0x175,       // IA32_SYSENTER_ESP
    0x176,       // IA32_SYSENTER_EIP
    0x1a0,       // IA32_MISC_ENABLE
    0x277,       // IA32_PAT
    0x6e0,       // IA32_TSC_DEADLINE
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
];

/// A KVM call about a processor failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {source}")]
pub struct StateError {
    /// The ioctl.
    pub call: &'static str,
    /// What KVM said.
    pub source: kvm_ioctls::Error,
}

/// Names the call that failed.
pub(super) fn failed(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> StateError {
    move |source| StateError { call, source }
}

/// Those of [`CANDIDATES`] that this host keeps for a guest.
pub fn kept_msrs(kvm: &Kvm) -> Vec<u32> {
    let known = kvm.get_msr_index_list();
    let known = known.as_ref().map_or(&[][..], |list| list.as_slice());
    CANDIDATES.into_iter().filter(|index| known.contains(index)).collect()
}

/// What was taken of a processor.
pub struct ProcessorState {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: Box<kvm_xsave>,
    xcrs: Option<kvm_xcrs>,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Msrs,
    events: kvm_vcpu_events,
    mp: kvm_mp_state,
    /// The guest's time stamp.
    stamp: u64,
}

impl ProcessorState {
    /// Takes the state of `vcpu`, with the registers `msrs` among the model-specific ones.
    ///
    /// # Errors
    /// A KVM call failed.
    pub fn take(vcpu: &VcpuFd, msrs: &[u32]) -> Result<Self, StateError> {
        Ok(Self {
            regs: vcpu.get_regs().map_err(failed("KVM_GET_REGS"))?,
            sregs: vcpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?,
            xsave: Box::new(vcpu.get_xsave().map_err(failed("KVM_GET_XSAVE"))?),
            // Hosts without extended control registers have nothing to keep here.
            xcrs: vcpu.get_xcrs().ok(),
            debug: vcpu.get_debug_regs().map_err(failed("KVM_GET_DEBUGREGS"))?,
            lapic: vcpu.get_lapic().map_err(failed("KVM_GET_LAPIC"))?,
            msrs: read_msrs(vcpu, msrs)?,
            events: vcpu.get_vcpu_events().map_err(failed("KVM_GET_VCPU_EVENTS"))?,
            mp: vcpu.get_mp_state().map_err(failed("KVM_GET_MP_STATE"))?,
            stamp: guest_stamp(vcpu)?,
        })
    }

    /// Puts it back. Afterwards the processor's clock stands where it stood.
    ///
    /// # Errors
    /// A KVM call failed; the processor is then in no state to run.
    pub fn put_back(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        vcpu.set_mp_state(self.mp).map_err(failed("KVM_SET_MP_STATE"))?;
        vcpu.set_regs(&self.regs).map_err(failed("KVM_SET_REGS"))?;
        set_system_registers(vcpu, &self.sregs)?;
        // SAFETY: the state is one that KVM gave for this very processor, so it has the size that it expects.
        unsafe { vcpu.set_xsave(&self.xsave) }.map_err(failed("KVM_SET_XSAVE"))?;
        if let Some(xcrs) = &self.xcrs {
            vcpu.set_xcrs(xcrs).map_err(failed("KVM_SET_XCRS"))?;
        }
        vcpu.set_debug_regs(&self.debug).map_err(failed("KVM_SET_DEBUGREGS"))?;
        vcpu.set_msrs(&self.msrs).map_err(failed("KVM_SET_MSRS"))?;
        set_guest_stamp(vcpu, self.stamp)?;
        vcpu.set_lapic(&self.lapic).map_err(failed("KVM_SET_LAPIC"))?;
        vcpu.set_vcpu_events(&self.events).map_err(failed("KVM_SET_VCPU_EVENTS"))
    }
}

/// Sets the system registers, and has the processor forget every translation it remembers.
///
/// The guest's page tables have changed under a processor that has flushed nothing, which no guest would do. KVM flushes when the page
/// table's root changes, so it changes on the way: to one that is never run with.
///
/// # Errors
/// A KVM call failed.
pub fn set_system_registers(vcpu: &VcpuFd, sregs: &kvm_sregs) -> Result<(), StateError> {
    let other = kvm_sregs { cr3: sregs.cr3 ^ PAGE_SIZE, ..*sregs };
    for sregs in [&other, sregs] {
        vcpu.set_sregs(sregs).map_err(failed("KVM_SET_SREGS"))?;
    }
    Ok(())
}

fn read_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Msrs, StateError> {
    let entries: Vec<_> =
        indices.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
    let too_many = |_| failed("KVM_GET_MSRS")(kvm_ioctls::Error::new(libc::E2BIG));
    let mut msrs = Msrs::from_entries(&entries).map_err(too_many)?;
    let read = vcpu.get_msrs(&mut msrs).map_err(failed("KVM_GET_MSRS"))?;
    // KVM stops at the first one that it does not know after all; those behind it are not kept.
    let entries = msrs.as_slice().get(..read).unwrap_or_default().to_vec();
    Msrs::from_entries(&entries).map_err(too_many)
}

/// The guest's time stamp counter now.
fn guest_stamp(vcpu: &VcpuFd) -> Result<u64, StateError> {
    let msrs = read_msrs(vcpu, &[TIME_STAMP])?;
    let missing = || failed("KVM_GET_MSRS")(kvm_ioctls::Error::new(libc::EINVAL));
    msrs.as_slice().first().map(|entry| entry.data).ok_or_else(missing)
}

/// Has the guest's time stamp counter stand at `stamp` now.
fn set_guest_stamp(vcpu: &VcpuFd, stamp: u64) -> Result<(), StateError> {
    // SAFETY: reading the time stamp counter touches no memory.
    let host = unsafe { _rdtsc() };
    let offset = stamp.wrapping_sub(host);
    let attribute = kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: (&raw const offset) as u64,
    };
    // SAFETY: the argument is the structure that the number stands for, and points to the eight bytes that the attribute has.
    match unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_DEVICE_ATTR as _, &raw const attribute) } {
        0 => Ok(()),
        _ => Err(StateError {
            call: "KVM_SET_DEVICE_ATTR (KVM_VCPU_TSC_OFFSET)",
            source: kvm_ioctls::Error::last(),
        }),
    }
}
