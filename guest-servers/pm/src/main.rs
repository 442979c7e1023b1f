//! The process manager: FORK, EXEC, SPAWN, EXIT, KILL, WAIT, the end of processes and of the machine.
//!
//! VM is asked by SENDREC where it answers at once. Everything that may wait for a file system, which is every request to
//! VFS and two to VM, is sent asynchronously, and PM goes on with it when the answer comes: a crashed driver is
//! restarted through PM, which therefore must not be waiting for that driver.
#![no_std]
#![no_main]

extern crate alloc;

mod server;

refault_rt::entry!(main);

fn main(_args: refault_rt::start::Args) -> i32 {
    server::Pm::new().serve()
}
