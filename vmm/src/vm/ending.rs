//! How a machine ended.

use std::fmt;

/// The reason a machine stopped, as its vCPU or the VMM saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest wrote its status to the exit port.
    Guest {
        /// What it wrote.
        status: u32,
    },
    /// The guest said that it is ready, in a machine that stops there.
    Ready,
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
    /// A thread of the VMM panicked: a mistake in this program.
    Panicked,
    /// A host call failed.
    Host {
        /// Which.
        what: &'static str,
        /// Its errno.
        errno: Option<i32>,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Guest { status } => write!(f, "the guest ended with status {status}"),
            Ending::Ready => write!(f, "the guest is ready, and the machine stopped for it"),
            Ending::TripleFault { rip } => {
                write!(
                    f,
                    "the guest triple-faulted at {rip:#x}: it could not even start its own fault handler"
                )
            }
            Ending::Halted => write!(f, "the guest halted with nothing left that could wake it"),
            Ending::Internal { suberror, rip, detail } => write!(
                f,
                "KVM could not go on with the guest at {rip:#x} (internal error {suberror}, details {detail:x?}); on a \
                 host that interprets ring 0 this is an instruction the interpreter does not know"
            ),
            Ending::FailEntry { reason } => {
                write!(f, "the processor refused the guest's state (hardware reason {reason:#x})")
            }
            Ending::SystemEvent { kind } => {
                write!(f, "the guest asked for a shutdown or reset (event {kind})")
            }
            Ending::Unexpected { reason, rip } => {
                write!(f, "KVM returned exit {reason} at {rip:#x}, which this program does not know")
            }
            Ending::MemoryFault { gpa: Some(gpa), rip } => {
                write!(
                    f,
                    "guest memory at {gpa:#x} could not be reached, though no rule took it away (at {rip:#x})"
                )
            }
            Ending::MemoryFault { gpa: None, rip } => {
                write!(f, "guest memory could not be reached, though no rule took it away (at {rip:#x})")
            }
            Ending::MemoryGone { address } => {
                write!(
                    f,
                    "SIGBUS at host address {address:#x}, which no rule explains: the host may have lost memory"
                )
            }
            Ending::Panicked => write!(f, "a thread of the monitor panicked; this is a bug in refault"),
            Ending::Host { what, errno: Some(errno) } => {
                write!(f, "{what} failed: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Ending::Host { what, errno: None } => write!(f, "{what} failed"),
        }
    }
}
