//! Which tests a command line asks for.
//!
//! A pattern that is a test's name means this test alone; one with `*` or `?` is matched against whole names;
//! any other is looked for inside of them. A pattern that fits no test is an error: a misspelt name must not pass.

use super::Test;

/// The tests that fit any of `patterns`, in the table's order; all of them without patterns.
///
/// # Errors
/// The first pattern that fits none.
pub fn select(tests: Vec<Test>, patterns: &[String]) -> Result<Vec<Test>, String> {
    for pattern in patterns {
        if !tests.iter().any(|test| fits(&tests, pattern, &test.name)) {
            return Err(pattern.clone());
        }
    }
    let wanted: Vec<bool> = tests
        .iter()
        .map(|test| patterns.is_empty() || patterns.iter().any(|pattern| fits(&tests, pattern, &test.name)))
        .collect();
    Ok(tests.into_iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(test, _)| test).collect())
}

fn fits(all: &[Test], pattern: &str, name: &str) -> bool {
    if all.iter().any(|test| test.name == pattern) {
        return name == pattern;
    }
    match pattern.contains(['*', '?']) {
        true => glob(pattern.as_bytes(), name.as_bytes()),
        false => name.contains(pattern),
    }
}

/// `*`: any number of bytes, `?`: one. Linear in the product of both lengths: only the last star is ever gone back to.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while let Some(byte) = name.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    at = behind;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Result<Vec<String>, String> {
        let tests = ["F1.read", "F1.read.last", "F2.write", "G1"].map(|name| Test::new(name, "x")).to_vec();
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Ok(select(tests, &patterns)?.into_iter().map(|test| test.name).collect())
    }

    #[test]
    fn patterns() {
        assert_eq!(names(&[]).unwrap().len(), 4);
        assert_eq!(names(&["F1.read"]).unwrap(), ["F1.read"]);
        assert_eq!(names(&["read"]).unwrap(), ["F1.read", "F1.read.last"]);
        assert_eq!(names(&["F?.*"]).unwrap(), ["F1.read", "F1.read.last", "F2.write"]);
        assert_eq!(names(&["G1", "wri"]).unwrap(), ["F2.write", "G1"]);
        assert_eq!(names(&["G1", "nonesuch"]).unwrap_err(), "nonesuch");
    }

    #[test]
    fn stars() {
        for (pattern, name, fit) in [
            ("*", "", true),
            ("", "", true),
            ("?", "", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXbd", false),
            ("*last", "x.last", true),
            ("*last", "x.last1", false),
            ("a**", "a", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), fit, "{pattern} {name}");
        }
    }
}
