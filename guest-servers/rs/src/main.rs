//! The reincarnation server: asks the watched servers whether they are alive, and makes those again that are not.
//!
//! The one thing to hold in mind: it never waits for a watched server or for VFS. VM and PM, which it does wait for, answer
//! at once and never wait for it.
#![no_std]
#![no_main]

extern crate alloc;

mod server;

refault_rt::entry!(main);

fn main(_args: refault_rt::start::Args) -> i32 {
    server::Rs::new().serve()
}
