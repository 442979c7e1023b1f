//! Why a step of a workload did not go on to its end: because something is wrong, or because it ended in an error that is defined.

use alloc::format;
use alloc::string::String;

use refault_abi::Errno;

use super::gauges::Gauges;
use crate::check::case::{Complaint, Outcome, Verdict};

/// See the [module documentation](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A defined error: of a page that stayed away, or of the disk.
    Rejected,
    /// Something is wrong.
    Wrong(Complaint),
}

/// How a step went.
pub type Step = core::result::Result<(), Trouble>;

impl From<Complaint> for Trouble {
    fn from(complaint: Complaint) -> Trouble {
        Trouble::Wrong(complaint)
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble::Wrong(Complaint::from(text))
    }
}

impl Trouble {
    /// Bytes are wrong.
    pub fn corrupt(text: String) -> Trouble {
        Trouble::Wrong(Complaint::of(Verdict::Corrupt, text))
    }
}

/// The outcome of the case whose step it was.
pub fn outcome(step: Step) -> Outcome {
    match step {
        Ok(()) => Ok(None),
        Err(Trouble::Rejected) => Ok(Some(Verdict::Rejected)),
        Err(Trouble::Wrong(complaint)) => Err(complaint),
    }
}

/// Errors of requests made after a moment.
pub trait Defined<T> {
    /// Sorts errors that are defined from those that are not.
    fn defined(self, since: &Gauges, doing: &str) -> Result<T, Trouble>;
}

impl<T> Defined<T> for refault_abi::Result<T> {
    fn defined(self, since: &Gauges, doing: &str) -> Result<T, Trouble> {
        self.map_err(|error| defined(since, doing, error))
    }
}

fn defined(since: &Gauges, doing: &str, error: Errno) -> Trouble {
    if since.defined(error) { Trouble::Rejected } else { format!("{doing}: {error}").into() }
}

/// A count that has to be whole.
pub fn whole(what: &str, seen: u64, wanted: u64) -> Step {
    let text = || format!("{what}: {seen} of {wanted}");
    match seen.cmp(&wanted) {
        core::cmp::Ordering::Equal => Ok(()),
        core::cmp::Ordering::Less => Err(Trouble::Wrong(Complaint::of(Verdict::Short, text()))),
        core::cmp::Ordering::Greater => Err(text().into()),
    }
}

/// Something that has to be what it is.
pub fn same<T: core::fmt::Debug + PartialEq>(what: &str, seen: T, wanted: T) -> Step {
    if seen == wanted { Ok(()) } else { Err(format!("{what}: {seen:?} instead of {wanted:?}").into()) }
}

/// Bytes that have to be what they are.
pub fn same_bytes(what: &str, seen: &[u8], wanted: &[u8]) -> Step {
    if seen == wanted {
        return Ok(());
    }
    let first = seen.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or(seen.len().min(wanted.len()));
    let wrong = seen.iter().zip(wanted).filter(|(a, b)| a != b).count();
    let text = format!("{what}: {} bytes for {}, {wrong} wrong, first at {first}", seen.len(), wanted.len());
    Err(Trouble::corrupt(text))
}
