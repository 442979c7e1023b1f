//! What programs may expect of their memory. `sys_memory`.

use crate::suite::Test;

/// The tests: nothing in them is a weak point of the seed's system, so that both have to be right.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("memory", "sys_memory").cases(11).limit(240),
        Test::new("memory.faithful", "sys_memory").cases(11).words("mode=faithful").limit(240),
    ]
}
