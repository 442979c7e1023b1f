//! Registers of a stopped vCPU.
//!
//! Where KVM_CAP_SYNC_REGS is switched on for a vCPU (machines that inject), KVM copies the registers to the run
//! page at every exit and takes changed ones from it at the next run, so that a whole trap needs no register ioctl at
//! all. Elsewhere each call here is one ioctl.

use kvm_bindings::{kvm_regs, kvm_sregs, kvm_vcpu_events};
use kvm_ioctls::{SyncReg, VcpuFd};

use crate::vm::ending::Ending;

const ALL: [SyncReg; 3] = [SyncReg::Register, SyncReg::SystemRegister, SyncReg::VcpuEvents];

/// Has KVM keep the registers on the run page from the next exit on.
pub fn keep_on_run_page(vcpu: &mut VcpuFd) {
    for set in ALL {
        vcpu.set_sync_valid_reg(set);
    }
}

fn on_run_page(vcpu: &mut VcpuFd) -> bool {
    let all = ALL.iter().fold(0, |bits, set| bits | *set as u64);
    vcpu.get_kvm_run().kvm_valid_regs & all == all
}

/// General registers.
pub fn regs(vcpu: &mut VcpuFd) -> Option<kvm_regs> {
    match on_run_page(vcpu) {
        true => Some(vcpu.sync_regs().regs),
        false => vcpu.get_regs().ok(),
    }
}

/// System registers.
pub fn sregs(vcpu: &mut VcpuFd) -> Option<kvm_sregs> {
    match on_run_page(vcpu) {
        true => Some(vcpu.sync_regs().sregs),
        false => vcpu.get_sregs().ok(),
    }
}

/// Pending and injected events.
pub fn events(vcpu: &mut VcpuFd) -> Option<kvm_vcpu_events> {
    match on_run_page(vcpu) {
        true => Some(vcpu.sync_regs().events),
        false => vcpu.get_vcpu_events().ok(),
    }
}

/// Changes the general registers.
pub fn set_regs(vcpu: &mut VcpuFd, regs: &kvm_regs) -> Result<(), Ending> {
    if on_run_page(vcpu) {
        vcpu.sync_regs_mut().regs = *regs;
        vcpu.set_sync_dirty_reg(SyncReg::Register);
        return Ok(());
    }
    vcpu.set_regs(regs).map_err(failed("KVM_SET_REGS"))
}

/// Raises an exception at the current instruction, with an error code if it has one; `sregs` are set before.
pub fn raise(
    vcpu: &mut VcpuFd,
    sregs: &kvm_sregs,
    vector: u8,
    error_code: Option<u32>,
) -> Result<(), Ending> {
    let kept = on_run_page(vcpu);
    let mut events = match kept {
        true => vcpu.sync_regs().events,
        false => vcpu.get_vcpu_events().map_err(failed("KVM_GET_VCPU_EVENTS"))?,
    };
    events.exception.injected = 1;
    events.exception.nr = vector;
    events.exception.has_error_code = u8::from(error_code.is_some());
    events.exception.error_code = error_code.unwrap_or(0);
    if kept {
        let page = vcpu.sync_regs_mut();
        page.sregs = *sregs;
        page.events = events;
        vcpu.set_sync_dirty_reg(SyncReg::SystemRegister);
        vcpu.set_sync_dirty_reg(SyncReg::VcpuEvents);
        return Ok(());
    }
    vcpu.set_sregs(sregs).map_err(failed("KVM_SET_SREGS"))?;
    vcpu.set_vcpu_events(&events).map_err(failed("KVM_SET_VCPU_EVENTS"))
}

fn failed(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Ending {
    move |e| Ending::Host { what, errno: Some(e.errno()) }
}
