//! A campaign's directory: what was planned, each run as it ended, the sites that were known.
//!
//! | file | what |
//! |---|---|
//! | `campaign.json` | the plan, the build and the part, written once |
//! | `runs.jsonl` | a [`RunRecord`] for each run, written out as it ends |
//! | `sites.jsonl` | the sites that each fault-free run, and each repeat, passed |
//! | `summary.json` | [`super::summary`], written at the end |
//!
//! The one thing to hold in mind: a directory belongs to one plan, one build and one part. Going on in it with any other is refused, for
//! its runs would not be comparable.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::RunRecord;

/// What a directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `refault.campaign-directory/1`.
    pub schema: String,
    /// The plan as it was understood, command line and all.
    pub plan: String,
    /// Build of the guest.
    pub build: String,
    /// Which part.
    pub shard: String,
}

/// [`Header::schema`].
pub const SCHEMA: &str = "refault.campaign-directory/1";

/// Sites that are known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Listing {
    /// The kernel's words.
    pub words: String,
    /// The workload.
    pub workload: String,
    /// What the program was given.
    pub argument: u64,
    /// The site in whose repeat these are; none for a fault-free run.
    pub first: Option<String>,
    /// The sites.
    pub sites: Vec<String>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// It is another campaign's.
    #[error(
        "{path} belongs to another campaign: its {what} differs; choose another directory with --out, or remove it"
    )]
    Another {
        /// The directory.
        path: PathBuf,
        /// Plan, build or part.
        what: &'static str,
    },
    /// A line of it cannot be read.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// An open directory.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    runs: File,
    sites: File,
    listings: HashSet<Listing>,
    done: HashSet<String>,
    /// Runs of earlier times.
    pub before: Vec<RunRecord>,
}

impl Journal {
    /// Opens a directory, new or to go on in.
    ///
    /// # Errors
    /// It cannot be used, or is another campaign's.
    pub fn open(directory: &Path, header: &Header) -> Result<Self, JournalError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        std::fs::create_dir_all(directory).map_err(io(directory))?;
        let path = directory.join("campaign.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let there: Header = serde_json::from_str(&text).map_err(|why| JournalError::Line {
                    path: path.clone(),
                    line: why.line(),
                    why: why.to_string(),
                })?;
                let differs = [
                    (there.plan != header.plan, "plan"),
                    (there.build != header.build, "build"),
                    (there.shard != header.shard, "part"),
                    (there.schema != header.schema, "schema"),
                ];
                if let Some((_, what)) = differs.into_iter().find(|(is, _)| *is) {
                    return Err(JournalError::Another { path: directory.to_owned(), what });
                }
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let text =
                    serde_json::to_string_pretty(header).map_err(io::Error::from).map_err(io(&path))?;
                std::fs::write(&path, text + "\n").map_err(io(&path))?;
            }
            Err(why) => return Err(io(&path)(why)),
        }
        let (runs_path, sites_path) = (directory.join("runs.jsonl"), directory.join("sites.jsonl"));
        for path in [&runs_path, &sites_path] {
            cut_half_a_line(path).map_err(io(path))?;
        }
        let before: Vec<RunRecord> = lines(&runs_path)?;
        let listings: Vec<Listing> = lines(&sites_path)?;
        let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path).map_err(io(path));
        Ok(Self {
            directory: directory.to_owned(),
            runs: append(&runs_path)?,
            sites: append(&sites_path)?,
            listings: listings.into_iter().collect(),
            done: before.iter().map(|record| record.id.clone()).collect(),
            before,
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether a run of this name has been made.
    pub fn has(&self, id: &str) -> bool {
        self.done.contains(id)
    }

    /// Takes down a run.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, record: &RunRecord) -> io::Result<()> {
        if self.done.insert(record.id.clone()) {
            write_line(&mut self.runs, record)?;
        }
        Ok(())
    }

    /// Takes down sites that are known.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn list(&mut self, listing: Listing) -> io::Result<()> {
        if !self.listings.contains(&listing) {
            write_line(&mut self.sites, &listing)?;
            self.listings.insert(listing);
        }
        Ok(())
    }

    /// All sites that are known.
    pub fn listings(&self) -> impl Iterator<Item = &Listing> {
        self.listings.iter()
    }
}

fn write_line(file: &mut File, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    // In one call, so that a process that is killed leaves whole lines, or one half of a last one.
    file.write_all(&line)
}

/// Takes away what a killed process left of a last line.
fn cut_half_a_line(path: &Path) -> io::Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(why),
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at.saturating_add(1));
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(())
}

/// Reads a file of JSON lines; one that is not there has none.
///
/// # Errors
/// It cannot be read, or a line of it is wrong.
pub fn lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(io(why)),
    };
    let mut all = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(file).lines()) {
        let wrong =
            |why: serde_json::Error| JournalError::Line { path: path.to_owned(), line, why: why.to_string() };
        all.push(serde_json::from_str(&text.map_err(io)?).map_err(wrong)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { schema: SCHEMA.into(), plan: "p".into(), build: "b".into(), shard: "1/1".into() }
    }

    fn run(id: &str) -> RunRecord {
        RunRecord { id: id.into(), ..RunRecord::default() }
    }

    #[test]
    fn a_campaign_goes_on_where_it_was_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), &header()).unwrap();
        journal.append(&run("a")).unwrap();
        journal.append(&run("a")).unwrap();
        journal.append(&run("b")).unwrap();
        let listing = Listing {
            words: "w".into(),
            workload: "read".into(),
            argument: 1,
            first: None,
            sites: vec!["s".into()],
        };
        journal.list(listing.clone()).unwrap();
        journal.list(listing).unwrap();
        drop(journal);
        let path = directory.path().join("runs.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"schema\":\"ref").unwrap();
        let mut journal = Journal::open(directory.path(), &header()).unwrap();
        assert_eq!(journal.before.len(), 2);
        assert!(journal.has("a") && journal.has("b") && !journal.has("c"));
        assert_eq!(journal.listings().count(), 1);
        journal.append(&run("c")).unwrap();
        assert_eq!(lines::<RunRecord>(&path).unwrap().len(), 3);
    }

    #[test]
    fn another_campaigns_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(Journal::open(directory.path(), &header()).unwrap());
        for (other, what) in [
            (Header { plan: "q".into(), ..header() }, "plan"),
            (Header { build: "c".into(), ..header() }, "build"),
            (Header { shard: "1/2".into(), ..header() }, "part"),
        ] {
            let said = Journal::open(directory.path(), &other).unwrap_err().to_string();
            assert!(said.contains(what) && said.contains("--out"), "{said}");
        }
        std::fs::write(directory.path().join("runs.jsonl"), "{}\nnonsense\n").unwrap();
        let said = Journal::open(directory.path(), &header()).unwrap_err().to_string();
        assert!(said.contains("runs.jsonl, line 1"), "{said}");
    }
}
