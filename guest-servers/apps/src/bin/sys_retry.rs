//! `sys_retry REQUEST [first] [second] [FTEST]...`: the retry of one request, with a fault at each position of its buffer.
//!
//! Requests: READ, WRITE, BREAD, BWRITE, GETDENTS, RDLINK, SLINK, STAT. Tests: F1 to F14 as the specification numbers them,
//! without F11, which is `sys_pipes`; without any, F1 to F3. Stages: the page was never there (first), or was taken away
//! underneath, where there is a monitor (second); without a word, both.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use refault_apps::USAGE;
use refault_apps::check::buffer::{Stage, has_monitor};
use refault_apps::check::retry::positions::{self, Wanted};
use refault_apps::check::retry::{Operation, blocks, data, small, special};
use refault_apps::check::suite::Suite;
use refault_rt::eprintln;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn operation(name: &str) -> Option<Result<Box<dyn Operation>, String>> {
    fn boxed<T: Operation + 'static>(made: Result<T, String>) -> Option<Result<Box<dyn Operation>, String>> {
        Some(made.map(|operation| Box::new(operation) as Box<dyn Operation>))
    }
    match name {
        "READ" => boxed(data::Read::new()),
        "WRITE" => boxed(data::Write::new()),
        "BREAD" => boxed(blocks::Block::new(false)),
        "BWRITE" => boxed(blocks::Block::new(true)),
        "GETDENTS" => boxed(small::Getdents::new()),
        "RDLINK" => boxed(small::Rdlink::new()),
        "SLINK" => boxed(small::Slink::new()),
        "STAT" => boxed(small::Stat::new()),
        _ => None,
    }
}

fn main(args: Args) -> i32 {
    let words: Vec<&str> = args.skip(1).collect();
    let (name, tests) = match words.split_first() {
        Some((name, tests)) => (*name, tests),
        None => return usage(),
    };
    let (chosen, tests): (Vec<&str>, Vec<&str>) =
        tests.iter().copied().partition(|word| matches!(*word, "first" | "second"));
    let tests = if tests.is_empty() { Vec::from(["F1", "F2", "F3"]) } else { tests };
    let mut suite = Suite::new();
    let mut operation = match operation(name) {
        None => return usage(),
        Some(Ok(operation)) => operation,
        Some(Err(why)) => {
            suite.check(name, |_| Err(why));
            return suite.end();
        }
    };
    let mut stages = Vec::new();
    if chosen.is_empty() || chosen.contains(&"first") {
        stages.push(Stage::First);
    }
    if chosen.is_empty() || chosen.contains(&"second") {
        if has_monitor() {
            stages.push(Stage::Second(1));
        } else {
            suite.skip("second-stage", "no monitor");
        }
    }
    let is = |test: &str| tests.contains(&test);
    let wanted = Wanted { result: is("F1") || is("F5") || is("F14"), repeats: is("F2"), position: is("F3") };
    if wanted.result || wanted.repeats || wanted.position {
        let prefix = if is("F14") {
            "F14."
        } else if is("F5") {
            "F5."
        } else {
            ""
        };
        positions::run(&mut suite, &mut *operation, &stages, wanted, prefix);
    }
    for test in tests {
        match (test, name) {
            ("F1" | "F2" | "F3" | "F5" | "F14", _) => {}
            ("F4", "WRITE") => special::append(&mut suite, &stages),
            ("F6" | "F7", _) => special::errors(&mut suite, &mut *operation),
            ("F8", _) => special::second_attempt(&mut suite, &mut *operation),
            ("F9", _) => special::hopeless(&mut suite, &mut *operation),
            ("F10", "SLINK") => special::symlink_once(&mut suite, &mut *operation, &stages),
            ("F12", "GETDENTS") => special::whole_listing(&mut suite, &stages),
            ("F13", "READ") => special::end_of_file(&mut suite, "/odd.bin", name, &stages),
            ("F13", "BREAD") => special::end_of_file(&mut suite, blocks::DISK, name, &stages),
            ("F13", "GETDENTS" | "RDLINK") => special::short_answers(&mut suite, &mut *operation),
            (test, name) => {
                eprintln!("sys_retry: {test} says nothing about {name}");
                return USAGE;
            }
        }
    }
    suite.end()
}

fn usage() -> i32 {
    eprintln!(
        "usage: sys_retry READ|WRITE|BREAD|BWRITE|GETDENTS|RDLINK|SLINK|STAT [first] [second] [F1|...|F14]..."
    );
    USAGE
}
