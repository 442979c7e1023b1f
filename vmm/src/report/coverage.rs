//! The coverage matrix: request × side × access × kind, one for each policy.
//!
//! The one thing to hold in mind: a cell counts runs in which a fault *happened* there. A run that was aimed at a site and in which
//! no page was touched visited nothing. What is not said by an aim (random runs) is taken from the faults that were given.
//!
//! A copy reads one side and writes the other, so half of the combinations have no site in most requests. Where no run of any kind or
//! policy aimed at or met one, a cell is [`State::NoSite`]; where one did, but not with this kind, it is a [`State::Gap`].

use std::collections::{BTreeMap, BTreeSet};

use refault_abi::fs;
use serde::{Deserialize, Serialize};

use crate::campaign::record::RunRecord;
use crate::inject::rule::OPERATIONS;
use crate::inject::{Rule, parse_rule};

use super::numbers::is_violation;

/// Kinds of fault that every campaign is expected to have; others are added as they are found.
const KINDS: [&str; 4] = ["once", "twice", "forever", "delay"];
/// The kind of a run without faults.
const NO_FAULT: &str = "none";
/// Sides and accesses, in the order of columns.
pub const COMBINATIONS: [(&str, &str); 4] =
    [("granter", "read"), ("granter", "write"), ("grantee", "read"), ("grantee", "write")];

/// What a cell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Faults happened there.
    Visited,
    /// Runs were aimed at it, and no fault happened.
    Missed,
    /// Nobody tried, although there are sites.
    Gap,
    /// Nobody ever saw a site there.
    NoSite,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The request, as `read`.
    pub operation: String,
    /// `granter` or `grantee`.
    pub side: String,
    /// `read` or `write`.
    pub access: String,
    /// The kind of fault.
    pub kind: String,
    /// Runs aimed at it, or that met it.
    pub aimed: u64,
    /// Of these, runs in which the fault happened.
    pub visited: u64,
    /// Of these, runs that violated an oracle.
    pub violated: u64,
    /// Different sites among those visited, as far as they have names.
    pub sites: u64,
    /// What that means.
    pub state: State,
}

/// The matrix of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// The kernel's words.
    pub policy: String,
    /// The kinds, in the order of columns.
    pub kinds: Vec<String>,
    /// Different sites that runs were aimed at.
    pub sites_aimed: u64,
    /// Of these, those at which a fault happened.
    pub sites_visited: u64,
    /// Different pairs of sites that runs were aimed at.
    pub pairs_aimed: u64,
    /// Of these, those of which both faults happened.
    pub pairs_visited: u64,
    /// Aims that are no site of a request: disks, physical addresses, pages of the guest's own.
    pub elsewhere: u64,
    /// All cells: requests, then sides and accesses, then kinds.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// Cells in this state.
    pub fn count(&self, state: State) -> usize {
        self.cells.iter().filter(|cell| cell.state == state).count()
    }
}

/// A request, and the place of a side and an access in [`COMBINATIONS`].
type Row = (&'static str, usize);

#[derive(Default)]
struct Tally {
    aimed: u64,
    visited: u64,
    violated: u64,
    sites: BTreeSet<String>,
}

#[derive(Default)]
struct Policy {
    tallies: BTreeMap<(Row, String), Tally>,
    aimed: BTreeMap<Vec<String>, bool>,
    elsewhere: u64,
}

/// The matrices of all policies that occur.
pub fn matrices(records: &[RunRecord]) -> Vec<Matrix> {
    let mut policies: BTreeMap<&str, Policy> = BTreeMap::new();
    let mut kinds: Vec<String> = KINDS.map(String::from).to_vec();
    let mut known: BTreeSet<Row> = BTreeSet::new();
    for record in records {
        let policy = policies.entry(record.words.as_str()).or_default();
        if record.kind != NO_FAULT && !record.kind.is_empty() && !kinds.contains(&record.kind) {
            kinds.push(record.kind.clone());
        }
        policy.take(record, &mut known);
    }
    policies.into_iter().map(|(words, policy)| policy.matrix(words, &kinds, &known)).collect()
}

impl Policy {
    fn take(&mut self, record: &RunRecord, known: &mut BTreeSet<Row>) {
        let violated = is_violation(record);
        let mut visit = |row: Row, happened: bool, site: Option<&String>| {
            known.insert(row);
            let tally = self.tallies.entry((row, record.kind.clone())).or_default();
            tally.aimed += 1;
            tally.visited += u64::from(happened);
            tally.violated += u64::from(happened && violated);
            tally.sites.extend(site.filter(|_| happened).cloned());
        };
        if record.aimed.is_empty() {
            let met: BTreeSet<Row> = record
                .timeline
                .iter()
                .filter_map(|fault| row(&fault.owner, &fault.side, &fault.access))
                .collect();
            met.into_iter().for_each(|row| visit(row, true, None));
            return;
        }
        // Of several sites, as many were visited as pages were touched, in this order: the second is aimed at behind the first.
        for (aim, rank) in record.aimed.iter().zip(1_u64..) {
            match row_of_site(aim) {
                Some(row) => visit(row, record.faults.trapped >= rank, Some(aim)),
                None => self.elsewhere += 1,
            }
        }
        let all = record.faults.trapped >= record.aimed.len() as u64;
        let entry = self.aimed.entry(record.aimed.clone()).or_default();
        *entry |= all;
        if let [first, _] = record.aimed.as_slice() {
            // The first of a pair is a site of its own.
            let entry = self.aimed.entry(vec![first.clone()]).or_default();
            *entry |= record.faults.trapped >= 1;
        }
    }

    fn matrix(self, words: &str, kinds: &[String], known: &BTreeSet<Row>) -> Matrix {
        let mut cells = Vec::new();
        for operation in OPERATIONS.map(fs::operation_name) {
            for (index, (side, access)) in COMBINATIONS.into_iter().enumerate() {
                for kind in kinds {
                    let row = (operation, index);
                    let nothing = Tally::default();
                    let tally = self.tallies.get(&(row, kind.clone())).unwrap_or(&nothing);
                    let state = match (tally.visited, tally.aimed) {
                        (1.., _) => State::Visited,
                        (0, 1..) => State::Missed,
                        _ if known.contains(&row) => State::Gap,
                        _ => State::NoSite,
                    };
                    cells.push(Cell {
                        operation: operation.into(),
                        side: side.into(),
                        access: access.into(),
                        kind: kind.clone(),
                        aimed: tally.aimed,
                        visited: tally.visited,
                        violated: tally.violated,
                        sites: tally.sites.len() as u64,
                        state,
                    });
                }
            }
        }
        let count = |sites: usize, visited: bool| {
            let these =
                self.aimed.iter().filter(|(aimed, done)| aimed.len() == sites && (!visited || **done));
            these.count() as u64
        };
        Matrix {
            policy: words.into(),
            kinds: kinds.to_vec(),
            sites_aimed: count(1, false),
            sites_visited: count(1, true),
            pairs_aimed: count(2, false),
            pairs_visited: count(2, true),
            elsewhere: self.elsewhere,
            cells,
        }
    }
}

fn row(operation: &str, side: &str, access: &str) -> Option<Row> {
    let operation = OPERATIONS.map(fs::operation_name).into_iter().find(|known| *known == operation)?;
    let combination = COMBINATIONS.iter().position(|known| *known == (side, access))?;
    Some((operation, combination))
}

/// The row of a site in the rule language.
fn row_of_site(aim: &str) -> Option<Row> {
    let filter = aim.split(':').next().unwrap_or_default();
    let Ok(Rule::Site(rule)) = parse_rule(&format!("{filter}: reflect")) else { return None };
    row(fs::operation_name(rule.operation?), &rule.side?.to_string(), &rule.access?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::record::{FaultTimes, Sums};

    const WRITTEN: &str = "read request=1 copy=1 page=0 attempt=1 side=granter access=write";
    const READ: &str = "read request=1 copy=1 page=0 attempt=1 side=grantee access=read";

    fn record(words: &str, kind: &str, aimed: &[&str], trapped: u64, verdict: &str) -> RunRecord {
        RunRecord {
            words: words.into(),
            kind: kind.into(),
            aimed: aimed.iter().map(|aim| String::from(*aim)).collect(),
            faults: Sums { trapped, ..Sums::default() },
            verdict: verdict.into(),
            ..RunRecord::default()
        }
    }

    fn cell<'a>(matrix: &'a Matrix, combination: (&str, &str), kind: &str) -> &'a Cell {
        let at = |cell: &&Cell| {
            cell.operation == "read"
                && (cell.side.as_str(), cell.access.as_str()) == combination
                && cell.kind == kind
        };
        matrix.cells.iter().find(at).unwrap()
    }

    #[test]
    fn a_cell_is_visited_only_where_a_fault_happened() {
        let matrices = matrices(&[
            record("a", "once", &[WRITTEN], 1, "RETRIED"),
            record("a", "once", &[WRITTEN], 1, "SHORT"),
            record("a", "twice", &[WRITTEN], 0, "PASS"),
            record("b", "none", &[], 0, "PASS"),
        ]);
        let [a, b] = matrices.as_slice() else { panic!("{matrices:?}") };
        let visited = cell(a, ("granter", "write"), "once");
        assert_eq!((visited.aimed, visited.visited, visited.violated, visited.sites), (2, 2, 1, 1));
        assert_eq!(visited.state, State::Visited);
        assert_eq!(cell(a, ("granter", "write"), "twice").state, State::Missed);
        assert_eq!(cell(a, ("granter", "write"), "forever").state, State::Gap);
        assert_eq!(cell(a, ("granter", "read"), "once").state, State::NoSite);
        // What is a site under one policy is one under the other.
        assert_eq!(cell(b, ("granter", "write"), "once").state, State::Gap);
        assert_eq!(a.cells.len(), 8 * 4 * 4);
        assert_eq!((a.count(State::Visited), a.count(State::Missed)), (1, 1));
        assert_eq!((a.sites_aimed, a.sites_visited, a.pairs_aimed), (1, 1, 0));
    }

    #[test]
    fn of_a_pair_the_second_counts_only_if_it_happened() {
        let pair = |trapped| matrices(&[record("a", "once", &[WRITTEN, READ], trapped, "RETRIED")]).remove(0);
        let half = pair(1);
        assert_eq!(cell(&half, ("granter", "write"), "once").state, State::Visited);
        assert_eq!(cell(&half, ("grantee", "read"), "once").state, State::Missed);
        assert_eq!((half.pairs_aimed, half.pairs_visited, half.sites_visited), (1, 0, 1));
        assert_eq!(pair(2).pairs_visited, 1);
    }

    #[test]
    fn random_runs_are_counted_by_what_they_met_and_add_their_kind() {
        let fault = |owner: &str| FaultTimes {
            owner: owner.into(),
            side: "granter".into(),
            access: "write".into(),
            ..FaultTimes::default()
        };
        let mut random = record("a", "mixed", &[], 3, "PASS");
        random.timeline = vec![fault("read"), fault("read"), fault("user")];
        let matrix = matrices(&[random]).remove(0);
        assert_eq!(matrix.kinds, ["once", "twice", "forever", "delay", "mixed"]);
        assert_eq!(cell(&matrix, ("granter", "write"), "mixed").visited, 1);
    }

    #[test]
    fn aims_that_are_no_site_of_a_request_are_counted_apart() {
        let aims = ["disk=0 write", "", ":::", "read: reflect", "\u{0}", "page=1"];
        let matrix = matrices(&[record("a", "once", &aims, 9, "PASS")]).remove(0);
        assert_eq!((matrix.elsewhere, matrix.count(State::Visited)), (6, 0));
    }
}
