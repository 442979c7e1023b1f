//! Runs cases, prints a line for each, and remembers whether all were right.

use alloc::format;
use alloc::string::String;

use refault_abi::Errno;
use refault_abi::options::Options;
use refault_rt::println;

use super::case::{Case, Complaint, Outcome};
use super::measure::{Delta, Snapshot};
use crate::{DONE, FAILED, sum};

/// An error of the system together with what was being done.
pub trait Explain<T> {
    /// `doing: ENOENT`.
    fn explain(self, doing: &str) -> Result<T, String>;
}

impl<T> Explain<T> for refault_abi::Result<T> {
    fn explain(self, doing: &str) -> Result<T, String> {
        self.map_err(|error| format!("{doing}: {error}"))
    }
}

/// The cases of a program.
#[derive(Debug)]
pub struct Suite {
    cases: u32,
    failed: u32,
    skipped: u32,
    options: Options,
}

/// What a case measured by itself.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Faults of the operation under test.
    pub faults: u64,
    /// Its repeats.
    pub repeats: u64,
}

impl Record {
    /// Adds what happened.
    pub fn add(&mut self, delta: &Delta) {
        self.faults = self.faults.saturating_add(delta.faults());
        self.repeats = self.repeats.saturating_add(delta.repeats());
    }

    /// Measures an operation.
    pub fn measure<T>(&mut self, operation: impl FnOnce() -> T) -> Result<(T, Delta), String> {
        let before = Snapshot::now()?;
        let result = operation();
        let delta = before.until_now()?;
        self.add(&delta);
        Ok((result, delta))
    }
}

impl Default for Suite {
    fn default() -> Self {
        Suite::new()
    }
}

impl Suite {
    /// None run so far. The modes of the machine decide what the cases expect.
    pub fn new() -> Suite {
        let options = refault_rt::info::options();
        let options = options.or_else(|| Options::parse("").ok()).expect("an empty command line is good");
        Suite { cases: 0, failed: 0, skipped: 0, options }
    }

    /// The machine's modes.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Runs a case and reports it.
    pub fn case(&mut self, name: &str, body: impl FnOnce(&mut Record) -> Outcome) {
        let mut record = Record::default();
        let outcome = body(&mut record);
        self.report(name, &record, &outcome);
    }

    /// Runs a case that can only be right or wrong.
    pub fn check(&mut self, name: &str, body: impl FnOnce(&mut Record) -> Result<(), String>) {
        self.case(name, |record| body(record).map(|()| None).map_err(Complaint::from));
    }

    /// Reports a case that has been run.
    pub fn report(&mut self, name: &str, record: &Record, outcome: &Outcome) {
        self.cases = self.cases.saturating_add(1);
        if outcome.is_err() {
            self.failed = self.failed.saturating_add(1);
        }
        println!("{}", Case { name, faults: record.faults, repeats: record.repeats, outcome });
    }

    /// Says what this machine cannot do.
    pub fn skip(&mut self, what: &str, reason: &str) {
        self.skipped = self.skipped.saturating_add(1);
        println!("@skip {what}: {reason}");
    }

    /// Tells the host what a file must hold when the machine has ended.
    pub fn file(&self, path: &str, contents: &[u8]) {
        let mut sum = sum::Sum::default();
        sum.update(contents);
        println!("@file {{\"path\":\"{path}\",\"bytes\":{},\"fnv\":\"{:016x}\"}}", sum.bytes(), sum.value());
    }

    /// Tells the host that this is all, and how much it is, so that it notices what is missing. The program's exit status.
    pub fn end(self) -> i32 {
        println!("@end {{\"cases\":{},\"skipped\":{}}}", self.cases, self.skipped);
        if self.failed == 0 && self.cases > 0 { DONE } else { FAILED }
    }
}

/// The result of something that had to fail in a certain way.
pub fn expect_error<T: core::fmt::Debug>(
    what: &str,
    result: refault_abi::Result<T>,
    error: Errno,
) -> Result<(), String> {
    match result {
        Err(seen) if seen == error => Ok(()),
        other => Err(format!("{what}: {other:?} instead of {error}")),
    }
}

/// A result that had to be a certain value.
pub fn expect<T: core::fmt::Debug + PartialEq>(what: &str, seen: T, wanted: T) -> Result<(), String> {
    if seen == wanted { Ok(()) } else { Err(format!("{what}: {seen:?} instead of {wanted:?}")) }
}
