//! A case and the line that reports it.

use alloc::string::String;
use core::fmt::{self, Write};

/// What a case amounts to when it is neither plainly right nor plainly wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A partial result reached the application.
    Short,
    /// Bytes are wrong.
    Corrupt,
    /// Something was not given back.
    Leak,
    /// It ended in the error it was to end in.
    Rejected,
}

impl Verdict {
    /// The word in the line.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Short => "SHORT",
            Verdict::Corrupt => "CORRUPT",
            Verdict::Leak => "LEAK",
            Verdict::Rejected => "REJECTED",
        }
    }
}

/// What a case's body says when nothing is wrong: what it wants said about itself.
pub type Outcome = core::result::Result<Option<Verdict>, Complaint>;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Of which kind, if one has a name.
    pub verdict: Option<Verdict>,
    /// In words.
    pub text: String,
}

impl From<String> for Complaint {
    fn from(text: String) -> Complaint {
        Complaint { verdict: None, text }
    }
}

impl Complaint {
    /// A complaint of a kind with a name.
    pub fn of(verdict: Verdict, text: String) -> Complaint {
        Complaint { verdict: Some(verdict), text }
    }
}

/// One finished case. Its `Display` is the line for the host: `@case` and a JSON object.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Its name, as the specification numbers it.
    pub name: &'a str,
    /// Copies that met an absent page, both stages.
    pub faults: u64,
    /// Operations and raw copies that VFS repeated.
    pub repeats: u64,
    /// How it went.
    pub outcome: &'a Outcome,
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, detail) = match self.outcome {
            Ok(verdict) => (*verdict, ""),
            Err(complaint) => (complaint.verdict, complaint.text.as_str()),
        };
        f.write_str("@case {\"name\":")?;
        quoted(f, self.name)?;
        write!(
            f,
            ",\"ok\":{},\"faults\":{},\"repeats\":{},\"detail\":",
            self.outcome.is_ok(),
            self.faults,
            self.repeats
        )?;
        quoted(f, detail)?;
        if let Some(verdict) = verdict {
            write!(f, ",\"verdict\":\"{}\"", verdict.word())?;
        }
        f.write_char('}')
    }
}

/// A JSON string.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            ' '..='~' => f.write_char(character)?,
            // Anything else a terminal might change, so it travels as its number.
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    write!(f, "\\u{unit:04x}")?;
                }
            }
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn lines_are_json_whatever_is_in_them() {
        let bad = Err(Complaint::of(Verdict::Short, "got \"3\"\n\\ of \u{1f600}".to_string()));
        let case = Case { name: "F14.READ", faults: 1, repeats: 0, outcome: &bad };
        assert_eq!(
            case.to_string(),
            "@case {\"name\":\"F14.READ\",\"ok\":false,\"faults\":1,\"repeats\":0,\"detail\":\"got \\\"3\\\"\\u000a\\\\ of \\ud83d\\ude00\",\"verdict\":\"SHORT\"}"
        );
        let case = Case { name: "G1", faults: 0, repeats: 0, outcome: &Ok(None) };
        assert_eq!(
            case.to_string(),
            "@case {\"name\":\"G1\",\"ok\":true,\"faults\":0,\"repeats\":0,\"detail\":\"\"}"
        );
    }
}
