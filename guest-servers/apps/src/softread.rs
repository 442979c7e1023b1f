//! What the program `softread` asks, and what it makes of what it sees.
//!
//! The one thing to hold in mind: an observation, not an expectation. Whether a read came back short is what the run is
//! about, so it is reported and is no failure; a byte that belongs nowhere is one.

use core::fmt;

use refault_abi::pattern::{FILE_A, matching_prefix};
use refault_abi::{Errno, Result};

/// Where in the mapping the buffer begins: odd, so that no page of the file meets one page of the buffer.
pub const BUFFER_OFFSET: usize = 123;
/// Bytes read unless told otherwise.
pub const BYTES: u64 = 65_536;
/// Most bytes that can be asked for.
pub const BYTES_MAX: u64 = 16 << 20;

/// How it is called.
pub const USAGE: &str =
    "usage: softread [--case second-stage|first-stage|both] [--bytes N] [--offset N] [--same-file]";

/// Which pages of the buffer are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// None at the first stage: what faults was taken away underneath.
    SecondStage,
    /// All but the first: mapped, never touched, the caches empty.
    FirstStage,
}

impl Case {
    /// Its number in events.
    pub const fn number(self) -> u32 {
        match self {
            Case::SecondStage => 1,
            Case::FirstStage => 2,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Case::SecondStage => "second-stage",
            Case::FirstStage => "first-stage",
        }
    }
}

/// The program's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The cases, in order.
    pub cases: &'static [Case],
    /// Bytes to read.
    pub bytes: u64,
    /// Position in the source file.
    pub offset: u64,
    /// The source is the mapped file itself, through the very descriptor it was mapped by.
    pub same_file: bool,
}

impl Arguments {
    /// Reads the words after the program's name; the error is the word that is wrong, or "" if one is missing.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> core::result::Result<Arguments, &'a str> {
        let mut arguments = Arguments {
            cases: &[Case::SecondStage, Case::FirstStage],
            bytes: BYTES,
            offset: 0,
            same_file: false,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--same-file" {
                arguments.same_file = true;
                continue;
            }
            if !matches!(word, "--case" | "--bytes" | "--offset") {
                return Err(word);
            }
            let value = words.next().ok_or("")?;
            match word {
                "--case" => {
                    arguments.cases = match value {
                        "second-stage" => &[Case::SecondStage],
                        "first-stage" => &[Case::FirstStage],
                        "both" => &[Case::SecondStage, Case::FirstStage],
                        _ => return Err(value),
                    }
                }
                "--bytes" => {
                    arguments.bytes =
                        value.parse().ok().filter(|bytes| (1..=BYTES_MAX).contains(bytes)).ok_or(value)?;
                }
                _ => arguments.offset = value.parse().map_err(|_| value)?,
            }
        }
        Ok(arguments)
    }
}

/// What one read did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The case.
    pub case: Case,
    /// Bytes asked for.
    pub asked: u64,
    /// What the read answered.
    pub got: Result<u64>,
    /// Every byte that the read says it delivered is the source's.
    pub right: bool,
    /// Every other byte of the mapping is what was mapped; behind the delivered bytes it may also be what the source
    /// would have put there, up to some point.
    pub untouched: bool,
    /// Bytes of the source found in the buffer from its beginning: what was moved at least, whatever was answered.
    pub moved: u64,
    /// Position in the source before.
    pub start: u64,
    /// Position in the source after.
    pub position: u64,
}

impl Observation {
    /// Looks at a mapping of file A from offset 0 into whose middle the file `source` was read.
    pub fn of(
        case: Case,
        source: u32,
        asked: u64,
        got: Result<u64>,
        start: u64,
        position: u64,
        mapping: &[u8],
    ) -> Observation {
        let count = got.unwrap_or(0);
        let (before, from_buffer) = mapping.split_at_checked(BUFFER_OFFSET).unwrap_or((mapping, &[]));
        let length = usize::try_from(asked).unwrap_or(usize::MAX).min(from_buffer.len());
        let (buffer, _) = from_buffer.split_at_checked(length).unwrap_or((from_buffer, &[]));
        let moved = matching_prefix(source, start, buffer);
        let rest = from_buffer.get(moved..).unwrap_or_default();
        let rest_offset = (BUFFER_OFFSET + moved) as u64;
        let untouched = matching_prefix(FILE_A, 0, before) == before.len()
            && matching_prefix(FILE_A, rest_offset, rest) == rest.len();
        Observation {
            case,
            asked,
            got,
            right: count <= moved as u64,
            untouched,
            moved: moved as u64,
            start,
            position,
        }
    }

    /// Whether the position moved by what was delivered.
    pub fn position_right(&self) -> bool {
        self.start.checked_add(self.got.unwrap_or(0)) == Some(self.position)
    }

    /// Whether everything seen fits together: nothing wrong was delivered, nothing else was changed.
    pub fn consistent(&self) -> bool {
        self.right && self.untouched && self.position_right()
    }

    /// The record for the monitor: one JSON object.
    pub fn json(&self) -> impl fmt::Display {
        Json(*self)
    }
}

struct Json(Observation);

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Observation { case, asked, got, right, untouched, moved, start, position } = self.0;
        write!(f, "{{\"case\":\"{}\",\"asked\":{asked},\"got\":{}", case.name(), got.unwrap_or(0))?;
        match got.err().map(Errno::name) {
            Some(name) => write!(f, ",\"error\":\"{name}\"")?,
            None => f.write_str(",\"error\":null")?,
        }
        write!(
            f,
            ",\"right\":{right},\"untouched_ok\":{untouched},\"moved\":{moved},\"start\":{start},\"position\":{position},\"position_ok\":{}}}",
            self.0.position_right()
        )
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: asked {}, ", self.case.name(), self.asked)?;
        match self.got {
            Ok(count) if count < self.asked => write!(f, "got {count} (SHORT)")?,
            Ok(count) => write!(f, "got {count}")?,
            Err(error) => write!(f, "failed with {error}")?,
        }
        let yes_no = |is| if is { "right" } else { "WRONG" };
        write!(
            f,
            ", bytes {}, other bytes {}, position {} {}",
            yes_no(self.right),
            yes_no(self.untouched),
            self.position,
            yes_no(self.position_right())
        )
    }
}

#[cfg(test)]
#[path = "softread_tests.rs"]
mod tests;
