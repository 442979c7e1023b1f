//! The first user process: runs the program named on the command line behind `--`, waits for it, and ends the
//! machine with its status.
#![no_std]
#![no_main]

use refault_abi::{Errno, options};
use refault_rt::start::Args;
use refault_rt::{eprintln, info, println, user};

refault_rt::entry!(main);

/// Status of a program that does not exist, as shells have it.
const NOT_FOUND: i64 = 127;
/// Status of a program that cannot be run.
const NOT_RUN: i64 = 126;

/// The arguments are the names of the programs in the boot image, behind init's own.
fn main(mut args: Args) -> i32 {
    args.next();
    let cmdline = info::info().cmdline();
    if let Err(bad) = options::Options::parse(cmdline) {
        eprintln!("init: bad option {}: must be {}", bad.word, bad.expected);
        return end(2);
    }
    let Some(name) = options::program(cmdline).next() else {
        println!("init: no program given: put `-- PROGRAM ARGUMENTS` on the command line");
        list(args);
        return end(0);
    };
    let child = match user::spawn(options::program(cmdline)) {
        Ok(child) => child,
        Err(Errno::ENOENT) => {
            eprintln!("init: there is no program `{name}` in the boot image");
            list(args);
            return end(NOT_FOUND);
        }
        Err(error) => {
            eprintln!("init: `{name}` cannot be run: {error}");
            return end(NOT_RUN);
        }
    };
    loop {
        match user::wait() {
            Ok((ended, status)) if ended == child => return end(status),
            // An orphan.
            Ok(_) => {}
            Err(error) => {
                eprintln!("init: waiting for `{name}`: {error}");
                return end(NOT_RUN);
            }
        }
    }
}

/// Names the programs there are.
fn list(programs: Args) {
    refault_rt::print!("programs:");
    for name in programs {
        refault_rt::print!(" {name}");
    }
    println!();
}

/// Ends the machine.
fn end(status: i64) -> i32 {
    if let Err(error) = user::shutdown(status) {
        eprintln!("init: the machine does not stop: {error}");
    }
    // Init's own end stops the machine, too.
    i32::try_from(status).unwrap_or(1)
}
