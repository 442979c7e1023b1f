//! `sys_peer MASTER`: the second party of `sys_grants` and `sys_marks`. Makes the kernel calls its master orders.
#![no_std]
#![no_main]

use refault_apps::check::party;
use refault_apps::{DONE, USAGE};
use refault_rt::Endpoint;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(mut args: Args) -> i32 {
    match args.nth(1).and_then(|word| word.parse().ok()) {
        Some(master) => {
            party::obey(Endpoint::from_raw(master));
            DONE
        }
        None => USAGE,
    }
}
