//! `sys_hazard SCENARIO...`: requests that hang the seed's system (`mode=faithful`), each on a weak point of its own, and must not
//! hang this one. D1 to D12 and H1 to H10 of the specification.
#![no_std]
#![no_main]

extern crate alloc;

use refault_apps::USAGE;
use refault_apps::check::hazards::ALL;
use refault_apps::check::suite::Suite;
use refault_rt::eprintln;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut suite = Suite::new();
    for word in args.skip(1) {
        match ALL.iter().find(|(name, _)| *name == word) {
            Some((_, scenario)) => scenario(&mut suite),
            None => {
                eprintln!("sys_hazard: there is no scenario {word}");
                return USAGE;
            }
        }
    }
    suite.end()
}
