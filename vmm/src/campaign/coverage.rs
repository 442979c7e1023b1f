//! Coverage: what was visited of what is known.
//!
//! Pure, apart from reading directories. Sites and pairs are known from runs that listed them, and visited by runs that aimed at them and
//! whose faults happened. The matrix has a row for each request, side and access, and a column for each kind under each policy; a cell
//! without a fault is empty, and has a name. The one thing to hold in mind: what nobody listed is not known, so a share is only as
//! good as the workloads.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde::Serialize;

use refault_abi::fs;

use crate::inject::parse_rule;
use crate::inject::rule::{AccessKind, OPERATIONS, Rule, Side};

use super::journal::{Header, JournalError, Listing, lines};
use super::plan::Floor;
use super::record::RunRecord;

/// What directories hold together.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Runs, each name once, in their order.
    pub records: Vec<RunRecord>,
    /// Sites that are known.
    pub listings: Vec<Listing>,
    /// What the directories belong to.
    pub headers: Vec<Header>,
}

/// Reads directories of campaigns as one: the parts of a campaign, or several.
///
/// # Errors
/// One of them cannot be read.
pub fn load<P: AsRef<Path>>(directories: &[P]) -> Result<Loaded, JournalError> {
    let mut loaded = Loaded::default();
    let mut seen = HashSet::new();
    let mut listed = HashSet::new();
    for directory in directories {
        let directory = directory.as_ref();
        let path = directory.join("campaign.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| JournalError::Io { path: path.clone(), source })?;
        loaded.headers.push(serde_json::from_str(&text).map_err(|why| JournalError::Line {
            path,
            line: why.line(),
            why: why.to_string(),
        })?);
        let records = lines::<RunRecord>(&directory.join("runs.jsonl"))?;
        loaded.records.extend(records.into_iter().filter(|record| seen.insert(record.id.clone())));
        let listings = lines::<Listing>(&directory.join("sites.jsonl"))?;
        loaded.listings.extend(listings.into_iter().filter(|listing| listed.insert(listing.clone())));
    }
    Ok(loaded)
}

/// A row of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Row {
    /// Name of the request.
    pub operation: String,
    /// Whose memory.
    pub side: String,
    /// Reading or writing.
    pub access: String,
}

/// A cell of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Its row.
    #[serde(flatten)]
    pub row: Row,
    /// Kind of fault.
    pub kind: String,
    /// The kernel's words.
    pub words: String,
    /// Runs that aimed at such a site.
    pub runs: u64,
    /// Faults that happened in them.
    pub faults: u64,
    /// Runs in which an oracle was violated.
    pub violations: u64,
}

/// See the [module documentation](self).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Sites that fault-free runs passed.
    pub sites_known: u64,
    /// Those of them at which a fault happened that was aimed there.
    pub sites_visited: u64,
    /// Pairs of a site and one in its repeat.
    pub pairs_known: u64,
    /// Those of them of which both faults happened.
    pub pairs_visited: u64,
    /// Faults that happened, of memory and of disks.
    pub faults: u64,
    /// The matrix.
    pub matrix: Vec<Cell>,
    /// Sites that were not visited.
    pub unvisited: Vec<String>,
}

/// Sites not visited that are named.
const NAMED: usize = 20;

/// What a site's filter says of its row.
fn row(site: &str) -> Option<Row> {
    let Ok(Rule::Site(rule)) = parse_rule(&format!("{site} : reflect")) else { return None };
    Some(Row {
        operation: fs::operation_name(rule.operation?).into(),
        side: rule.side?.to_string(),
        access: rule.access?.to_string(),
    })
}

/// All rows that eight requests have.
fn all_rows() -> impl Iterator<Item = Row> {
    OPERATIONS.into_iter().flat_map(|operation| {
        // Whether the file system gives the lender something, or takes it.
        let gives = !matches!(operation, fs::WRITE | fs::BWRITE | fs::SLINK);
        [Side::Granter, Side::Grantee].map(|side| {
            let writes = gives == (side == Side::Granter);
            let access = if writes { AccessKind::Write } else { AccessKind::Read };
            Row {
                operation: fs::operation_name(operation).into(),
                side: side.to_string(),
                access: access.to_string(),
            }
        })
    })
}

/// Faults of a run that happened.
pub fn faults_of(record: &RunRecord) -> u64 {
    record.faults.trapped.saturating_add(record.faults.reflected_again).saturating_add(record.faults.disk)
}

impl Coverage {
    /// Measures what runs have visited. `kinds` are the columns of the matrix, besides those that occur.
    pub fn of(records: &[RunRecord], listings: &[Listing], kinds: &[String], words: &[String]) -> Self {
        let mut visited = HashSet::new();
        let mut pairs = HashSet::new();
        let mut faults = 0_u64;
        for record in records {
            faults = faults.saturating_add(faults_of(record));
            let key = |site: &String| (record.words.clone(), record.workload.clone(), site.clone());
            match record.aimed.as_slice() {
                [site] if record.faults.trapped > 0 => {
                    visited.insert(key(site));
                }
                [first, second] if record.faults.trapped > 1 => {
                    pairs.insert((key(first), second.clone()));
                }
                _ => {}
            }
        }
        let mut coverage = Self { faults, ..Self::default() };
        for listing in listings {
            for site in &listing.sites {
                let key = |site: &String| (listing.words.clone(), listing.workload.clone(), site.clone());
                match &listing.first {
                    None => {
                        coverage.sites_known += 1;
                        if visited.contains(&key(site)) {
                            coverage.sites_visited += 1;
                        } else if coverage.unvisited.len() < NAMED {
                            coverage.unvisited.push(format!("{}: {site}", listing.workload));
                        }
                    }
                    Some(first) => {
                        coverage.pairs_known += 1;
                        coverage.pairs_visited += u64::from(pairs.contains(&(key(first), site.clone())));
                    }
                }
            }
        }
        coverage.matrix = matrix(records, listings, kinds, words);
        coverage
    }

    /// Names of cells in which no fault happened.
    pub fn empty_cells(&self) -> Vec<String> {
        let empty = self.matrix.iter().filter(|cell| cell.faults == 0);
        empty
            .map(|cell| {
                let Row { operation, side, access } = &cell.row;
                format!("{operation} side={side} access={access}, {} under {}", cell.kind, cell.words)
            })
            .collect()
    }

    /// What is below a floor, a sentence each.
    pub fn below(&self, floor: &Floor) -> Vec<String> {
        let mut below = Vec::new();
        for (what, visited, known, wanted) in [
            ("sites", self.sites_visited, self.sites_known, floor.sites),
            ("pairs", self.pairs_visited, self.pairs_known, floor.pairs),
        ] {
            // Nothing known is not everything visited.
            let share = if known == 0 { 0.0 } else { visited as f64 / known as f64 };
            if share < wanted {
                below.push(format!(
                    "{visited} of {known} {what} are visited, which is less than {:.1} %",
                    wanted * 100.0
                ));
            }
        }
        if self.faults < floor.faults {
            below.push(format!("{} faults happened, which is less than {}", self.faults, floor.faults));
        }
        if floor.matrix {
            let empty = self.empty_cells();
            if self.matrix.is_empty() {
                below.push("the matrix has no cells".into());
            }
            below.extend(empty.into_iter().map(|cell| format!("no fault in the cell {cell}")));
        }
        below
    }
}

fn matrix(records: &[RunRecord], listings: &[Listing], kinds: &[String], words: &[String]) -> Vec<Cell> {
    let of_level_1 = || records.iter().filter(|record| record.level == "1" && record.aimed.len() == 1);
    let known = listings.iter().filter(|listing| listing.first.is_none());
    let mut rows: BTreeSet<Row> = known.clone().flat_map(|l| &l.sites).filter_map(|site| row(site)).collect();
    // That workload promises all of them.
    if known.clone().any(|listing| listing.workload == "requests") {
        rows.extend(all_rows());
    }
    let columns: BTreeSet<(&String, &String)> = kinds
        .iter()
        .flat_map(|kind| words.iter().map(move |words| (kind, words)))
        .chain(of_level_1().map(|record| (&record.kind, &record.words)))
        .collect();
    let mut cells: BTreeMap<(Row, &String, &String), [u64; 3]> = BTreeMap::new();
    for row in &rows {
        for (kind, words) in &columns {
            cells.insert((row.clone(), kind, words), [0; 3]);
        }
    }
    for record in of_level_1() {
        let Some(row) = record.aimed.first().and_then(|site| row(site)) else { continue };
        let [runs, faults, violations] = cells.entry((row, &record.kind, &record.words)).or_default();
        *runs += 1;
        *faults = faults.saturating_add(faults_of(record));
        *violations += u64::from(record.violated.is_some());
    }
    cells
        .into_iter()
        .map(|((row, kind, words), [runs, faults, violations])| Cell {
            row,
            kind: kind.clone(),
            words: words.clone(),
            runs,
            faults,
            violations,
        })
        .collect()
}

/// Runs, violations, and runs by verdict.
type LevelSums<'a> = (u64, u64, BTreeMap<&'a str, u64>);

/// The coverage as a page of documentation. `command` is what makes it again.
pub fn markdown(coverage: &Coverage, records: &[RunRecord], command: &str) -> String {
    use std::fmt::Write as _;
    let mut text = format!("# Coverage\n\nGenerated by `{command}`; not to be edited.\n\n");
    let mut add = |line: String| {
        // A String takes everything.
        let _ = writeln!(text, "{line}");
    };
    add("| | visited | known |\n|---|---|---|".into());
    add(format!("| sites | {} | {} |", coverage.sites_visited, coverage.sites_known));
    add(format!("| pairs | {} | {} |", coverage.pairs_visited, coverage.pairs_known));
    add(format!("\n{} runs, {} faults.\n", records.len(), coverage.faults));
    let places: BTreeSet<[&str; 3]> = records.iter().map(|r| [&*r.host, &*r.mechanism, &*r.build]).collect();
    for [host, mechanism, build] in places {
        add(format!("Host: {host}. Pages are taken away by {mechanism}. Build of the guest: {build}.\n"));
    }
    add("| level | words of the kernel | runs | violations | verdicts |\n|---|---|---|---|---|".into());
    let mut levels: BTreeMap<(&str, &str), LevelSums> = BTreeMap::new();
    for record in records {
        let (runs, violations, verdicts) = levels.entry((&record.level, &record.words)).or_default();
        *runs += 1;
        *violations += u64::from(record.violated.is_some());
        *verdicts.entry(&record.verdict).or_default() += 1;
    }
    for ((level, words), (runs, violations, verdicts)) in levels {
        let verdicts: Vec<String> = verdicts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        add(format!("| {level} | `{words}` | {runs} | {violations} | {} |", verdicts.join(", ")));
    }
    add(String::new());
    let columns: BTreeSet<(&str, &str)> =
        coverage.matrix.iter().map(|cell| (cell.words.as_str(), cell.kind.as_str())).collect();
    let policies: BTreeSet<&str> = columns.iter().map(|(words, _)| *words).collect();
    for policy in policies {
        let kinds: Vec<&str> =
            columns.iter().filter(|(words, _)| *words == policy).map(|(_, kind)| *kind).collect();
        add(format!("## `{policy}`\n\nFaults that happened in runs aimed at one site.\n"));
        add(format!("| request | side | access | {} |", kinds.join(" | ")));
        add(format!("|---|---|---|{}", "---|".repeat(kinds.len())));
        let mut rows: BTreeMap<&Row, BTreeMap<&str, u64>> = BTreeMap::new();
        for cell in coverage.matrix.iter().filter(|cell| cell.words == policy) {
            rows.entry(&cell.row).or_default().insert(&cell.kind, cell.faults);
        }
        for (row, cells) in rows {
            let faults: Vec<String> = kinds
                .iter()
                .map(|kind| match cells.get(kind) {
                    Some(0) | None => "**none**".into(),
                    Some(faults) => faults.to_string(),
                })
                .collect();
            add(format!("| {} | {} | {} | {} |", row.operation, row.side, row.access, faults.join(" | ")));
        }
        add(String::new());
    }
    text
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
