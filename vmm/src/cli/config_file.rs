//! `refault run --config FILE.toml`: what the command line can say, in a file.
//!
//! ```toml
//! disk = ["disk.img,readonly=on"]
//! cpus = 2
//! mem = "128M"
//! cmdline = "retry=hardened"
//! seed = 7
//! timeout = "30s"
//! program = ["softread"]
//!
//! [[rule]]
//! operation = "read"
//! page = ["last"]
//! action = "reflect"
//! ```
//!
//! What the command line says counts, and rules and disks of both are taken. Values are checked where those of the command line
//! are, but for what the file itself has to be: that is told with line and column.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::inject::Rule;
use crate::inject::table::{self, TomlError};

use super::size;

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// Disks, as on the command line.
    pub disk: Vec<String>,
    /// Processors.
    pub cpus: Option<u8>,
    /// RAM in bytes.
    pub mem: Option<u64>,
    /// Kernel command line.
    pub cmdline: Option<String>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Seed.
    pub seed: Option<u64>,
    /// Time allowed.
    pub timeout: Option<Duration>,
    /// Program and arguments.
    pub program: Vec<String>,
    /// The kernel.
    pub kernel: Option<PathBuf>,
    /// The boot image.
    pub initrd: Option<PathBuf>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// It is not as it has to be.
    #[error("the configuration {}, {source}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        source: TomlError,
    },
}

/// Reads a file.
///
/// # Errors
/// See [`ConfigFileError`].
pub fn read(path: &Path) -> Result<ConfigFile, ConfigFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigFileError::Unreadable { path: path.to_owned(), source })?;
    parse(&text).map_err(|source| ConfigFileError::Wrong { path: path.to_owned(), source })
}

fn parse(text: &str) -> Result<ConfigFile, TomlError> {
    let mut file = ConfigFile::default();
    for (key, value) in &table::parse(text)? {
        let value = Value { text, value };
        match key.get_ref().as_ref() {
            "disk" => file.disk = value.texts()?,
            "cpus" => file.cpus = Some(value.number("a number from 1 to 16", |n: &u8| (1..=16).contains(n))?),
            "mem" => file.mem = Some(value.read(|text| size::parse(text).ok(), "a size, as in \"64M\"")?),
            "cmdline" => file.cmdline = Some(value.text()?.to_owned()),
            "rule" => file.rules = table::rules_of(text, value.value)?,
            "seed" => file.seed = Some(value.number("a number from 0 up", |_: &u64| true)?),
            "timeout" => {
                let expected = "a time, as in \"30s\"";
                let time = |text: &str| humantime::parse_duration(text).ok().filter(|time| !time.is_zero());
                file.timeout = Some(value.read(time, expected)?);
            }
            "program" => file.program = value.texts()?,
            "kernel" => file.kernel = Some(value.text()?.into()),
            "initrd" => file.initrd = Some(value.text()?.into()),
            _ => {
                const KEYS: &str =
                    "one of disk, cpus, mem, cmdline, rule, seed, timeout, program, kernel, initrd";
                return Err(TomlError::new(text, key.span(), KEYS));
            }
        }
    }
    Ok(file)
}

/// A value and the file it stands in.
struct Value<'a> {
    text: &'a str,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    fn place(&self) -> Range<usize> {
        self.value.span()
    }

    fn wrong(&self, expected: &str) -> TomlError {
        TomlError::new(self.text, self.place(), expected)
    }

    fn text(&self) -> Result<&'a str, TomlError> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong("a text in quotes"))
    }

    /// A text, or a list of texts.
    fn texts(&self) -> Result<Vec<String>, TomlError> {
        match self.value.get_ref().as_array() {
            None => self.text().map(|text| vec![text.to_owned()]),
            Some(list) => {
                list.iter().map(|value| Value { value, ..*self }.text().map(str::to_owned)).collect()
            }
        }
    }

    fn read<T>(&self, read: impl FnOnce(&str) -> Option<T>, expected: &str) -> Result<T, TomlError> {
        self.value.get_ref().as_str().and_then(read).ok_or_else(|| self.wrong(expected))
    }

    fn number<T: TryFrom<u64>>(&self, expected: &str, fits: impl Fn(&T) -> bool) -> Result<T, TomlError> {
        let integer = self.value.get_ref().as_integer();
        let number = integer.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.and_then(|number| T::try_from(number).ok()).filter(fits);
        number.ok_or_else(|| self.wrong(expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_a_file_can_say() {
        let file = parse(
            "disk = \"a.img\"\ncpus = 2\nmem = \"16M\"\ncmdline = \"retry=mark\"\nseed = 0x10\ntimeout = \"500ms\"\n\
             program = [\"cat\", \"/hello.txt\"]\nkernel = \"k\"\ninitrd = \"i\"\n[[rule]]\ntext = \"read: reflect\"",
        )
        .unwrap();
        assert_eq!((file.disk, file.cpus, file.mem), (vec!["a.img".to_owned()], Some(2), Some(16 << 20)));
        assert_eq!((file.seed, file.timeout), (Some(16), Some(Duration::from_millis(500))));
        assert_eq!((file.program.len(), file.rules.len()), (2, 1));
        assert_eq!((file.cmdline.as_deref(), file.kernel), (Some("retry=mark"), Some("k".into())));
        assert_eq!(parse("").unwrap(), ConfigFile::default());
    }

    #[test]
    fn wrong_values_are_shown() {
        for (text, line, column) in [
            ("cpus = 17", 1, 8),
            ("seed = 1\ncpus = \"2\"", 2, 8),
            ("mem = \"64 bananas\"", 1, 7),
            ("timeout = \"0s\"", 1, 11),
            ("program = [\"a\", 3]", 1, 17),
            ("programme = \"a\"", 1, 1),
            ("seed = -1", 1, 8),
            ("cpus 2", 1, 6),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{error}");
        }
    }
}
