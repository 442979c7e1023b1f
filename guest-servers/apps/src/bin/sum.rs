//! `sum FILE...`: FNV-1a sum, bytes and name of each file.
#![no_std]
#![no_main]

use refault_apps::files::{Failed, complain, for_each_piece};
use refault_apps::sum::Sum;
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::{Errno, user};

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut paths = args.skip(1).peekable();
    if paths.peek().is_none() {
        refault_rt::eprintln!("usage: sum FILE...");
        return USAGE;
    }
    let mut status = DONE;
    for path in paths {
        match sum_of(path) {
            Ok(sum) => refault_rt::println!("{:016x} {:>10} {path}", sum.value(), sum.bytes()),
            Err(error) => {
                complain("sum", path, error);
                status = FAILED;
            }
        }
    }
    status
}

fn sum_of(path: &str) -> Result<Sum, Errno> {
    let descriptor = user::open(path, 0, 0)?;
    let mut sum = Sum::default();
    let outcome = for_each_piece(descriptor, |piece| {
        sum.update(piece);
        Ok(())
    });
    // A descriptor that was only read has nothing to lose when it is closed.
    let _ = user::close(descriptor);
    match outcome {
        Ok(()) => Ok(sum),
        Err(Failed::Reading(error) | Failed::Writing(error)) => Err(error),
    }
}
