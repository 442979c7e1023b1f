//! What a device asks of the VMM in answer to an access.

use refault_devices::exit_port::EndVm;

/// Something the vCPU thread has to do before the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// End the machine with the guest's status.
    End(u32),
    /// Count what ring 0 retires from the next kernel entry on, as this measurement.
    MeasureBegin(u32),
    /// That measurement ends.
    MeasureEnd(u32),
    /// The kernel was entered, and says so because it is being measured.
    KernelEntered,
    /// The guest is ready: a machine that is waited for there stops.
    Ready,
}

impl From<EndVm> for Action {
    fn from(end: EndVm) -> Self {
        Action::End(end.status)
    }
}
