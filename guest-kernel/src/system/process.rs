//! PROC_CREATE, PROC_START, PROC_FORK, PROC_EXIT, PROC_INFO.

use refault_abi::counters::Counter;
use refault_abi::doorbell::class;
use refault_abi::grant::Entry;
use refault_abi::ipc::{AsyncEntry, SENDA_MAX};
use refault_abi::kcall::{
    ProcCreate, ProcFork, ProcInfo, ProcSet, ProcStart, Target, WAITS_MAX, Wait, WaitTable, privilege, rts,
};
use refault_abi::layout::USER_END;
use refault_abi::{Endpoint, Errno, Result};
use refault_kernel::frame::Frame;

use super::{answer, request};
use crate::arch;
use crate::kernel::Kernel;

/// PROC_CREATE.
pub fn create(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: ProcCreate = request(kernel, me);
    let slot = kernel.table.create(&request)?;
    request.slot = slot as i32;
    request.endpoint = kernel.table.procs[slot].endpoint.raw();
    answer(kernel, me, &request);
    Ok(())
}

/// A process the caller may change: alive, and neither the caller nor VM.
fn subject(kernel: &Kernel, me: usize, endpoint: i32) -> Result<usize> {
    let endpoint = Endpoint::from_raw(endpoint);
    let slot = kernel.table.lookup(endpoint).ok_or(Errno::ESRCH)?;
    if slot == me || endpoint == Endpoint::VM { Err(Errno::EPERM) } else { Ok(slot) }
}

/// PROC_START. EINVAL for registers or an address space that cannot be, ESRCH for a process whose end has begun.
pub fn start(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: ProcStart = request(kernel, me);
    let slot = subject(kernel, me, request.endpoint)?;
    if request.rip >= USER_END || request.rsp > USER_END {
        return Err(Errno::EINVAL);
    }
    let direct = kernel.machine.root_page(request.root).ok_or(Errno::EINVAL)?;
    arch::adopt_root(direct);
    let frame = Frame { rip: request.rip, rsp: request.rsp, rdi: request.argument, ..arch::user_frame() };
    if !kernel.table.start(slot, frame, request.root) {
        return Err(Errno::ESRCH);
    }
    let endpoint = kernel.table.procs[slot].endpoint;
    // The entries they were for are gone with the old program.
    kernel.marks.forget(endpoint);
    Ok(())
}

/// PROC_FORK. EINVAL for an address space that cannot be and for a parent that does not wait for PM's answer.
pub fn fork(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: ProcFork = request(kernel, me);
    let parent = subject(kernel, me, request.parent)?;
    let direct = kernel.machine.root_page(request.root).ok_or(Errno::EINVAL)?;
    let child = kernel.table.fork(parent, request.root)?;
    arch::adopt_root(direct);
    kernel.count(Counter::Forks);
    request.child = kernel.table.procs[child].endpoint.raw();
    answer(kernel, me, &request);
    Ok(())
}

/// PROC_SET. EPERM for a process that is or would become more than a program.
pub fn set(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: ProcSet = request(kernel, me);
    let slot = subject(kernel, me, request.endpoint)?;
    let programs = [privilege::USER, privilege::TEST];
    if !programs.contains(&request.privilege) || !programs.contains(&kernel.table.procs[slot].class) {
        return Err(Errno::EPERM);
    }
    kernel.table.set_class(slot, request.privilege, request.name);
    Ok(())
}

/// PROC_STOP.
pub fn stop(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Target = request(kernel, me);
    let slot = subject(kernel, me, request.endpoint)?;
    kernel.table.stop(slot);
    Ok(())
}

/// PROC_EXIT.
pub fn exit(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: Target = request(kernel, me);
    let slot = subject(kernel, me, request.endpoint)?;
    let endpoint = kernel.table.procs[slot].endpoint;
    for line in 0..kernel.lines.len() {
        if kernel.lines.get(line) == Some(&endpoint) {
            kernel.release_line(line);
        }
    }
    let process = &kernel.table.procs[slot];
    let (root, grants, messages) = (process.root, process.grants, process.async_address);
    if root != 0 {
        let bytes = grants.entries.saturating_mul(size_of::<Entry>() as u64);
        kernel.machine.name_pages(root, grants.address, bytes, class::NONE);
        let bytes = if messages == 0 { 0 } else { SENDA_MAX as u64 * size_of::<AsyncEntry>() as u64 };
        kernel.machine.name_pages(root, messages, bytes, class::NONE);
    }
    kernel.table.exit(slot);
    // Calls that wait for its memory would wait for ever: each starts again, and finds that it is gone.
    while let Some(waiting) = kernel.table.vm_orphan(endpoint) {
        super::call(kernel, waiting);
        kernel.table.call_over(waiting);
        kernel.table.unblock(waiting, 0);
    }
    Ok(())
}

/// WAITS. EINVAL for a table that is misaligned, too long or not in user memory.
pub fn waits(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: WaitTable = request(kernel, me);
    // The number of entries is small, so the product cannot wrap.
    let good = request.entries <= WAITS_MAX as u64
        && request.address.is_multiple_of(64)
        && request
            .address
            .checked_add(request.entries * size_of::<Wait>() as u64)
            .is_some_and(|end| end <= USER_END);
    if !good {
        return Err(Errno::EINVAL);
    }
    kernel.table.procs[me].waits = request;
    Ok(())
}

/// PROC_INFO.
pub fn info(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: ProcInfo = request(kernel, me);
    let slot = usize::try_from(request.slot).map_err(|_| Errno::EINVAL)?;
    let process = kernel.table.procs.get(slot).ok_or(Errno::EINVAL)?;
    if process.flags & rts::FREE != 0 {
        return Err(Errno::ESRCH);
    }
    request.endpoint = process.endpoint.raw();
    request.flags = process.flags;
    request.priority = u32::from(process.level);
    request.reserved = 0;
    request.name = process.name;
    let on_vm = process.flags & (rts::VMREQUEST | rts::PAGEFAULT) != 0;
    request.waits_for = if on_vm { Endpoint::VM } else { kernel.table.blocked_on(slot) }.raw();
    answer(kernel, me, &request);
    Ok(())
}
