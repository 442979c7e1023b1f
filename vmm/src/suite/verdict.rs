//! What came of a test, in a word.

use std::fmt;

use serde::Serialize;

/// A verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Everything is as it has to be, and nothing had to be repeated.
    Pass,
    /// The same, and operations were repeated.
    Retried,
    /// The operation ended in the error that is specified for it.
    Rejected,
    /// It could not be run here; the reason is given.
    Skip,
    /// A check did not hold, or the test did not say that it held.
    Failed,
    /// Something was not given back.
    Leak,
    /// A partial result got out.
    Short,
    /// Wrong bytes.
    Corrupt,
    /// Nothing went on.
    Wedged,
    /// The guest's kernel panicked, or the machine could not go on.
    Crash,
}

impl Verdict {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "PASS",
            Verdict::Retried => "RETRIED",
            Verdict::Rejected => "REJECTED",
            Verdict::Skip => "SKIP",
            Verdict::Failed => "FAILED",
            Verdict::Leak => "LEAK",
            Verdict::Short => "SHORT",
            Verdict::Corrupt => "CORRUPT",
            Verdict::Wedged => "WEDGED",
            Verdict::Crash => "CRASH",
        }
    }

    /// Whether everything was as it has to be.
    pub fn is_good(self) -> bool {
        matches!(self, Verdict::Pass | Verdict::Retried | Verdict::Rejected)
    }

    /// What a program may call a case of its own.
    pub fn of_case(word: &str) -> Option<Self> {
        [Verdict::Rejected, Verdict::Failed, Verdict::Leak, Verdict::Short, Verdict::Corrupt]
            .into_iter()
            .find(|verdict| verdict.word() == word)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
