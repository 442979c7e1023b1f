//! Comparing two documents of benchmarks.
//!
//! The one thing to hold in mind: figures of unlike hosts are not compared. A difference between two hosts says nothing about the program,
//! so it is refused, with the member in which they differ.
//!
//! When a difference is called one:
//! - *Counts* (instructions, messages, copies, bytes, faults) are exact: any other median is a change.
//! - *Times and rates* scatter: the medians differ by more than [`TOLERANCE`] of the first, and each median lies outside the other's range
//!   from the least sample to the 90th percentile, and both have at least [`SAMPLES`] samples. That is a rule of thumb which says
//!   "different" too seldom rather than too often; documents do not hold the samples that a test of significance would need.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::document::SCHEMA;

/// The least share by which medians of times must differ.
pub const TOLERANCE: f64 = 0.03;
/// The least number of samples of which a difference of times is believed.
pub const SAMPLES: u64 = 10;
/// Units that scatter from run to run.
const SCATTERING: [&str; 6] = ["ns", "us", "ms", "per mille", "runs per 1000 s", "faults/s"];
/// Units of which more is better.
const MORE_IS_BETTER: [&str; 2] = ["runs per 1000 s", "faults/s"];

/// A document, as far as it is compared.
#[derive(Debug, Clone, Deserialize)]
pub struct Document {
    schema: String,
    host: BTreeMap<String, Value>,
    results: Vec<Entry>,
}

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    name: String,
    unit: String,
    n: u64,
    min: u64,
    p50: u64,
    p90: u64,
}

/// Why two documents cannot be compared.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompareError {
    /// One of them is something else.
    #[error("{file} is not a document of benchmarks ({SCHEMA}): {why}")]
    NotADocument {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// They are of different hosts.
    #[error(
        "figures of unlike hosts are not compared: {member} is {a} in the first and {b} in the second; \
         measure both on one host"
    )]
    UnlikeHosts {
        /// In what they differ.
        member: String,
        /// The first's.
        a: String,
        /// The second's.
        b: String,
    },
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that could be told from noise.
    Same,
    /// Less of what costs, or more of what is gained.
    Better,
    /// The contrary.
    Worse,
    /// Too few samples to say.
    TooFew,
    /// Only in the second.
    New,
    /// Only in the first.
    Gone,
}

/// A figure in both documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name and unit.
    pub name: String,
    /// The median in the first.
    pub a: Option<u64>,
    /// The median in the second.
    pub b: Option<u64>,
    /// What became of it.
    pub change: Change,
}

/// Reads a document.
///
/// # Errors
/// See [`CompareError::NotADocument`].
pub fn parse(file: &str, bytes: &[u8]) -> Result<Document, CompareError> {
    let not = |why: String| CompareError::NotADocument { file: file.to_owned(), why };
    let document: Document = serde_json::from_slice(bytes).map_err(|why| not(why.to_string()))?;
    match document.schema == SCHEMA {
        true => Ok(document),
        false => Err(not(format!("its schema is {:?}", document.schema))),
    }
}

/// Compares the second with the first.
///
/// # Errors
/// They are of unlike hosts.
pub fn compare(a: &Document, b: &Document) -> Result<Vec<Row>, CompareError> {
    for member in a.host.keys().chain(b.host.keys()) {
        let (left, right) = (a.host.get(member), b.host.get(member));
        if left != right {
            let text = |value: Option<&Value>| value.map_or("absent".into(), Value::to_string);
            return Err(CompareError::UnlikeHosts { member: member.clone(), a: text(left), b: text(right) });
        }
    }
    let mut rows = Vec::new();
    let same = |one: &Entry, other: &Entry| one.name == other.name && one.unit == other.unit;
    let row = |a: Option<&Entry>, b: Option<&Entry>, change| {
        let either = a.or(b)?;
        let name = format!("{} ({})", either.name, either.unit);
        Some(Row { name, a: a.map(|result| result.p50), b: b.map(|result| result.p50), change })
    };
    for result in &a.results {
        let other = b.results.iter().find(|other| same(result, other));
        rows.extend(row(Some(result), other, other.map_or(Change::Gone, |other| change(result, other))));
    }
    for result in b.results.iter().filter(|result| !a.results.iter().any(|other| same(result, other))) {
        rows.extend(row(None, Some(result), Change::New));
    }
    Ok(rows)
}

fn change(a: &Entry, b: &Entry) -> Change {
    if a.p50 == b.p50 {
        return Change::Same;
    }
    if SCATTERING.contains(&a.unit.as_str()) {
        let apart = |one: &Entry, other: &Entry| one.p50 < other.min || one.p50 > other.p90;
        let far = a.p50.abs_diff(b.p50) as f64 > a.p50 as f64 * TOLERANCE;
        if !far || !apart(a, b) || !apart(b, a) {
            return Change::Same;
        }
        if a.n.min(b.n) < SAMPLES {
            return Change::TooFew;
        }
    }
    match (b.p50 > a.p50) == MORE_IS_BETTER.contains(&a.unit.as_str()) {
        true => Change::Better,
        false => Change::Worse,
    }
}

/// The rows as text; those without a change only counted.
pub fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    let figure = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
    for row in rows.iter().filter(|row| row.change != Change::Same) {
        let share = match (row.a, row.b) {
            (Some(a), Some(b)) if a != 0 => format!(" ({:+.1} %)", (b as f64 / a as f64 - 1.0) * 100.0),
            _ => String::new(),
        };
        let word = match row.change {
            Change::Better => "better",
            Change::Worse => "WORSE",
            Change::TooFew => "differs, but there are too few samples to say",
            Change::New => "only in the second",
            Change::Gone => "only in the first",
            Change::Same => "the same",
        };
        out.push_str(&format!("{}: {} -> {}{share}: {word}\n", row.name, figure(row.a), figure(row.b)));
    }
    let same = rows.iter().filter(|row| row.change == Change::Same).count();
    out.push_str(&format!("{same} of {} figures: no difference that could be told from noise\n", rows.len()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kernel: &str, results: &[(&str, &str, u64, [u64; 3])]) -> Document {
        let results: Vec<Value> = results
            .iter()
            .map(|(name, unit, n, [min, p50, p90])| {
                serde_json::json!({"name": name, "unit": unit, "n": n, "min": min, "p50": p50, "p90": p90,
                    "p99": p90, "p999": p90, "max": p90, "baseline": null})
            })
            .collect();
        let text = serde_json::json!({"schema": SCHEMA, "host": {"kernel": kernel}, "results": results});
        parse("x", text.to_string().as_bytes()).unwrap()
    }

    fn changes(unit: &str, a: (u64, [u64; 3]), b: (u64, [u64; 3])) -> Change {
        let one = |(n, values)| document("6.1", &[("x", unit, n, values)]);
        compare(&one(a), &one(b)).unwrap()[0].change
    }

    #[test]
    fn times_must_be_clearly_apart_and_counts_need_not() {
        let a = (30, [90, 100, 110]);
        assert_eq!(changes("ns", a, (30, [190, 200, 210])), Change::Worse);
        assert_eq!(changes("ns", a, (30, [40, 50, 60])), Change::Better);
        // A twentieth, but within the other's scatter; apart, but by a hundredth; apart, but of few samples.
        assert_eq!(changes("ns", a, (30, [90, 105, 120])), Change::Same);
        assert_eq!(changes("ns", (30, [100, 100, 100]), (30, [101, 101, 101])), Change::Same);
        assert_eq!(changes("ns", a, (9, [190, 200, 210])), Change::TooFew);
        assert_eq!(changes("messages", (1, [4, 4, 4]), (1, [5, 5, 5])), Change::Worse);
        assert_eq!(changes("faults/s", a, (30, [190, 200, 210])), Change::Better);
    }

    #[test]
    fn unlike_hosts_are_refused_with_the_reason() {
        let why = compare(&document("6.1", &[]), &document("6.2", &[])).unwrap_err().to_string();
        assert!(why.contains("kernel is \"6.1\" in the first and \"6.2\" in the second"), "{why}");
    }

    #[test]
    fn what_only_one_has_is_said_and_a_unit_belongs_to_a_name() {
        let rows = compare(
            &document("6.1", &[("x", "ns", 1, [1; 3]), ("y", "ns", 1, [1; 3])]),
            &document("6.1", &[("x", "us", 1, [1; 3]), ("y", "ns", 1, [1; 3])]),
        );
        let rows = rows.unwrap();
        let changes: Vec<Change> = rows.iter().map(|row| row.change).collect();
        assert_eq!(changes, [Change::Gone, Change::Same, Change::New]);
        assert!(text(&rows).ends_with("1 of 3 figures: no difference that could be told from noise\n"));
    }

    #[test]
    fn other_documents_are_refused() {
        for bad in ["", "[]", "{}", r#"{"schema":"refault.run/1","host":{},"results":[]}"#] {
            assert!(parse("a.json", bad.as_bytes()).unwrap_err().to_string().contains("a.json"), "{bad}");
        }
    }

    #[test]
    fn what_this_program_writes_can_be_compared() {
        use crate::bench::document::{Document, Figure};
        let written = Document::new(Figure::of("x".into(), "ns", vec![5], None).into_iter().collect());
        let bytes = serde_json::to_vec(&written).unwrap();
        let read = parse("x", &bytes).unwrap();
        assert_eq!(
            compare(&read, &read).unwrap()[0],
            Row { name: "x (ns)".into(), a: Some(5), b: Some(5), change: Change::Same }
        );
    }
}
