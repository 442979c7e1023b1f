//! Opening /dev/kvm and checking that it has what a machine needs.
//!
//! The one thing to hold in mind: this is the first thing that fails on a newcomer's machine, so each
//! message says what to do. Capabilities are asked for, never guessed from the module's name.

use kvm_ioctls::{Cap, Kvm};

/// The only API version there has ever been since 2007.
const KVM_API_VERSION: i32 = 12;

/// Why this host cannot run a machine.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No device node.
    #[error(
        "/dev/kvm does not exist: enable virtualisation in the firmware and load the kvm_intel or kvm_amd module (in a virtual machine or a container, ask for nested virtualisation or pass the device in)"
    )]
    NoKvm,
    /// No permission.
    #[error(
        "/dev/kvm may not be opened by this user: join the group that owns it (usually `sudo usermod -aG kvm $USER`, then log in again) or run as root"
    )]
    NoPermission,
    /// Anything else while opening.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(kvm_ioctls::Error),
    /// Not the API this program speaks.
    #[error("/dev/kvm speaks API version {0}, this program needs {KVM_API_VERSION}")]
    WrongVersion(i32),
    /// A capability is missing.
    #[error("this host's KVM lacks {0}, which every machine here needs; a newer kernel has it")]
    Lacks(&'static str),
}

/// Capabilities without which nothing here works.
const NEEDED: [(Cap, &str); 6] = [
    (Cap::Irqchip, "the in-kernel interrupt controller (KVM_CAP_IRQCHIP)"),
    (Cap::UserMemory, "user memory slots (KVM_CAP_USER_MEMORY)"),
    (Cap::ExtCpuid, "CPUID control (KVM_CAP_EXT_CPUID)"),
    (Cap::MpState, "processor run state (KVM_CAP_MP_STATE)"),
    (Cap::ImmediateExit, "immediate exit (KVM_CAP_IMMEDIATE_EXIT)"),
    (Cap::SyncRegs, "register synchronisation (KVM_CAP_SYNC_REGS)"),
];

/// Opens /dev/kvm and checks it.
pub fn open_kvm() -> Result<Kvm, HostError> {
    let kvm = Kvm::new().map_err(|e| match e.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => HostError::NoKvm,
        libc::EACCES | libc::EPERM => HostError::NoPermission,
        _ => HostError::Open(e),
    })?;
    let version = kvm.get_api_version();
    if version != KVM_API_VERSION {
        return Err(HostError::WrongVersion(version));
    }
    for (cap, name) in NEEDED {
        if !kvm.check_extension(cap) {
            return Err(HostError::Lacks(name));
        }
    }
    Ok(kvm)
}
