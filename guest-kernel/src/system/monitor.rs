//! REPORT, EVENT, ARGUMENT, DIAG, SHUTDOWN, AWAY, COUNTER: what leaves the guest, and what it asks of the monitor.

use refault_abi::counters::{ALL, WORDS};
use refault_abi::doorbell::event as code;
use refault_abi::kcall::{AWAY_PAGES, Argument, Away, CounterValue, Diag, Event, REPORT_MAX, Report};
use refault_abi::layout::{PAGE, USER_END, page_floor};
use refault_abi::message::Status;
use refault_abi::{Errno, Result};
use refault_kernel::walk::translate;

use super::copy::read_own;
use super::{answer, request};
use crate::arch;
use crate::kernel::Kernel;

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
    if matches!(request.code, code::FIRST_RING3 | code::PANIC | code::WEDGED) {
        return Err(Errno::EPERM);
    }
    arch::event(request.code, request.value);
    Ok(())
}

/// ARGUMENT. ENXIO without a monitor that has one.
pub fn argument(kernel: &mut Kernel, me: usize) -> Result<()> {
    let value = arch::argument().ok_or(Errno::ENXIO)?;
    answer(kernel, me, &Argument { value });
    Ok(())
}

/// DIAG: the text as it is; the caller ends its lines. EINVAL for a length beyond the message.
pub fn diag(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Diag = request(kernel, me);
    let text = usize::try_from(request.length).ok().and_then(|length| request.text.get(..length));
    arch::serial_write(text.ok_or(Errno::EINVAL)?);
    Ok(())
}

/// One bit per word of the counters page that is a counter.
const COUNTERS: [u64; WORDS / 64] = {
    let mut bits = [0; WORDS / 64];
    let mut at = 0;
    while at < ALL.len() {
        let index = ALL[at].0 as usize;
        bits[index / 64] |= 1 << (index % 64);
        at += 1;
    }
    bits
};

/// COUNTER. EINVAL for a word that is no counter.
pub fn counter(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: CounterValue = request(kernel, me);
    let index = usize::try_from(request.index).map_err(|_| Errno::EINVAL)?;
    let bits = COUNTERS.get(index / 64).copied().unwrap_or(0);
    if bits >> (index % 64) & 1 == 0 {
        return Err(Errno::EINVAL);
    }
    request.value = arch::counter(index);
    answer(kernel, me, &request);
    Ok(())
}

/// AWAY. EINVAL for a number of times or pages that cannot be, EFAULT for an address where the caller has no page now, ENXIO where no
/// monitor takes pages away.
pub fn away(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Away = request(kernel, me);
    let times = u32::try_from(request.times).ok().filter(|times| *times > 0).ok_or(Errno::EINVAL)?;
    let pages = request.pages.max(1);
    if pages > AWAY_PAGES {
        return Err(Errno::EINVAL);
    }
    let first = page_floor(request.address);
    let end = first.checked_add(pages * PAGE).filter(|end| *end <= USER_END).ok_or(Errno::EFAULT)?;
    let root = kernel.table.procs[me].root;
    let page = |address| translate(&kernel.machine, root, address, false).map_err(|_| Errno::EFAULT);
    // Who has no such page learns that first.
    page(first)?;
    if !arch::away_begins(times) {
        return Err(Errno::ENXIO);
    }
    for address in (first..end).step_by(PAGE as usize) {
        arch::page_away(page(address)?);
    }
    Ok(())
}

/// SHUTDOWN.
pub fn shutdown(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Status = request(kernel, me);
    arch::exit(request.result as u32)
}
