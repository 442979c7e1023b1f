//! `faults [-a]`: how many copies there were, how many met a missing page, and what became of them. `-a`: every counter.
#![no_std]
#![no_main]

use refault_apps::procs::{about_faults, counters};
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::{eprintln, kernel, println};

refault_rt::entry!(main);

fn main(mut args: Args) -> i32 {
    let all = match (args.nth(1), args.next()) {
        (None, _) => false,
        (Some("-a"), None) => true,
        _ => {
            eprintln!("usage: faults [-a]");
            return USAGE;
        }
    };
    for (counter, key) in counters().filter(|(_, key)| all || about_faults(key)) {
        match kernel::counter(counter) {
            Ok(value) => println!("{value:>12} {key}"),
            Err(error) => {
                eprintln!("faults: {key}: {error}");
                return FAILED;
            }
        }
    }
    DONE
}
