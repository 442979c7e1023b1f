//! `sys_grants [G7.cap]`: memory grants without a file system, G1 to G10 of the specification.
//!
//! Two parties: this program and `sys_peer`. First with the library's grant table, then with a table of the test's own, whose
//! entries are as wrong as they have to be. `G7.cap` fills the library's table, and nothing else.
#![no_std]
#![no_main]

extern crate alloc;

use refault_apps::check::grants::{World, chains, errors, lifetime, vectors};
use refault_apps::check::suite::Suite;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut suite = Suite::new();
    let world = match World::new() {
        Ok(world) => world,
        Err(why) => {
            suite.check("G", |_| Err(why));
            return suite.end();
        }
    };
    if args.skip(1).any(|word| word == "G7.cap") {
        lifetime::to_the_cap(&mut suite, &world);
        return suite.end();
    }
    errors::without_table(&mut suite, &world);
    lifetime::library(&mut suite, &world);
    errors::run(&mut suite, &world);
    chains::run(&mut suite, &world);
    vectors::run(&mut suite, &world);
    lifetime::foreign(&mut suite, &world);
    suite.end()
}
