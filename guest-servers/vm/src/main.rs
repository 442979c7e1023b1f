//! The virtual-memory server: the first process, started by the kernel, which starts all others.
#![no_std]
#![no_main]

extern crate alloc;

mod server;

refault_rt::entry!(main);

fn main(_args: refault_rt::start::Args) -> i32 {
    match server::run() {
        Ok(never) => match never {},
        Err(reason) => {
            refault_rt::diag!("vm: {reason}");
            // Without VM there is no PM to end the machine.
            let _ = refault_rt::kernel::shutdown(1);
            1
        }
    }
}
