//! Where things go: a file that is moved or copied into a directory keeps its name.

use alloc::format;
use alloc::string::{String, ToString};

/// The last part of a path; the path itself when it has none.
pub fn name_of(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

/// Where `source` goes when it is put to `destination`, which may be a directory.
pub fn target(source: &str, destination: &str, is_directory: bool) -> String {
    if !is_directory {
        return destination.to_string();
    }
    format!("{}/{}", destination.trim_end_matches('/'), name_of(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_the_name() {
        assert_eq!(target("/a/b.txt", "/d", true), "/d/b.txt");
        assert_eq!(target("b/", "/", true), "/b");
        assert_eq!(target("/a/b.txt", "/d", false), "/d");
        assert_eq!(name_of("/"), "/");
    }
}
