//! `sys_poison`: pages whose contents are lost, touched in ring 3, lent for a request, and in the file system's cache.
#![no_std]
#![no_main]

extern crate alloc;

use refault_apps::check::poison;
use refault_apps::check::suite::Suite;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(_args: Args) -> i32 {
    let mut suite = Suite::new();
    poison::run(&mut suite);
    suite.end()
}
