//! VMCTL: VM's side of page faults and suspended kernel calls.

use refault_abi::counters::Counter;
use refault_abi::kcall::{VmCtl, rts, vmctl as operation};
use refault_abi::vm::FAULT_SECOND_STAGE;
use refault_abi::{Endpoint, Errno, Result};

use refault_kernel::poison::Poisoned;

use super::{answer, request};
use crate::arch;
use crate::kernel::Kernel;

/// VMCTL.
pub fn vmctl(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: VmCtl = request(kernel, me);
    let subject = kernel.table.lookup(Endpoint::from_raw(request.endpoint)).ok_or(Errno::ESRCH);
    match request.operation {
        operation::CLEAR_PAGEFAULT => {
            let slot = subject?;
            if kernel.table.procs[slot].flags & rts::PAGEFAULT == 0 {
                return Err(Errno::EINVAL);
            }
            kernel.table.unblock(slot, rts::PAGEFAULT);
            Ok(())
        }
        operation::MEMREQ_GET => {
            let (slot, wanted) = kernel.table.vm_request()?;
            request.endpoint = wanted.target.raw();
            request.address = wanted.address;
            request.bytes = wanted.bytes;
            request.value = i64::from(wanted.write);
            request.requestor = kernel.table.procs[slot].endpoint.raw();
            request.flags = if wanted.second_stage { FAULT_SECOND_STAGE } else { 0 };
            answer(kernel, me, &request);
            Ok(())
        }
        operation::MEMREQ_REPLY => {
            let slot = kernel.table.vm_answer(Endpoint::from_raw(request.requestor))?;
            kernel.count(Counter::Resumes);
            if request.value < 0 {
                kernel.table.procs[slot].frame.set_result(request.value);
            } else {
                // From its beginning, on VM's kernel entry: the requestor is not running, its registers are
                // as they were when it called. It may suspend again.
                super::call(kernel, slot);
            }
            kernel.table.call_over(slot);
            kernel.table.unblock(slot, 0);
            Ok(())
        }
        operation::POISON_GET => {
            let Poisoned { page, owner, address } = kernel.poisons.take().ok_or(Errno::ENOENT)?;
            request.endpoint = owner.raw();
            request.address = address;
            request.value = page.cast_signed();
            answer(kernel, me, &request);
            Ok(())
        }
        operation::FLUSH => {
            let root = kernel.table.procs[subject?].root;
            arch::flush_range(root, request.address, request.bytes);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}
