//! F11, and pipes beside it. `sys_pipes`.

use crate::suite::Test;

/// Reads and writes, each with the schedules of a buffer.
const F11_CASES: usize = 2 * 15;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("F11.first-stage", "sys_pipes first").cases(F11_CASES).faults(),
        Test::new("F11.second-stage", "sys_pipes second").cases(F11_CASES).faults().monitor(),
        Test::new("F11.faithful", "sys_pipes first").cases(F11_CASES).words("mode=faithful").faults(),
        Test::new("pipes.waiting", "sys_pipes waiting").cases(9).faults(),
    ]
}
