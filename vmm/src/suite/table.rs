//! The table of guest tests.
//!
//! One module for each part of it; this one puts them together. What this is not: the tests themselves, which are programs
//! of the guest (`guest-servers/apps`).

mod crash;
mod exercise;
mod files;
mod grants;
mod hazards;
mod memory;
mod pipes;
mod poison;
mod programs;
mod retry;
mod servers;

use super::Test;

/// All tests, in the order in which they are listed.
pub fn all() -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(programs::tests());
    tests.extend(memory::tests());
    tests.extend(servers::tests());
    tests.extend(grants::tests());
    tests.extend(retry::tests());
    tests.extend(hazards::tests());
    tests.extend(pipes::tests());
    tests.extend(files::tests());
    tests.extend(crash::tests());
    tests.extend(exercise::tests());
    tests.extend(poison::tests());
    tests
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        let mut seen = BTreeSet::new();
        for test in all() {
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            assert!(!test.name.is_empty() && test.name.chars().all(plain), "{}", test.name);
            assert!(!test.program.is_empty(), "{}", test.name);
            assert!(seen.insert(test.name.clone()), "{} stands there twice", test.name);
        }
    }

    #[test]
    fn what_is_typed_fits_into_a_pipe() {
        // A pipe of one page, as an unprivileged user with many pipes gets it.
        assert!(all().iter().all(|test| test.typed.len() <= 4096));
    }

    #[test]
    fn words_and_rules_can_be_read() {
        for test in all() {
            refault_abi::options::Options::parse(&test.words)
                .unwrap_or_else(|bad| panic!("{}: {bad:?}", test.name));
            for rule in &test.rules {
                crate::inject::parse_rule(rule).unwrap_or_else(|why| panic!("{}: {why}", test.name));
            }
        }
    }
}
