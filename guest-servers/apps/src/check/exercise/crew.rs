//! Processes that do a workload's work together, and how each says how it went: by its status.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_rt::eprintln;
use refault_rt::user;

use super::trouble::{Step, Trouble};
use crate::check::case::Verdict;
use crate::check::family::Child;
use crate::check::suite::Explain;

/// Statuses of a child.
const REJECTED: i32 = 18;
const WRONG: i32 = 17;
const SHORT: i32 = 19;
const CORRUPT: i32 = 20;

/// Forks; the child does `body`. Why it complained is printed.
pub fn member(body: impl FnOnce() -> Step) -> Result<Child, String> {
    Child::with_status(|| match body() {
        Ok(()) => 0,
        Err(Trouble::Rejected) => REJECTED,
        Err(Trouble::Wrong(complaint)) => {
            eprintln!("exercise: {}", complaint.text);
            match complaint.verdict {
                Some(Verdict::Short) => SHORT,
                Some(Verdict::Corrupt) => CORRUPT,
                _ => WRONG,
            }
        }
    })
}

/// Waits for all of them. The worst of what they say: wrong bytes before anything else, a rejection last.
pub fn all_ended(children: &[Child]) -> Step {
    let mut left: Vec<_> = children.iter().map(|child| child.0).collect();
    let mut seen = Vec::new();
    while !left.is_empty() {
        let (gone, status) = user::wait().explain("wait")?;
        let index = left.iter().position(|child| *child == gone);
        left.swap_remove(index.ok_or_else(|| format!("{gone:?} ended, which nobody waits for"))?);
        seen.push(status);
    }
    let any = |status: i32| seen.contains(&i64::from(status));
    let complaint = |verdict| crate::check::case::Complaint::of(verdict, format!("statuses {seen:?}"));
    if any(CORRUPT) {
        Err(complaint(Verdict::Corrupt).into())
    } else if any(SHORT) {
        Err(complaint(Verdict::Short).into())
    } else if seen.iter().any(|status| *status != 0 && *status != i64::from(REJECTED)) {
        Err(format!("statuses {seen:?}").into())
    } else if any(REJECTED) {
        Err(Trouble::Rejected)
    } else {
        Ok(())
    }
}
