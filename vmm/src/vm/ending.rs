//! How a machine ended.

/// The reason a machine stopped, as its vCPU or the VMM saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest wrote its status to the exit port.
    Guest {
        /// What it wrote.
        status: u32,
    },
    /// Three nested faults.
    TripleFault {
        /// Instruction pointer then.
        rip: u64,
    },
    /// HLT with nothing that could wake the processor.
    Halted,
    /// KVM could not go on with the guest's state.
    Internal {
        /// KVM's reason (1: emulation failed).
        suberror: u32,
        /// Instruction pointer then.
        rip: u64,
        /// First words that KVM attached.
        detail: [u64; 4],
    },
    /// The processor refused the guest's state.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
    },
    /// Reset or shutdown asked for by a paravirtual call.
    SystemEvent {
        /// KVM's event type.
        kind: u32,
    },
    /// An exit this VMM never asked for.
    Unexpected {
        /// The KVM_EXIT number.
        reason: u32,
        /// Instruction pointer then.
        rip: u64,
    },
    /// Guest memory was not reachable and no rule explains it.
    MemoryFault {
        /// Guest physical address, if the host says it.
        gpa: Option<u64>,
        /// Instruction pointer then.
        rip: u64,
    },
    /// SIGBUS for an address that is no armed page.
    MemoryGone {
        /// Host virtual address.
        address: u64,
    },
    /// A host call failed.
    Host {
        /// Which.
        what: &'static str,
        /// Its errno.
        errno: Option<i32>,
    },
}
