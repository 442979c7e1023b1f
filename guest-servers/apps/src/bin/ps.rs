//! `ps`: every process, what it is doing, and whom it waits for.
#![no_std]
#![no_main]

use refault_abi::endpoint::NR_PROCS;
use refault_apps::procs::{Peer, state};
use refault_apps::{DONE, FAILED};
use refault_rt::start::Args;
use refault_rt::{Errno, eprintln, println, user};

refault_rt::entry!(main);

fn main(_args: Args) -> i32 {
    println!("PROCESS NAME            PRIORITY STATE      ON");
    for slot in 0..NR_PROCS as i32 {
        let info = match user::process_info(slot) {
            Ok(info) => info,
            Err(Errno::ESRCH) => continue,
            Err(error) => {
                eprintln!("ps: slot {slot}: {error}");
                return FAILED;
            }
        };
        let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = core::str::from_utf8(name).unwrap_or("?");
        let on = if info.flags == 0 { Peer(refault_rt::Endpoint::NONE.raw()) } else { Peer(info.waits_for) };
        println!("{:>7} {name:<15} {:>8} {:<7} {on:>5}", info.endpoint, info.priority, state(info.flags));
    }
    DONE
}
