//! `sys_files [data] [names] [sizes] [mnt]`: what files are like, independent of absent pages, and what failed writes leave. Without a
//! word everything but `mnt`, which needs a second disk.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use refault_apps::check::files::{data, names, sizes};
use refault_apps::check::suite::Suite;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let words: Vec<&str> = args.skip(1).collect();
    let is = |word| words.is_empty() || words.contains(&word);
    let mut suite = Suite::new();
    if is("data") {
        data::run(&mut suite);
    }
    if is("names") {
        names::run(&mut suite);
    }
    if is("sizes") {
        sizes::run(&mut suite);
    }
    if words.contains(&"mnt") {
        names::mounted(&mut suite);
    }
    suite.end()
}
