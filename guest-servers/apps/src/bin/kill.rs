//! `kill [-SIGNAL] PROCESS...`: ends processes; 0 only asks whether they are there. The numbers are those of `ps`.
#![no_std]
#![no_main]

use refault_abi::pm::SIGTERM;
use refault_apps::reason::reason;
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::{Endpoint, Errno, eprintln, user};

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut words = args.skip(1).peekable();
    let signal = match words.next_if(|word| word.starts_with('-')) {
        Some(word) => word.trim_start_matches('-').parse().ok(),
        None => Some(SIGTERM),
    };
    let (Some(signal), Some(_)) = (signal, words.peek()) else {
        eprintln!("usage: kill [-SIGNAL] PROCESS...");
        return USAGE;
    };
    let mut status = DONE;
    for word in words {
        let ended = match word.parse() {
            Ok(number) => user::kill(Endpoint::from_raw(number), signal),
            Err(_) => Err(Errno::EINVAL),
        };
        if let Err(error) = ended {
            let why = if error == Errno::ESRCH { "no such process" } else { reason(error) };
            eprintln!("kill: {word}: {why} ({error})");
            status = FAILED;
        }
    }
    status
}
