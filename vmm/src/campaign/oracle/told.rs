//! What the program said: cases, files, and operations of several clients.
//!
//! The lines are those of the guest tests ([`crate::suite::console`]), reported instead of printed, and `@op` lines besides. The one
//! thing to hold in mind: a guest said it, so it may be anything; a line that cannot be read is kept and fails the run.

use serde::Deserialize;

use crate::suite::console::{self, Case, FileClaim};

/// One operation of a client, for [`super::order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Op {
    /// Who.
    pub client: u32,
    /// What.
    pub kind: OpKind,
    /// On which register.
    pub slot: u32,
    /// What was written or read; 0 is what every register holds at first.
    pub value: u64,
    /// When it was called, in the guest's clock.
    pub call: u64,
    /// When it returned.
    #[serde(rename = "return")]
    pub returned: u64,
    /// Whether it succeeded. A write that did not may have happened all the same.
    #[serde(default = "yes")]
    pub ok: bool,
}

fn yes() -> bool {
    true
}

/// Reading or writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum OpKind {
    /// Reading.
    #[serde(rename = "r")]
    Read,
    /// Writing.
    #[serde(rename = "w")]
    Write,
}

/// Everything the program said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    console: console::Told,
    /// Operations of several clients.
    pub ops: Vec<Op>,
    /// What cannot be read or does not go together.
    pub broken: Vec<String>,
}

impl Told {
    /// Reads what was reported.
    pub fn read(reports: &[String]) -> Self {
        let text = reports.join("\n");
        let console = console::read(&text);
        let mut told = Self { broken: console.unreadable.clone(), ..Self::default() };
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("@op ") else { continue };
            match serde_json::from_str(rest) {
                Ok(op) => told.ops.push(op),
                Err(why) => told.broken.push(format!("{line}: {why}")),
            }
        }
        let said = (console.cases.len(), console.skips.len());
        match console.ends.as_slice() {
            [] => told.broken.push("the program did not say that it was at its end".into()),
            [end] if (end.cases, end.skipped) != said => told.broken.push(format!(
                "the program says that it reported {} cases and left out {}; {} and {} arrived",
                end.cases, end.skipped, said.0, said.1
            )),
            [_] if console.said_more => {
                told.broken.push("the program went on after it had said that it was at its end".into());
            }
            [_] if console.cases.is_empty() => told.broken.push("the program verified nothing".into()),
            [_] => {}
            more => told.broken.push(format!("the program said {} times that it was at its end", more.len())),
        }
        told.console = console;
        told
    }

    /// Its cases.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.console.cases.iter()
    }

    /// What it says that files hold.
    pub fn files(&self) -> &[FileClaim] {
        &self.console.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_protocols() {
        let op = "@op {\"client\":1,\"kind\":\"w\",\"slot\":3,\"value\":77,\"call\":5,\"return\":9}";
        let case = "@case {\"name\":\"read\",\"ok\":true}";
        let told = Told::read(&[case.into(), op.into(), "@end {\"cases\":1,\"skipped\":0}".into()]);
        assert_eq!(told.broken, [""; 0]);
        assert_eq!(told.ops.len(), 1);
        assert!(told.ops[0].ok && told.ops[0].kind == OpKind::Write && told.ops[0].returned == 9);
        assert_eq!(told.cases().count(), 1);
    }

    #[test]
    fn what_is_missing_is_noticed() {
        let case = "@case {\"name\":\"read\",\"ok\":true}";
        let end = |cases| format!("@end {{\"cases\":{cases},\"skipped\":0}}");
        for reports in [
            vec![],
            vec![case.to_owned()],
            vec![case.to_owned(), end(2)],
            vec![case.to_owned(), end(1), case.to_owned()],
            vec![case.to_owned(), end(1), end(1)],
            vec![end(0)],
            vec![case.to_owned(), "@op {}".into(), end(1)],
            vec![case.to_owned(), "@case {".into(), end(1)],
        ] {
            assert!(!Told::read(&reports).broken.is_empty(), "{reports:?}");
        }
    }
}
