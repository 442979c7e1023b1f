//! Exits of KVM_RUN as values.
//!
//! [`next`] runs the vCPU once and says, in a small copyable value, why it came back. What to do about it is
//! decided elsewhere, one function per kind. The one thing to hold in mind: a value outlives the run page, so
//! a port or MMIO *read* is answered later, through [`answer_mmio`] or [`with_io`].

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT, kvm_run,
};
use kvm_ioctls::VcpuFd;

/// Why KVM_RUN returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A port access; its data is on the run page, see [`with_io`].
    Io,
    /// A read of `len` bytes at a guest physical address that KVM has no RAM behind.
    MmioRead {
        /// Guest physical address.
        gpa: u64,
        /// 1 to 8 bytes.
        len: usize,
    },
    /// A write there.
    MmioWrite {
        /// Guest physical address.
        gpa: u64,
        /// 1 to 8 bytes.
        len: usize,
        /// The bytes written; those past `len` are meaningless.
        data: [u8; 8],
    },
    /// A signal is pending, or an immediate exit was asked for.
    Interrupted,
    /// KVM could not reach guest memory; `gpa` if it says where.
    MemoryFault {
        /// Guest physical address, from hosts that report it.
        gpa: Option<u64>,
    },
    /// Triple fault.
    Shutdown,
    /// HLT that the in-kernel interrupt controller did not take: nothing could wake the vCPU.
    Halted,
    /// Single step or breakpoint.
    Debug,
    /// KVM gave up on the guest's state.
    Internal {
        /// KVM's reason (1: emulation failed).
        suberror: u32,
        /// First words that KVM attached.
        data: [u64; 4],
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
    },
    /// KVM_RUN failed with this errno.
    Failed {
        /// The errno.
        errno: i32,
    },
}

impl Exit {
    /// Name of the kind, for counters and reports.
    pub fn kind(&self) -> ExitKind {
        match self {
            Exit::Io => ExitKind::Io,
            Exit::MmioRead { .. } => ExitKind::MmioRead,
            Exit::MmioWrite { .. } => ExitKind::MmioWrite,
            Exit::Interrupted => ExitKind::Interrupted,
            Exit::MemoryFault { .. } => ExitKind::MemoryFault,
            Exit::Halted => ExitKind::Halted,
            Exit::Debug => ExitKind::Debug,
            _ => ExitKind::Final,
        }
    }
}

/// Kinds of exit that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum ExitKind {
    /// Port access.
    Io,
    /// MMIO read, real or of an armed page.
    MmioRead,
    /// MMIO write, real or of an armed page.
    MmioWrite,
    /// Signal.
    Interrupted,
    /// Guest memory not reachable.
    MemoryFault,
    /// HLT.
    Halted,
    /// Single step.
    Debug,
    /// One that ends the machine.
    Final,
}

impl ExitKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [ExitKind; 8] = [
        ExitKind::Io,
        ExitKind::MmioRead,
        ExitKind::MmioWrite,
        ExitKind::Interrupted,
        ExitKind::MemoryFault,
        ExitKind::Halted,
        ExitKind::Debug,
        ExitKind::Final,
    ];

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            ExitKind::Io => "io",
            ExitKind::MmioRead => "mmio_read",
            ExitKind::MmioWrite => "mmio_write",
            ExitKind::Interrupted => "interrupted",
            ExitKind::MemoryFault => "memory_fault",
            ExitKind::Halted => "halted",
            ExitKind::Debug => "debug",
            ExitKind::Final => "final",
        }
    }
}

/// Runs the vCPU until its next exit.
pub fn next(vcpu: &mut VcpuFd) -> Exit {
    let result = vcpu.run().map(|_| ());
    let run = vcpu.get_kvm_run();
    match result {
        Ok(()) => from_run_page(run),
        Err(e) => match e.errno() {
            libc::EINTR => Exit::Interrupted,
            libc::EFAULT | libc::EHWPOISON => Exit::MemoryFault { gpa: None },
            errno => Exit::Failed { errno },
        },
    }
}

fn from_run_page(run: &kvm_run) -> Exit {
    match run.exit_reason {
        KVM_EXIT_IO => Exit::Io,
        KVM_EXIT_MMIO => mmio(run),
        KVM_EXIT_INTR => Exit::Interrupted,
        KVM_EXIT_MEMORY_FAULT => memory_fault(run),
        KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        KVM_EXIT_HLT => Exit::Halted,
        KVM_EXIT_DEBUG => Exit::Debug,
        KVM_EXIT_INTERNAL_ERROR => internal(run),
        KVM_EXIT_FAIL_ENTRY => fail_entry(run),
        KVM_EXIT_SYSTEM_EVENT => system_event(run),
        reason => Exit::Unexpected { reason },
    }
}

fn mmio(run: &kvm_run) -> Exit {
    // SAFETY: the exit reason says that KVM filled in this member of the union.
    let mmio = unsafe { run.__bindgen_anon_1.mmio };
    let (gpa, len) = (mmio.phys_addr, (mmio.len as usize).min(mmio.data.len()));
    match mmio.is_write {
        0 => Exit::MmioRead { gpa, len },
        _ => Exit::MmioWrite { gpa, len, data: mmio.data },
    }
}

fn memory_fault(run: &kvm_run) -> Exit {
    // SAFETY: the exit reason says that KVM filled in this member of the union.
    let fault = unsafe { run.__bindgen_anon_1.memory_fault };
    Exit::MemoryFault { gpa: Some(fault.gpa) }
}

fn internal(run: &kvm_run) -> Exit {
    // SAFETY: the exit reason says that KVM filled in this member of the union.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    let mut data = [0; 4];
    let given = (internal.ndata as usize).min(data.len());
    for (to, from) in data.iter_mut().zip(internal.data).take(given) {
        *to = from;
    }
    Exit::Internal { suberror: internal.suberror, data }
}

fn fail_entry(run: &kvm_run) -> Exit {
    // SAFETY: the exit reason says that KVM filled in this member of the union.
    let entry = unsafe { run.__bindgen_anon_1.fail_entry };
    Exit::FailEntry { reason: entry.hardware_entry_failure_reason }
}

fn system_event(run: &kvm_run) -> Exit {
    // SAFETY: the exit reason says that KVM filled in this member of the union.
    let event = unsafe { run.__bindgen_anon_1.system_event };
    Exit::SystemEvent { kind: event.type_ }
}

/// Gives the pending MMIO read its bytes; they take effect when the vCPU runs again.
pub fn answer_mmio(vcpu: &mut VcpuFd, bytes: &[u8]) {
    let run = vcpu.get_kvm_run();
    // SAFETY: only called after `Exit::MmioRead`, when KVM has this member of the union in use; all of its
    // fields are plain bytes.
    let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
    for (to, from) in mmio.data.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// A port access on the run page.
#[derive(Debug)]
pub struct Io<'a> {
    /// The port.
    pub port: u16,
    /// Bytes per transfer: 1, 2 or 4.
    pub width: usize,
    /// Whether the guest writes.
    pub out: bool,
    /// All transfers' bytes, one after the other.
    pub data: &'a mut [u8],
}

/// Hands the port access that [`Exit::Io`] announced to `handle`.
pub fn with_io<R>(vcpu: &mut VcpuFd, run_page_size: usize, handle: impl FnOnce(Io<'_>) -> R) -> R {
    let run = vcpu.get_kvm_run();
    // SAFETY: only called after `Exit::Io`, when KVM has this member of the union in use.
    let io = unsafe { run.__bindgen_anon_1.io };
    let start = usize::try_from(io.data_offset).unwrap_or(usize::MAX);
    let wanted = (io.count as usize).saturating_mul(usize::from(io.size));
    let len = wanted.min(run_page_size.saturating_sub(start));
    let page = std::ptr::from_mut(run).cast::<u8>();
    // SAFETY: KVM maps `run_page_size` bytes behind this pointer, and start + len stays inside them (len is 0
    // when start does not). The exclusive borrow of `vcpu` keeps everybody else off the page meanwhile.
    let data = unsafe { std::slice::from_raw_parts_mut(page.add(start.min(run_page_size)), len) };
    handle(Io {
        port: io.port,
        width: usize::from(io.size),
        out: u32::from(io.direction) == KVM_EXIT_IO_OUT,
        data,
    })
}
