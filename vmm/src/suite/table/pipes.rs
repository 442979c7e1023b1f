//! F11, and pipes beside it. `sys_pipes`.

use crate::suite::Test;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("F11.first-stage", "sys_pipes first").faults(),
        Test::new("F11.second-stage", "sys_pipes second").faults().monitor(),
        Test::new("F11.faithful", "sys_pipes first").words("mode=faithful").faults(),
        Test::new("pipes.waiting", "sys_pipes waiting").faults(),
    ]
}
