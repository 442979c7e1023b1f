//! Running tests: each in a machine of its own, several at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::disk::{self, Reader};
use super::emulator::Emulator;
use super::judge::{Ended, Judged, Played, judge};
use super::{DiskKind, Test, console, machine};

/// Where machines run.
#[derive(Clone)]
pub enum Under {
    /// This host's KVM.
    Kvm,
    /// QEMU's emulation.
    Emulator(Arc<Emulator>),
}

/// What to run tests with.
#[derive(Clone)]
pub struct Request {
    /// Machines at once.
    pub jobs: usize,
    /// Words added to every test's command line.
    pub words: String,
    /// Where.
    pub under: Under,
}

/// A test that has run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The test.
    pub test: Test,
    /// What it came to.
    pub judged: Judged,
    /// Its machine's console.
    pub console: String,
    /// Wall time of its machine: only a hint to what takes long, as machines share processors.
    pub took: Duration,
}

/// Images as they are before any test.
pub type Masters = BTreeMap<u8, Vec<u8>>;

/// Runs `tests` and gives them in their order. `done` hears of each as it ends.
///
/// # Errors
/// The disks cannot be made.
pub async fn run(tests: Vec<Test>, request: &Request, mut done: impl FnMut(&Ran)) -> io::Result<Vec<Ran>> {
    let masters = Arc::new(masters(&tests)?);
    let mut machines = JoinSet::new();
    let count = tests.len();
    // More slots than tests are of no use, and a semaphore does not take any number.
    let slots = Arc::new(Semaphore::new(request.jobs.clamp(1, count.max(1))));
    for (index, test) in tests.into_iter().enumerate() {
        let (request, masters, slots) = (request.clone(), masters.clone(), slots.clone());
        machines.spawn(async move {
            let _slot = slots.acquire().await;
            (index, one(test, &request, masters).await)
        });
    }
    let mut all: Vec<Option<Ran>> = (0..count).map(|_| None).collect();
    while let Some(joined) = machines.join_next().await {
        let (index, ran) = joined.map_err(io::Error::other)?;
        done(&ran);
        if let Some(place) = all.get_mut(index) {
            *place = Some(ran);
        }
    }
    Ok(all.into_iter().flatten().collect())
}

/// Makes the images that `tests` need.
///
/// # Errors
/// They cannot be made.
pub fn masters(tests: &[Test]) -> io::Result<Masters> {
    let mut masters = Masters::new();
    for kind in tests.iter().flat_map(|test| &test.disks) {
        if let std::collections::btree_map::Entry::Vacant(place) = masters.entry(*kind as u8) {
            place.insert(disk::image(*kind)?);
        }
    }
    Ok(masters)
}

fn unplayed(ended: Ended) -> Played {
    Played { ended, console: String::new(), graph: Vec::new(), monitor: None }
}

/// Runs one test from fresh disks to its verdict.
pub async fn one(test: Test, request: &Request, masters: Arc<Masters>) -> Ran {
    let started = Instant::now();
    let scratch = match scratch(&test.disks, &masters) {
        Ok(scratch) => scratch,
        Err(why) => {
            let played = unplayed(Ended::Failed(format!("the disks could not be made: {why}")));
            return finish(test, played, &[], started);
        }
    };
    let played = match &request.under {
        Under::Kvm => machine::play(&test, &scratch.disks, &request.words).await,
        Under::Emulator(emulator) => match Emulator::lacks(&test) {
            Some(why) => unplayed(Ended::Skipped(why)),
            None => emulator.play(&test, &scratch.disks, &request.words).await,
        },
    };
    let kept = test.clone();
    let checking = tokio::task::spawn_blocking(move || {
        let damage = match &played.ended {
            Ended::Exited(_) => damage(&scratch.disks, &played.console),
            // What was being written when everything stopped is nobody's fault.
            _ => Vec::new(),
        };
        finish(test, played, &damage, started)
    });
    checking.await.unwrap_or_else(|why| {
        let played = unplayed(Ended::Failed(format!("the judge failed: {why}")));
        finish(kept, played, &[], started)
    })
}

fn finish(test: Test, played: Played, damage: &[String], started: Instant) -> Ran {
    let judged = judge(&test, &played, console::read(&played.console), damage);
    Ran { test, judged, console: played.console, took: started.elapsed() }
}

/// A test's own copies of its disks.
struct Scratch {
    _directory: tempfile::TempDir,
    disks: Vec<PathBuf>,
}

fn scratch(kinds: &[DiskKind], masters: &Masters) -> io::Result<Scratch> {
    let directory = tempfile::tempdir()?;
    let mut disks = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let path = directory.path().join(format!("disk{index}.img"));
        let master = masters.get(&(*kind as u8)).ok_or(io::ErrorKind::NotFound)?;
        std::fs::write(&path, master)?;
        disks.push(path);
    }
    Ok(Scratch { _directory: directory, disks })
}

/// What is wrong with the disks: the host's checker and, where it is not installed, a walk; and files that do not hold
/// what the program said.
fn damage(disks: &[PathBuf], text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, path) in disks.iter().enumerate() {
        if let Err(why) = check(path) {
            wrong.push(format!("disk {index} is damaged: {why}"));
        }
    }
    let mut readers = BTreeMap::new();
    for claim in console::read(text).files {
        let Some(path) = disks.get(claim.disk) else {
            wrong.push(format!("{}: there is no disk {}", claim.path, claim.disk));
            continue;
        };
        let reader = readers.entry(claim.disk).or_insert_with(|| Reader::open(path));
        let bytes = match reader {
            Ok(reader) => reader.file(&claim.path),
            Err(why) => Err(why.clone()),
        };
        match bytes {
            Err(why) => wrong.push(format!("the host cannot read {}", why)),
            Ok(bytes) => {
                let fnv = format!("{:016x}", console::fnv1a(&bytes));
                if bytes.len() as u64 != claim.bytes || fnv != claim.fnv {
                    wrong.push(format!(
                        "{} on the disk has {} bytes with sum {fnv}; the program said {} bytes with sum {}",
                        claim.path,
                        bytes.len(),
                        claim.bytes,
                        claim.fnv
                    ));
                }
            }
        }
    }
    wrong
}

fn check(path: &Path) -> Result<(), String> {
    match disk::fsck(path) {
        Some(said) => said.map_err(|why| format!("fsck.minix: {why}")),
        None => Reader::open(path)?.walk(),
    }
}

/// Lines of a failed test's console that are shown.
const LAST_LINES: usize = 25;

impl Ran {
    /// The last lines of its console.
    pub fn last_lines(&self) -> Vec<String> {
        let lines: Vec<&str> = self.console.lines().collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        lines.into_iter().skip(from).map(|line| line.trim_end().to_owned()).collect()
    }
}
