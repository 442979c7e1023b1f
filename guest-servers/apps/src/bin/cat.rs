//! `cat [FILE]...`: the files one after the other, or the terminal's input.
#![no_std]
#![no_main]

use refault_apps::files::{Failed, complain, for_each_piece, write_all};
use refault_apps::{DONE, FAILED};
use refault_rt::start::Args;
use refault_rt::user::{self, Descriptor};

refault_rt::entry!(main);

/// Standard input and output.
const INPUT: Descriptor = 0;
const OUTPUT: Descriptor = 1;

fn main(args: Args) -> i32 {
    let mut status = DONE;
    let mut paths = args.skip(1).peekable();
    if paths.peek().is_none() {
        return show("standard input", INPUT);
    }
    for path in paths {
        let outcome = match user::open(path, 0, 0) {
            Ok(descriptor) => {
                let outcome = show(path, descriptor);
                // A descriptor that was only read has nothing to lose when it is closed.
                let _ = user::close(descriptor);
                outcome
            }
            Err(error) => {
                complain("cat", path, error);
                FAILED
            }
        };
        status = status.max(outcome);
    }
    status
}

fn show(path: &str, descriptor: Descriptor) -> i32 {
    match for_each_piece(descriptor, |piece| write_all(OUTPUT, piece)) {
        Ok(()) => DONE,
        Err(Failed::Reading(error)) => {
            complain("cat", path, error);
            FAILED
        }
        Err(Failed::Writing(error)) => {
            complain("cat", "standard output", error);
            FAILED
        }
    }
}
