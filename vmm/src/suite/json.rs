//! The document of a run of tests: `refault.test/1`.

use serde::Serialize;

use super::console::Case;
use super::runner::Ran;
use super::verdict::Verdict;
use crate::doctor::host::Host;

/// Its schema.
pub const SCHEMA: &str = "refault.test/1";

/// The document.
#[derive(Debug, Serialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Where it ran.
    pub host: &'static Host,
    /// The emulator in use, if not this host's KVM.
    pub under: Option<String>,
    /// What looked at the disks afterwards: `fsck.minix`, or where that is not installed `walk`, which finds less.
    pub disk_check: &'static str,
    /// Words added to each test's command line.
    pub words: String,
    /// Machines at once.
    pub jobs: usize,
    /// Tests that came to what was expected.
    pub passed: usize,
    /// Tests that did not.
    pub failed: usize,
    /// Tests that could not be run here.
    pub skipped: usize,
    /// All of them, in the table's order.
    pub tests: Vec<Entry>,
    /// Wall time of the whole run in milliseconds.
    pub wall_ms: u64,
}

/// One test.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it came to.
    pub verdict: Verdict,
    /// Whether that is what was expected.
    pub passed: bool,
    /// Faults counted.
    pub faults: u64,
    /// Repeats counted.
    pub repeats: u64,
    /// Why not, or why it was left out.
    pub why: Vec<String>,
    /// Parts left out.
    pub skips: Vec<String>,
    /// Its cases.
    pub cases: Vec<Case>,
    /// Who waited for whom, if it wedged.
    pub graph: Vec<String>,
    /// What its machine ran.
    pub program: String,
    /// Words of its own on the command line.
    pub words: String,
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// The console's last lines, of a test that failed.
    pub console: Vec<String>,
}

impl Entry {
    /// The entry of a test that ran.
    pub fn of(ran: &Ran) -> Self {
        let judged = ran.judged.clone();
        let failed = !judged.passed && judged.verdict != Verdict::Skip;
        Self {
            name: ran.test.name.clone(),
            verdict: judged.verdict,
            passed: judged.passed,
            faults: judged.faults,
            repeats: judged.repeats,
            why: judged.why,
            skips: judged.skips,
            cases: judged.cases,
            graph: judged.graph,
            program: ran.test.program.join(" "),
            words: ran.test.words.clone(),
            wall_ms: u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX),
            console: if failed { ran.last_lines() } else { Vec::new() },
        }
    }
}
