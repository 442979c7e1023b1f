//! The terminal driver: what a program writes goes to the serial console; what is typed becomes lines for those who read.
//!
//! The user's memory is copied by a grant without CPF_TRY: an absent page suspends this driver on VM, which
//! nobody who serves VM waits for. A read without a line to give is answered later: nobody waits for this driver meanwhile.
//! It sleeps until the serial line's interrupt or the next request.
#![no_std]
#![no_main]

extern crate alloc;

mod terminal;

refault_rt::entry!(main);

fn main(_args: refault_rt::start::Args) -> i32 {
    terminal::Terminal::new().serve()
}
