//! Copies between processes, and what happens when one meets an absent page.
//!
//! The one thing to hold in mind: a soft fault either ends the call (EFAULT) or suspends it on VM; which of the
//! two is the caller's choice, never an accident. What is not here: permission (`grant`).

use refault_abi::counters::Counter;
use refault_abi::kcall::{COPY_TRY, Copy};
use refault_abi::{Endpoint, Errno, Result};
use refault_kernel::transfer::{End, Place, Poison, Progress, Sites, SoftFault, Stopped, transfer};
use refault_kernel::vmrequest::VmRequest;

use super::{answer, request};
use crate::kernel::Kernel;

/// Copies, and counts what happened.
pub fn copy(kernel: &mut Kernel, from: Place, to: Place, bytes: u64, sites: Option<&Sites>) -> Progress {
    kernel.count(Counter::Copies);
    let progress = transfer(&mut kernel.machine, from, to, bytes, sites);
    kernel.machine.count(Counter::CopyBytes, progress.bytes);
    count_fault(kernel, &progress);
    progress
}

/// Counts the soft fault of a copy, if it met one.
pub fn count_fault(kernel: &mut Kernel, progress: &Progress) {
    if let Some(Stopped::Soft(fault)) = progress.stopped {
        kernel.count(match fault.second_stage {
            true => Counter::SoftFaultsSecondStage,
            false => Counter::SoftFaultsFirstStage,
        });
    }
}

/// A copy met a poisoned page in the memory of the process in `owner`, which ends. Whoever copied hears EFAULT, without a mark and
/// without being suspended: there is nothing to repeat.
pub fn poisoned(kernel: &mut Kernel, owner: usize, poison: &Poison) -> Errno {
    kernel.count(Counter::PoisonedCopy);
    kernel.poisoned(owner, poison.page, poison.address);
    Errno::EFAULT
}

/// Suspends the caller until VM has made `bytes` from the faulting address on present in the memory of the
/// process in `target`. EFAULT where nobody could (VM cannot wait for itself), and where it was of no use.
pub fn suspend(kernel: &mut Kernel, me: usize, target: usize, fault: &SoftFault, bytes: u64) -> Errno {
    let table = &mut kernel.table;
    let is_vm = |slot: usize| table.procs[slot].endpoint == Endpoint::VM;
    if is_vm(me) || is_vm(target) && !fault.second_stage {
        return Errno::EFAULT;
    }
    let request = VmRequest {
        address: fault.address,
        bytes,
        target: table.procs[target].endpoint,
        second_stage: fault.second_stage,
        write: fault.end == End::To,
        later: kernel.later,
        ..VmRequest::NONE
    };
    match table.suspend(me, request) {
        Ok(()) => {
            kernel.count(Counter::Suspends);
            if kernel.options.watchdog != 0 {
                kernel.bound_suspensions(me);
            }
            Errno::VMSUSPEND
        }
        Err(error) => {
            kernel.count(Counter::SuspensionsGivenUp);
            error
        }
    }
}

/// User memory of the process in `slot`.
pub fn user(kernel: &Kernel, slot: usize, address: u64) -> Place {
    Place::User { root: kernel.table.procs[slot].root, address }
}

/// Moves bytes between the caller's memory and the kernel's, suspending where a page is absent.
fn own(kernel: &mut Kernel, me: usize, from: Place, to: Place, bytes: u64) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let progress = transfer(&mut kernel.machine, from, to, bytes, None);
    match progress.stopped {
        None => Ok(()),
        Some(Stopped::Outside) => Err(Errno::EFAULT),
        Some(Stopped::Poison(poison)) => Err(poisoned(kernel, me, &poison)),
        Some(Stopped::Soft(fault)) => Err(suspend(kernel, me, me, &fault, bytes - progress.bytes)),
    }
}

/// Reads `bytes` of the caller's memory to the kernel address `to`, which has room for them.
pub fn read_own(kernel: &mut Kernel, me: usize, address: u64, to: u64, bytes: u64) -> Result<()> {
    let from = user(kernel, me, address);
    own(kernel, me, from, Place::Kernel(to), bytes)
}

/// Writes `bytes` from the kernel address `from` to the caller's memory.
pub fn write_own(kernel: &mut Kernel, me: usize, address: u64, from: u64, bytes: u64) -> Result<()> {
    let to = user(kernel, me, address);
    own(kernel, me, Place::Kernel(from), to, bytes)
}

/// VIRCOPY. ESRCH for a dead process, EDOM for zero bytes, EFAULT with the address that is missing.
pub fn vircopy(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: Copy = request(kernel, me);
    let process =
        |endpoint| kernel.table.lookup_or_self(Endpoint::from_raw(endpoint), me).ok_or(Errno::ESRCH);
    let (from, to) = (process(request.from)?, process(request.to)?);
    if request.bytes == 0 {
        return Err(Errno::EDOM);
    }
    let (source, target) = (user(kernel, from, request.source), user(kernel, to, request.destination));
    let progress = copy(kernel, source, target, request.bytes, None);
    let result = match progress.stopped {
        None => Ok(()),
        Some(Stopped::Outside) => Err(Errno::EFAULT),
        Some(Stopped::Poison(poison)) => {
            Err(poisoned(kernel, if poison.end == End::From { from } else { to }, &poison))
        }
        Some(Stopped::Soft(fault)) => {
            request.fault = fault.address;
            let owner = if fault.end == End::From { from } else { to };
            Err(if request.flags & COPY_TRY != 0 {
                Errno::EFAULT
            } else {
                suspend(kernel, me, owner, &fault, request.bytes - progress.bytes)
            })
        }
    };
    if result != Err(Errno::VMSUSPEND) {
        request.bytes = progress.bytes;
        answer(kernel, me, &request);
    }
    result
}
