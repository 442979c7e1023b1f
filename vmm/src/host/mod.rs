//! What the host offers: opening /dev/kvm with an error a user can act on, and CPUID.

pub mod cpuid;
pub mod kvm;

pub use self::kvm::{HostError, open_kvm};
