//! What a micro-guest's run ends with, as a value.

use crate::vcpu::exit::Exit;

/// What a micro-guest came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The program wrote a port other than [`super::programs::VECTOR`].
    Port {
        /// Which.
        port: u16,
        /// Privilege level the processor had then.
        cpl: u8,
    },
    /// A handler was entered.
    Vector(Trap),
    /// A load that KVM found no RAM behind.
    MmioRead {
        /// Guest physical address.
        gpa: u64,
        /// Bytes.
        len: usize,
    },
    /// A store that KVM found no RAM behind.
    MmioWrite {
        /// Guest physical address.
        gpa: u64,
        /// Bytes.
        len: usize,
        /// What was stored.
        data: [u8; 8],
    },
    /// SIGBUS with this address of the vCPU view.
    Gone {
        /// Host virtual address.
        hva: u64,
    },
    /// KVM_RUN failed with EFAULT; the address where the host reports one.
    Fault {
        /// Guest physical address.
        gpa: Option<u64>,
    },
    /// Did not come back by itself within [`super::Lab::limit`].
    Stuck,
    /// Any other exit.
    Other(Exit),
}

/// What a handler found on its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Interrupt vector.
    pub vector: u8,
    /// Error code, for vectors that have one.
    pub error: Option<u64>,
    /// Address of the interrupted instruction.
    pub rip: u64,
    /// Privilege level that was interrupted.
    pub from: u8,
    /// Privilege level of the handler.
    pub cpl: u8,
    /// CR2 at that moment.
    pub cr2: u64,
}
