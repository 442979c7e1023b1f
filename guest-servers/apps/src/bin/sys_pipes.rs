//! `sys_pipes [first] [second] [waiting]`: pipes, and F11 of the specification. Without a word everything there is a monitor for.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use refault_apps::check::buffer::{Stage, has_monitor};
use refault_apps::check::pipes::{faults, waiting};
use refault_apps::check::suite::Suite;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let words: Vec<&str> = args.skip(1).collect();
    let is = |word| words.is_empty() || words.contains(&word);
    let mut suite = Suite::new();
    let mut stages = Vec::new();
    if is("first") {
        stages.push(Stage::First);
    }
    if is("second") {
        if has_monitor() {
            stages.push(Stage::Second(1));
        } else {
            suite.skip("second-stage", "no monitor");
        }
    }
    faults::run(&mut suite, &stages);
    if is("waiting") {
        waiting::run(&mut suite);
    }
    suite.end()
}
