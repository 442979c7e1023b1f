//! Runs cases, says a line for each, and remembers whether all were right.
//!
//! The lines go to the console, or to the monitor as reports, a page at a time: where each byte on the console costs an exit of
//! the processor, a report costs one for all of them.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

use refault_abi::Errno;
use refault_abi::kcall::REPORT_MAX;
use refault_abi::options::Options;
use refault_rt::{kernel, println};

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
    /// What is going to be the next report; none when lines are printed.
    report: Option<String>,
}

/// Bytes of a report.
const REPORT_BYTES: usize = REPORT_MAX as usize;

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
        Suite { cases: 0, failed: 0, skipped: 0, options, report: None }
    }

    /// The same, with the lines in reports. A report ends where a line does, unless the line is longer than a report.
    pub fn reporting() -> Suite {
        Suite { report: Some(String::with_capacity(2 * REPORT_BYTES)), ..Suite::new() }
    }

    /// Says a line.
    pub fn say(&mut self, line: fmt::Arguments<'_>) {
        let Some(text) = &mut self.report else { return println!("{line}") };
        let before = text.len();
        // A string takes whatever is written to it.
        let _ = writeln!(text, "{line}");
        if text.len() > REPORT_BYTES {
            let line = text.split_off(before);
            hand_in(text);
            *text = line;
        }
        while text.len() > REPORT_BYTES {
            let end = (0..=REPORT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
            let rest = text.split_off(end);
            hand_in(text);
            *text = rest;
        }
    }

    /// Hands in what has been said so far.
    pub fn flush(&mut self) {
        if let Some(text) = &mut self.report {
            hand_in(text);
            text.clear();
        }
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
        self.say(format_args!("{}", Case { name, faults: record.faults, repeats: record.repeats, outcome }));
    }

    /// Says what this machine cannot do.
    pub fn skip(&mut self, what: &str, reason: &str) {
        self.skipped = self.skipped.saturating_add(1);
        self.say(format_args!("@skip {what}: {reason}"));
    }

    /// Tells the host what a file must hold when the machine has ended.
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        let mut sum = sum::Sum::default();
        sum.update(contents);
        let (bytes, fnv) = (sum.bytes(), sum.value());
        self.say(format_args!("@file {{\"path\":\"{path}\",\"bytes\":{bytes},\"fnv\":\"{fnv:016x}\"}}"));
    }

    /// Tells the host that this is all, and how much it is, so that it notices what is missing. The program's exit status.
    pub fn end(mut self) -> i32 {
        let (cases, skipped) = (self.cases, self.skipped);
        self.say(format_args!("@end {{\"cases\":{cases},\"skipped\":{skipped}}}"));
        self.flush();
        if self.failed == 0 && self.cases > 0 { DONE } else { FAILED }
    }
}

/// One report.
fn hand_in(text: &str) {
    if !text.is_empty() {
        // Without a monitor it goes nowhere, which is where whoever wanted reports is.
        let _ = kernel::report(text);
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
