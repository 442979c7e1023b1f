//! VUMAP: the physical addresses behind a buffer, for device transfers.
//!
//! The one thing to hold in mind: an answer is only good while nobody unmaps the memory, which is between the
//! driver and whoever granted it. TRY is honoured like in a copy, except in the seed's system.

use refault_abi::grant::{READ, WRITE};
use refault_abi::kcall::{PhysRange, VuMap};
use refault_abi::layout::{PAGE, USER_END};
use refault_abi::options::Mode;
use refault_abi::{Endpoint, Errno, Result};
use refault_kernel::transfer::{End, SoftFault};
use refault_kernel::walk::{Missing, translate};
use zerocopy::IntoBytes;

use super::copy::{suspend, write_own};
use super::{answer, grant, request};
use crate::kernel::Kernel;

/// Most ranges of one call.
const MAX_RANGES: usize = 64;

/// VUMAP. `bytes` becomes the bytes translated, less than asked when the ranges did not fit.
pub fn vumap(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: VuMap = request(kernel, me);
    let capacity = request.count as usize;
    let access = u16::try_from(request.access).ok().filter(|bits| *bits & !(READ | WRITE) == 0 && *bits != 0);
    let access = access.ok_or(Errno::EINVAL)?;
    if capacity == 0 || capacity > MAX_RANGES || request.bytes == 0 {
        return Err(Errno::EINVAL);
    }
    let (slot, start, granted) = if Endpoint::from_raw(request.granter) == Endpoint::SELF {
        (me, request.offset, None)
    } else {
        let (offset, bytes) = (request.offset, request.bytes);
        let found = grant::verified(kernel, me, request.granter, request.grant, access, offset, bytes)?;
        (kernel.table.lookup(found.target).ok_or(Errno::ESRCH)?, found.address, Some(found))
    };
    let end = start.checked_add(request.bytes).filter(|end| *end <= USER_END).ok_or(Errno::EFAULT)?;
    let root = kernel.table.procs[slot].root;

    let mut ranges = [PhysRange::default(); MAX_RANGES];
    let mut used = 0usize;
    let mut at = start;
    while at < end {
        let physical = match translate(&kernel.machine, root, at, access & WRITE != 0) {
            Ok(physical) => physical,
            Err(Missing::Broken) => return Err(Errno::EFAULT),
            Err(Missing::Absent) => {
                let write = if access & WRITE != 0 { End::To } else { End::From };
                let fault = SoftFault { end: write, address: at, second_stage: false };
                let faithful = kernel.options.mode == Mode::Faithful;
                return Err(match granted {
                    // The seed's way: TRY is not looked at, and what is only to be read is not brought in.
                    Some(_) if faithful && access & WRITE == 0 => Errno::EFAULT,
                    Some(granted) if granted.no_suspend && !faithful => {
                        let marked = grant::mark(kernel, &granted, &fault, write);
                        if marked { Errno::EFAULT } else { suspend(kernel, me, slot, &fault, end - at) }
                    }
                    _ => suspend(kernel, me, slot, &fault, end - at),
                });
            }
        };
        let bytes = (PAGE - at % PAGE).min(end - at);
        match used.checked_sub(1).and_then(|last| ranges.get_mut(last)) {
            Some(last) if last.address + last.bytes == physical => last.bytes += bytes,
            _ if used == capacity => break,
            _ => {
                if let Some(range) = ranges.get_mut(used) {
                    *range = PhysRange { address: physical, bytes };
                }
                used += 1;
            }
        }
        at += bytes;
    }
    let found = ranges.get(..used).unwrap_or_default().as_bytes();
    write_own(kernel, me, request.output, found.as_ptr() as u64, found.len() as u64)?;
    request.count = used as u32;
    request.bytes = at - start;
    answer(kernel, me, &request);
    Ok(())
}
