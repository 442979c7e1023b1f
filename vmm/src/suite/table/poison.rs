//! Poisoned pages. `sys_poison`.

use crate::suite::Test;

/// Touches by ring 3: reading, writing, and of a page that two share.
const TOUCHES: usize = 3;
/// Pages lent to a request: each of three for READ and WRITE, STAT's, a path, a pipe's.
const LENT: usize = 2 * 3 + 3;
/// Pages of the file system's cache.
const CACHED: usize = 3;

/// The tests.
pub fn tests() -> Vec<Test> {
    let test = |suffix: &str, words: &str| {
        Test::new(format!("poison{suffix}"), "sys_poison")
            .words(words)
            .cases(TOUCHES + LENT + CACHED)
            .monitor()
            .limit(240)
    };
    vec![
        test("", ""),
        // What the file system answers after a copy that failed makes no difference: nobody is left to be told a wrong count.
        test(".partial", "fs=partial"),
        test(".efault", "retry=efault fs=partial"),
        test(".lock-dropped", "copylock=dropped"),
    ]
}
