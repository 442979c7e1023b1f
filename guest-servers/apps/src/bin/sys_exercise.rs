//! `sys_exercise [ARGUMENT]`: a workload that checks itself, from the ready mark on. The argument, a decimal or hexadecimal word, says
//! which, as the monitor's register ARGUMENT does when there is none; see `check::exercise`.
#![no_std]
#![no_main]

extern crate alloc;

use refault_apps::USAGE;
use refault_apps::check::exercise::argument::Argument;
use refault_apps::check::exercise::run;
use refault_rt::eprintln;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(mut args: Args) -> i32 {
    match (args.nth(1).map(Argument::parse), args.next()) {
        (None, _) => run::run(None),
        (Some(Some(argument)), None) => run::run(Some(argument)),
        _ => {
            eprintln!("usage: sys_exercise [ARGUMENT], a number, 0x before a hexadecimal one");
            USAGE
        }
    }
}
