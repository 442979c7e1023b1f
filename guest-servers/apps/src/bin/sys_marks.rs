//! `sys_marks [first] [second] [M10]`: CPF_TRY and the soft-fault mark, M1 to M12 of the specification.
//!
//! Without a word both stages (the second where there is a monitor) of M1 to M9 and M12; `M10` means M10 and M11, which need fork.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use refault_apps::check::buffer::{Stage, has_monitor};
use refault_apps::check::marks::{World, places, rules, storing};
use refault_apps::check::suite::Suite;
use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let words: Vec<&str> = args.skip(1).collect();
    let mut suite = Suite::new();
    let world = match World::new(suite.options().mark) {
        Ok(world) => world,
        Err(why) => {
            suite.check("M", |_| Err(why));
            return suite.end();
        }
    };
    if words.contains(&"M10") {
        storing::run(&mut suite, &world);
        return suite.end();
    }
    let mut stages = Vec::new();
    if words.is_empty() || words.contains(&"first") {
        stages.push(Stage::First);
    }
    if words.is_empty() || words.contains(&"second") {
        if has_monitor() {
            stages.push(Stage::Second(1));
        } else {
            suite.skip("second-stage", "no monitor");
        }
    }
    rules::run(&mut suite, &world, &stages);
    rules::alone(&mut suite, &world);
    places::run(&mut suite, &world, &stages);
    suite.end()
}
