//! The exit port: how a guest ends its machine and says how it went.
//!
//! A write of `v` asks for the end of the machine with the guest's status `v`. Port numbers and width are those
//! under which guests know QEMU's `isa-debug-exit,iobase=0xf4,iosize=4`; QEMU turns `v` into the process exit
//! code `(v << 1) | 1`, while here the monitor is given `v` itself.
//!
//! What this is not: the device ends nothing. It returns [`EndVm`], and the monitor decides.

use crate::bus::{Access, Device, Refusal, Window};

/// Where the exit port is.
pub const EXIT_PORT: Window = Window { base: 0xf4, len: 4 };

/// The guest asks for its machine to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndVm {
    /// What the guest wrote, zero-extended. By convention 0 is success.
    pub status: u32,
}

/// The device behind [`EXIT_PORT`]. It has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitPort;

impl<A: From<EndVm>> Device<A> for ExitPort {
    fn read(&self, _offset: u64, data: &mut [u8]) -> Access<A> {
        // Reads as zero, so that a guest can tell the port from an empty one.
        data.fill(0);
        Access::Done
    }

    fn write(&self, offset: u64, data: &[u8]) -> Access<A> {
        if offset != 0 {
            return Access::Refused(Refusal::NoRegister);
        }
        let mut bytes = [0; 4];
        match bytes.get_mut(..data.len()) {
            Some(low) => low.copy_from_slice(data),
            None => return Access::Refused(Refusal::Width),
        }
        Access::Then(EndVm { status: u32::from_le_bytes(bytes) }.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bus::Bus;

    fn bus() -> Bus<EndVm> {
        let mut bus = Bus::new();
        bus.insert("exit port", EXIT_PORT, Arc::new(ExitPort)).unwrap();
        bus
    }

    #[test]
    fn a_write_of_any_width_ends_the_machine_with_its_value() {
        let bus = bus();
        assert_eq!(bus.port_out(0xf4, 1, &[3]), Access::Then(EndVm { status: 3 }));
        assert_eq!(bus.port_out(0xf4, 2, &[0, 1]), Access::Then(EndVm { status: 256 }));
        assert_eq!(bus.port_out(0xf4, 4, &[0xff; 4]), Access::Then(EndVm { status: u32::MAX }));
    }

    #[test]
    fn reads_and_other_ports_of_the_window_end_nothing() {
        let bus = bus();
        let mut data = [9];
        assert_eq!(bus.port_in(0xf4, 1, &mut data), Access::Done);
        assert_eq!(data, [0]);
        assert_eq!(bus.port_out(0xf5, 1, &[1]), Access::Refused(Refusal::NoRegister));
        assert_eq!(bus.write(0xf4, &[0; 8]), Access::Refused(Refusal::Unclaimed));
    }
}
