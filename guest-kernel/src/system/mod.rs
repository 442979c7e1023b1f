//! Kernel calls: one file per topic, one function per call.
//!
//! The one thing to hold in mind: a call runs to its end with the lock held, and either stores its answer or
//! suspends its caller on VM (the error VMSUSPEND, which never leaves the kernel). A suspended call has changed
//! nothing that its repetition would not do again, because it is started again from its beginning.

mod copy;
mod device;
mod grant;
mod monitor;
mod process;
mod vmctl;
mod vumap;

use refault_abi::counters::Counter;
use refault_abi::ipc::Call;
use refault_abi::{Errno, Result, kcall};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::Kernel;

/// Runs the kernel call in the registers of the process in `me` and stores its result, unless it suspends.
#[inline(always)]
pub fn call(kernel: &mut Kernel, me: usize) {
    kernel.count(Counter::KernelCalls);
    let process = &kernel.table.procs[me];
    let number = (process.frame.message[0] >> 32) as u16;
    let index = number.wrapping_sub(kcall::BASE);
    let result = if process.trap_mask & Call::Kernel.mask() == 0 {
        Err(Errno::ETRAPDENIED)
    } else if index >= 64 {
        Err(Errno::EBADREQUEST)
    } else if process.call_mask >> index & 1 == 0 {
        Err(if kcall::name(number) == "?" { Errno::EBADREQUEST } else { Errno::ECALLDENIED })
    } else if number == kcall::NULL {
        Ok(())
    } else if number == kcall::SAFECOPYTO {
        grant::safecopy(kernel, me, grant::Direction::To)
    } else if number == kcall::SAFECOPYFROM {
        grant::safecopy(kernel, me, grant::Direction::From)
    } else {
        dispatch(kernel, me, number)
    };
    let code = match result {
        Ok(()) => 0,
        Err(Errno::VMSUSPEND) => return,
        Err(error) => error.code(),
    };
    kernel.table.procs[me].frame.set_result(i64::from(code));
}

/// Every other call.
#[inline(never)]
fn dispatch(kernel: &mut Kernel, me: usize, number: u16) -> Result<()> {
    match number {
        kcall::VSAFECOPY => grant::vsafecopy(kernel, me),
        kcall::SAFEMEMSET => grant::safememset(kernel, me),
        kcall::SETGRANT => grant::setgrant(kernel, me),
        kcall::SETGRANT_TEMPORARY => grant::setgrant_temporary(kernel, me),
        kcall::WAITS => process::waits(kernel, me),
        kcall::VIRCOPY => copy::vircopy(kernel, me),
        kcall::VUMAP => vumap::vumap(kernel, me),
        kcall::VMCTL => vmctl::vmctl(kernel, me),
        kcall::PROC_CREATE => process::create(kernel, me),
        kcall::PROC_START => process::start(kernel, me),
        kcall::PROC_EXIT => process::exit(kernel, me),
        kcall::PROC_INFO => process::info(kernel, me),
        kcall::PROC_SET => process::set(kernel, me),
        kcall::PROC_STOP => process::stop(kernel, me),
        kcall::PROC_FORK => process::fork(kernel, me),
        kcall::GRANT_INFO => grant::info(kernel, me),
        kcall::COUNTER => monitor::counter(kernel, me),
        kcall::AWAY => monitor::away(kernel, me),
        kcall::IRQCTL => device::irqctl(kernel, me),
        kcall::DEVIO_IN => device::devio_in(kernel, me),
        kcall::DEVIO_OUT => device::devio_out(kernel, me),
        kcall::SETALARM => device::setalarm(kernel, me),
        kcall::SHUTDOWN => monitor::shutdown(kernel, me),
        kcall::DIAG => monitor::diag(kernel, me),
        kcall::REPORT => monitor::report(kernel, me),
        kcall::EVENT => monitor::event(kernel, me),
        kcall::ARGUMENT => monitor::argument(kernel, me),
        _ => Err(Errno::EBADREQUEST),
    }
}

/// The request of the process in `me`. Every bit pattern is a request; whether its numbers make sense is the
/// call's to check.
fn request<T: FromBytes + Immutable>(kernel: &Kernel, me: usize) -> T {
    const { assert!(size_of::<T>() <= 56) };
    let [_, payload @ ..] = &kernel.table.procs[me].frame.message;
    match T::read_from_prefix(payload.as_bytes()) {
        Ok((request, _)) => request,
        // Not reachable: the size is asserted and reads need no alignment.
        Err(_) => T::new_zeroed(),
    }
}

/// Stores the answer of the process in `me`.
fn answer<T: IntoBytes + Immutable>(kernel: &mut Kernel, me: usize, value: &T) {
    const { assert!(size_of::<T>() <= 56) };
    let [_, payload @ ..] = &mut kernel.table.procs[me].frame.message;
    let bytes = value.as_bytes();
    if let Some(place) = payload.as_mut_bytes().get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
