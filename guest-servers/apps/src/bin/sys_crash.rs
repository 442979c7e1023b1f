//! `sys_crash [parties] [SERVER.CASE]...`: servers and processes that die while others wait for them. Servers: blk, mfs; cases: idle,
//! readers, writers. Without a word everything, which takes long: a server that dies often is restarted later and later.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use refault_apps::check::crash::{parties, servers};
use refault_apps::check::suite::Suite;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let words: Vec<&str> = args.skip(1).collect();
    let is = |word: &str| words.is_empty() || words.contains(&word);
    let mut suite = Suite::new();
    if is("parties") {
        parties::run(&mut suite);
    }
    servers::run(&mut suite, &is);
    suite.end()
}
