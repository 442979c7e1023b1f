//! REPORT, EVENT, DIAG, SHUTDOWN: what leaves the guest.

use refault_abi::doorbell::event as code;
use refault_abi::kcall::{Diag, Event, Report};
use refault_abi::message::Status;
use refault_abi::{Errno, Result};

use super::copy::read_own;
use super::request;
use crate::arch;
use crate::kernel::Kernel;

/// Longest report.
const REPORT_MAX: u64 = 2048;

/// REPORT. EINVAL when it is too long. Without a monitor it goes nowhere.
pub fn report(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Report = request(kernel, me);
    if request.bytes > REPORT_MAX {
        return Err(Errno::EINVAL);
    }
    let (page, hand_in) = arch::report_page();
    read_own(kernel, me, request.address, page, request.bytes)?;
    hand_in(request.bytes as u32);
    Ok(())
}

/// EVENT. EPERM for the events that are the kernel's own.
pub fn event(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Event = request(kernel, me);
    if matches!(request.code, code::FIRST_RING3 | code::PANIC) {
        return Err(Errno::EPERM);
    }
    arch::event(request.code, request.value);
    Ok(())
}

/// DIAG: the text as it is; the caller ends its lines. EINVAL for a length beyond the message.
pub fn diag(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Diag = request(kernel, me);
    let text = usize::try_from(request.length).ok().and_then(|length| request.text.get(..length));
    arch::serial_write(text.ok_or(Errno::EINVAL)?);
    Ok(())
}

/// SHUTDOWN.
pub fn shutdown(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Status = request(kernel, me);
    arch::exit(request.result as u32)
}
