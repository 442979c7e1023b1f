//! `sum [FILE]...`: FNV-1a sum, bytes and name of each file, or of the standard input.
#![no_std]
#![no_main]

use refault_apps::files::{Failed, complain, for_each_piece};
use refault_apps::sum::Sum;
use refault_apps::{DONE, FAILED};
use refault_rt::Errno;
use refault_rt::start::Args;
use refault_rt::user::{self, Descriptor};

refault_rt::entry!(main);

/// Standard input.
const INPUT: Descriptor = 0;

fn main(args: Args) -> i32 {
    let mut paths = args.skip(1).peekable();
    if paths.peek().is_none() {
        return show("standard input", sum_of(INPUT));
    }
    let mut status = DONE;
    for path in paths {
        let sum = user::open(path, 0, 0).and_then(|descriptor| {
            let sum = sum_of(descriptor);
            // A descriptor that was only read has nothing to lose when it is closed.
            let _ = user::close(descriptor);
            sum
        });
        status = status.max(show(path, sum));
    }
    status
}

fn show(path: &str, sum: Result<Sum, Errno>) -> i32 {
    match sum {
        Ok(sum) => {
            refault_rt::println!("{:016x} {:>10} {path}", sum.value(), sum.bytes());
            DONE
        }
        Err(error) => {
            complain("sum", path, error);
            FAILED
        }
    }
}

fn sum_of(descriptor: Descriptor) -> Result<Sum, Errno> {
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
