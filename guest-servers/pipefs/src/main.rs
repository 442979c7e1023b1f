//! The `pipefs` server's program: see the library.
#![no_std]
#![no_main]

refault_rt::entry!(main);

fn main(_arguments: refault_rt::start::Args) -> i32 {
    refault_pipefs::guest::main()
}
