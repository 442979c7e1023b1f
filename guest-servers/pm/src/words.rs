//! What a program's name says: where the program is, and what it may do.

use refault_abi::kcall::privilege;
use refault_abi::{Errno, Result};

/// Programs of the boot image whose name begins so are system processes of the tests: they may make grants.
const TEST_PREFIX: &str = "sys_";
/// Programs of the boot image that look into the system, by the same class.
const LOOKING: [&str; 3] = ["ps", "grants", "faults"];

/// A program's name as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    /// The first word.
    pub name: &'a str,
}

impl<'a> Program<'a> {
    /// From a block of strings. ENOENT for no name, or one that is no text.
    pub fn of(block: &'a [u8]) -> Result<Program<'a>> {
        let name = block.split(|byte| *byte == 0).next().unwrap_or_default();
        match core::str::from_utf8(name) {
            Ok(name) if !name.is_empty() => Ok(Program { name }),
            _ => Err(Errno::ENOENT),
        }
    }

    /// Whether it lies on a file system.
    pub fn is_path(self) -> bool {
        self.name.contains('/')
    }

    /// What the process is called.
    pub fn process_name(self) -> &'a str {
        self.name.rsplit('/').find(|part| !part.is_empty()).unwrap_or(self.name)
    }

    /// The class of a process that runs it. A file's name is anybody's choice and gives no rights.
    pub fn class(self) -> u32 {
        let special = self.name.starts_with(TEST_PREFIX) || LOOKING.contains(&self.name);
        if special && !self.is_path() { privilege::TEST } else { privilege::USER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_come_from_names_in_the_boot_image_only() {
        let class = |name: &str| Program::of(name.as_bytes()).unwrap().class();
        assert_eq!(class("sys_grants"), privilege::TEST);
        assert_eq!(class("ps"), privilege::TEST);
        assert_eq!(class("cat"), privilege::USER);
        assert_eq!(class("/bin/ps"), privilege::USER);
        assert_eq!(class("sys_x/../y"), privilege::USER);
    }

    #[test]
    fn names() {
        assert_eq!(Program::of(b""), Err(Errno::ENOENT));
        assert_eq!(Program::of(b"\0x"), Err(Errno::ENOENT));
        assert_eq!(Program::of(b"\xff\0"), Err(Errno::ENOENT));
        assert_eq!(Program::of(b"cat\0/x\0").unwrap().name, "cat");
        assert_eq!(Program::of(b"/bin/cat\0").unwrap().process_name(), "cat");
        assert_eq!(Program::of(b"///\0").unwrap().process_name(), "///");
    }
}
