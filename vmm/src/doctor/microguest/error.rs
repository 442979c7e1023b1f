//! What can go wrong with a micro-guest on the host's side.

use crate::host::HostError;
use crate::memory::MemoryError;

/// Why a micro-guest could not be made or driven.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// /dev/kvm cannot be used.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No RAM for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A KVM call failed.
    #[error("{call} failed: {source}")]
    Kvm {
        /// The ioctl.
        call: &'static str,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
    /// Another host call failed.
    #[error("{call} failed: {source}")]
    Io {
        /// The call.
        call: &'static str,
        /// What the host said.
        source: std::io::Error,
    },
    /// Guest memory refused an access; a mistake in the micro-guest's layout.
    #[error("guest memory at {0:#x} cannot be reached")]
    Layout(u64),
}

/// Turns an error of `call` into a [`LabError`].
pub fn kvm_error(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> LabError {
    move |source| LabError::Kvm { call, source }
}

/// The same for other host calls.
pub fn io_error(call: &'static str) -> impl FnOnce(std::io::Error) -> LabError {
    move |source| LabError::Io { call, source }
}
