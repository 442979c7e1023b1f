//! Servers and processes that die while others wait for them. `sys_crash`.
//!
//! A machine for each server and case: a server that dies often is restarted later and later.

use crate::suite::Test;

/// The tests.
pub fn tests() -> Vec<Test> {
    let case = |name: &str| Test::new(format!("crash.{name}"), &format!("sys_crash {name}")).limit(240);
    vec![
        case("parties").cases(2).faults(),
        case("blk.idle"),
        case("blk.readers"),
        case("blk.writers"),
        case("mfs.idle"),
        case("mfs.readers"),
        case("mfs.writers"),
    ]
}
