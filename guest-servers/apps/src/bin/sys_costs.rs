//! `sys_costs`: performs operations between marks, so that a monitor can count what ring 0 retires for each.
//!
//! The monitor counts from the first kernel entry after MEASURE_BEGIN to the write of MEASURE_END, so every
//! measurement contains the kernel call that ends it; [`Measured::Empty`] is that call alone, for subtracting. Each
//! operation is performed twice beforehand: what is counted is the repeated case, with every page present.
#![no_std]
#![no_main]

use refault_abi::doorbell::{Measured, event};
use refault_abi::{Endpoint, Errno, Message, Result, pm};
use refault_rt::grants::Grant;
use refault_rt::start::Args;
use refault_rt::{kernel, user};

refault_rt::entry!(main);

/// Bytes of the copies.
const PAGE: usize = 4096;

#[repr(C, align(4096))]
struct Page([u8; PAGE]);

fn main(_args: Args) -> i32 {
    match measure_all() {
        Ok(()) => refault_apps::DONE,
        Err(error) => {
            refault_rt::eprintln!("sys_costs: {error}");
            refault_apps::FAILED
        }
    }
}

fn measure_all() -> Result<()> {
    measure(Measured::Empty, || Ok(()))?;
    measure(Measured::NullCall, kernel::null)?;
    measure(Measured::RoundTrip, || {
        // PM answers this without asking anybody: one message there, one back.
        refault_rt::ipc::sendrec(Endpoint::PM, &Message::bare(pm::GETPID)).map(|_| ())
    })?;

    let source = Page([7; PAGE]);
    let mut target = Page([0; PAGE]);
    let me = user::getpid()?;
    let grant = Grant::of_bytes(me, &source.0).make()?;
    measure(Measured::SafeCopy, || {
        kernel::safecopy_from(me, grant.id(), 0, &mut target.0).whole().map(|_| ())
    })?;
    if target.0 != source.0 {
        return Err(Errno::EIO);
    }

    let descriptor = user::open("/b.bin", refault_abi::vfs::O_RDONLY, 0)?;
    measure(Measured::Read, || match user::pread(descriptor, &mut target.0, 0)? {
        PAGE => Ok(()),
        _ => Err(Errno::EIO),
    })?;
    user::close(descriptor)
}

/// Performs `operation` three times, the third time between the marks.
fn measure(what: Measured, mut operation: impl FnMut() -> Result<()>) -> Result<()> {
    operation()?;
    operation()?;
    kernel::event(event::MEASURE_BEGIN, what as u32)?;
    let result = operation();
    kernel::event(event::MEASURE_END, what as u32)?;
    result
}
