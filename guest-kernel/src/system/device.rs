//! IRQCTL, DEVIO_OUT, SETALARM: interrupts, the console's port, time.

use refault_abi::kcall::{Alarm, DevIn, DevIo, Irq};
use refault_abi::{Endpoint, Errno, Result};

use super::copy::read_own;
use super::{answer, request};
use crate::arch;
use crate::kernel::Kernel;

/// The serial console's data port.
const CONSOLE: u32 = 0x3f8;
/// Its interrupt-enable port.
const CONSOLE_INTERRUPTS: u32 = 0x3f9;
/// Interrupt enable: data has been received. The only one a driver may have.
const RECEIVED: u8 = 1;

/// Operations of IRQCTL, see `refault_abi::kcall::Irq`.
mod operation {
    pub const ROUTE: u32 = 1;
    pub const UNMASK: u32 = 2;
    pub const MASK: u32 = 3;
    pub const RELEASE: u32 = 4;
}

/// IRQCTL. EINVAL for a line that does not exist, EBUSY for one that belongs to another live process, EPERM
/// for one that does not belong to the caller.
pub fn irqctl(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Irq = request(kernel, me);
    let line = request.line as usize;
    if line >= kernel.machine.interrupts.lines() {
        return Err(Errno::EINVAL);
    }
    let mine = kernel.table.procs[me].endpoint;
    let owner = kernel.lines.get(line).copied().unwrap_or(Endpoint::NONE);
    if request.operation == operation::ROUTE {
        if owner != mine && kernel.table.lookup(owner).is_some() {
            return Err(Errno::EBUSY);
        }
        if let Some(place) = kernel.lines.get_mut(line) {
            *place = mine;
        }
        kernel.machine.interrupts.route(line, false);
        return Ok(());
    }
    if owner != mine {
        return Err(Errno::EPERM);
    }
    match request.operation {
        operation::UNMASK => kernel.machine.interrupts.route(line, false),
        operation::MASK => kernel.machine.interrupts.route(line, true),
        operation::RELEASE => kernel.release_line(line),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

impl Kernel {
    /// Takes a line from its owner.
    pub fn release_line(&mut self, line: usize) {
        self.machine.interrupts.route(line, true);
        if let Some(place) = self.lines.get_mut(line) {
            *place = Endpoint::NONE;
        }
    }
}

/// DEVIO_IN: empties the console's receiver as far as the answer has room.
pub fn devio_in(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut received = DevIn::default();
    for place in &mut received.bytes {
        let Some(byte) = arch::serial_read() else { break };
        *place = byte;
        received.length += 1;
    }
    answer(kernel, me, &received);
    Ok(())
}

/// DEVIO_OUT. EPERM for any other port, EINVAL for more bytes than a page.
pub fn devio_out(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: DevIo = request(kernel, me);
    if request.port != CONSOLE && request.port != CONSOLE_INTERRUPTS {
        return Err(Errno::EPERM);
    }
    let bytes = usize::try_from(request.bytes).ok().filter(|bytes| *bytes <= kernel.buffer.len());
    let bytes = bytes.ok_or(Errno::EINVAL)?;
    let buffer = kernel.buffer.as_mut_ptr() as u64;
    read_own(kernel, me, request.address, buffer, bytes as u64)?;
    let bytes = kernel.buffer.get(..bytes).unwrap_or_default();
    if request.port == CONSOLE {
        arch::serial_write(bytes);
    } else if let Some(last) = bytes.last() {
        arch::serial_interrupts(last & RECEIVED);
    }
    Ok(())
}

/// SETALARM.
pub fn setalarm(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Alarm = request(kernel, me);
    let khz = kernel.machine.timer.khz;
    let before = kernel.table.procs[me].alarm;
    let mut left = Alarm::default();
    if request.microseconds != 0 || before != u64::MAX {
        let now = arch::time_stamp();
        if before != u64::MAX {
            left.microseconds = (before.saturating_sub(now).saturating_mul(1000) / khz.max(1)).max(1);
        }
        if request.microseconds == 0 {
            kernel.table.set_alarm(me, u64::MAX);
        } else {
            let stamps = request.microseconds.saturating_mul(khz) / 1000;
            let deadline = now.saturating_add(stamps).min(u64::MAX - 1);
            kernel.table.set_alarm(me, deadline);
            kernel.machine.timer.arm(&kernel.machine.interrupts, deadline);
        }
    }
    answer(kernel, me, &left);
    Ok(())
}
