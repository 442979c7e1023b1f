//! Reading campaigns' directories, and merging them.
//!
//! The one thing to hold in mind: a run's name ([`RunRecord::id`]) is the same in every shard, so a run that is there twice must be
//! the same run. If it is not, the directories are not parts of one campaign and no sum over them would mean anything.
//!
//! A campaign that was killed may leave half a line at the very end, without its line feed. That is no mistake of anybody's: the
//! line is left out, and counted. Anything else that cannot be read is an error with its place.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::campaign::record::{RunRecord, SCHEMA};

/// The file of a campaign's directory that has a line for each run.
pub const RUNS: &str = "runs.jsonl";

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why the runs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file could not be opened or read.
    #[error("{file} could not be read: {source}; a campaign's directory has a file {RUNS}")]
    File {
        /// The file.
        file: String,
        /// What the host said.
        source: io::Error,
    },
    /// A line is not a run.
    #[error("{place}: this line is not a run of a campaign: {why}")]
    Line {
        /// Where.
        place: Place,
        /// What is wrong with it.
        why: String,
    },
    /// One name, two runs.
    #[error(
        "{second}: the run {id:?} is also in {first}, and not the same ({member} differs): \
         these are not parts of one campaign, so make a report of each"
    )]
    Differ {
        /// The run's name.
        id: String,
        /// Where it was first.
        first: Place,
        /// Where it was again.
        second: Place,
        /// A member of the record in which they differ.
        member: String,
    },
    /// There is nothing to report about.
    #[error("there is no run in {0}")]
    Empty(String),
}

/// Runs of one campaign.
#[derive(Debug, Default)]
pub struct Runs {
    /// The runs, in the order in which they were found, each once.
    pub records: Vec<RunRecord>,
    /// Where each of them was found.
    pub places: Vec<Place>,
    /// Lines that repeated a run word for word.
    pub repeated: usize,
    /// Files whose last line was cut off.
    pub cut_off: Vec<PathBuf>,
}

/// Reads the directories, in this order.
///
/// # Errors
/// See [`ReadError`].
pub fn read(directories: &[PathBuf]) -> Result<Runs, ReadError> {
    let mut runs = Runs::default();
    let mut known = HashMap::new();
    for directory in directories {
        read_one(&directory.join(RUNS), &mut runs, &mut known)?;
    }
    if runs.records.is_empty() {
        let names: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
        return Err(ReadError::Empty(names.join(", ")));
    }
    Ok(runs)
}

fn read_one(file: &Path, runs: &mut Runs, known: &mut HashMap<String, usize>) -> Result<(), ReadError> {
    let failed = |source| ReadError::File { file: file.display().to_string(), source };
    let mut reader = BufReader::new(File::open(file).map_err(failed)?);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
            break;
        }
        let ended = bytes.ends_with(b"\n");
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let place = Place { file: file.to_owned(), line };
        let record = match parse(&bytes) {
            Ok(record) => record,
            Err(_) if !ended => {
                runs.cut_off.push(file.to_owned());
                break;
            }
            Err(why) => return Err(ReadError::Line { place, why }),
        };
        match known.entry(record.id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(runs.records.len());
                runs.records.push(record);
                runs.places.push(place);
            }
            Entry::Occupied(entry) => {
                let first = (runs.records.get(*entry.get())).zip(runs.places.get(*entry.get()));
                let essence_here = essence(&record);
                if let Some((first, at)) = first.filter(|(first, _)| essence(first) != essence_here) {
                    let member = difference(&essence(first), &essence_here);
                    return Err(ReadError::Differ {
                        id: record.id,
                        first: at.clone(),
                        second: place,
                        member,
                    });
                }
                runs.repeated += 1;
            }
        }
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<RunRecord, String> {
    let record: RunRecord = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
    if record.schema != SCHEMA {
        return Err(format!("its schema is {:?}, and this program reads {SCHEMA:?}", record.schema));
    }
    if record.id.is_empty() {
        return Err("its id is empty".into());
    }
    Ok(record)
}

/// A record without what a clock measured. Each part of a campaign, and each campaign of a workload, makes the fault-free runs itself:
/// they are the same run wherever they are made.
fn essence(record: &RunRecord) -> RunRecord {
    let timeless = RunRecord { restore_us: 0, run_us: 0, timeline: Vec::new(), ..record.clone() };
    match record.kind.as_str() {
        "none" => RunRecord { host: String::new(), mechanism: String::new(), ..timeless },
        _ => timeless,
    }
}

/// The name of a member in which two records differ.
fn difference(a: &RunRecord, b: &RunRecord) -> String {
    let value = |record| serde_json::to_value(record).unwrap_or_default();
    let (a, b) = (value(a), value(b));
    let members = a.as_object().into_iter().flatten();
    let differing = members.filter(|(name, value)| b.get(name.as_str()) != Some(value));
    differing.map(|(name, _)| name.clone()).next().unwrap_or_else(|| "something".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, seed: u64) -> String {
        let record = RunRecord { schema: SCHEMA.into(), id: id.into(), seed, ..RunRecord::default() };
        serde_json::to_string(&record).unwrap() + "\n"
    }

    fn directory(text: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(RUNS), text).unwrap();
        directory
    }

    fn read_texts(texts: &[&str]) -> Result<Runs, ReadError> {
        let directories: Vec<_> = texts.iter().map(|text| directory(text)).collect();
        let paths: Vec<_> = directories.iter().map(|directory| directory.path().to_owned()).collect();
        read(&paths)
    }

    #[test]
    fn fault_free_runs_are_made_in_each_part_and_are_the_same_run() {
        let run = |host: &str, run_us, verdict: &str| {
            let record = RunRecord {
                schema: SCHEMA.into(),
                id: "requests/none".into(),
                kind: "none".into(),
                host: host.into(),
                verdict: verdict.into(),
                run_us,
                ..RunRecord::default()
            };
            serde_json::to_string(&record).unwrap() + "\n"
        };
        let runs = read_texts(&[&run("one", 5, "PASS"), &run("another", 6, "PASS")]).unwrap();
        assert_eq!((runs.records.len(), runs.repeated), (1, 1));
        let why = read_texts(&[&run("one", 5, "PASS"), &run("one", 5, "SHORT")]).err().unwrap().to_string();
        assert!(why.contains("verdict differs"), "{why}");
    }

    #[test]
    fn shards_are_merged_and_a_run_counts_once() {
        let shared = line("b", 2);
        let runs =
            read_texts(&[&(line("a", 1) + &shared), &(shared.clone() + "\n" + &line("c", 3))]).unwrap();
        let ids: Vec<&str> = runs.records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!((ids.as_slice(), runs.repeated), (&["a", "b", "c"][..], 1));
        assert_eq!(runs.places[2].line, 3);
    }

    #[test]
    fn one_name_for_two_runs_is_an_error_with_both_places() {
        let why = read_texts(&[&line("a", 1), &(line("z", 1) + &line("a", 2))]).unwrap_err().to_string();
        assert!(
            why.contains("runs.jsonl:2: the run \"a\" is also in") && why.contains("runs.jsonl:1,"),
            "{why}"
        );
        assert!(why.contains("seed differs"), "{why}");
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["{\"schema\":1}\n", "nonsense\n", "\u{0}\n", "[]\n"] {
            let why = read_texts(&[&(line("a", 1) + bad)]).unwrap_err().to_string();
            assert!(why.contains("runs.jsonl:2: this line is not a run"), "{why}");
        }
        let other = line("a", 1).replace(SCHEMA, "refault.run-record/9");
        assert!(read_texts(&[&other]).unwrap_err().to_string().contains("refault.run-record/9"));
        assert!(read_texts(&[&line("", 1)]).unwrap_err().to_string().contains("id is empty"));
    }

    #[test]
    fn half_a_line_at_the_end_is_left_out_and_counted() {
        let whole = line("b", 2);
        let runs = read_texts(&[&(line("a", 1) + &whole[..whole.len() / 2])]).unwrap();
        assert_eq!((runs.records.len(), runs.cut_off.len()), (1, 1));
        // A whole one without its line feed counts.
        let runs = read_texts(&[whole.trim_end()]).unwrap();
        assert_eq!((runs.records.len(), runs.cut_off.len()), (1, 0));
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        assert!(matches!(read_texts(&[""]), Err(ReadError::Empty(_))));
        let why = read(&[PathBuf::from("/nonexistent")]).unwrap_err().to_string();
        assert!(why.contains("/nonexistent/runs.jsonl could not be read"), "{why}");
    }
}
