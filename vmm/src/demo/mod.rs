//! The demo: the seed's scenario under each retry policy, as a table.
//!
//! A program reads 64 KiB of one file into a mapping of another, and pages of the buffer are absent: taken away at
//! the second stage by the injector, or never touched and so absent at the first. Each combination runs in a machine of
//! its own, all from one fresh disk image.
//!
//! The one thing to hold in mind: no figure is assumed. What the program saw comes from its report, faults from the
//! injector's and the kernel's counters, marks and repeats from the kernel's and the file server's, each as the difference
//! between the begin and the end of the read; the verdict is computed from these alone ([`verdict`]).

pub mod image;
pub mod row;
pub mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;

use crate::cli::{Failure, output, report};
use crate::doctor::host::Host;
use crate::exit_code::ExitCode;
use crate::guest_image;
use crate::inject::mechanism::Wanted;
use crate::inject::parse_rule;
use crate::mkfs;
use crate::vcpu::measure::Cost;
use crate::vm::config::{Console, Disk};
use crate::vm::console::Capture;
use crate::vm::outcome::{Stats, Times};
use crate::vm::{Config, End, Outcome, Vm};

use image::ImageCheck;
use row::{Row, Source};

/// Schema of the demo's document.
pub const SCHEMA: &str = "refault.demo/1";

/// What is taken away in the runs with injection.
pub const RULE: &str = "read page=1,7,last side=granter: reflect";

/// Time allowed to one machine unless told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The retry policies compared, from the oldest on.
pub const POLICIES: [&str; 3] = ["efault", "mark", "hardened"];

/// What the file system answers after a failed copy.
const FS: &str = "partial";

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Time allowed to each machine.
    pub timeout: Option<Duration>,
    /// Print all figures of all machines.
    pub stats: bool,
    /// Where to write the document.
    pub json: Option<PathBuf>,
    /// Recorded only.
    pub seed: Option<u64>,
    /// Processors of each machine.
    pub cpus: u8,
    /// RAM of each machine, in bytes.
    pub memory: u64,
    /// How pages are taken away.
    pub mechanism: Wanted,
    /// When the program was started.
    pub started: Instant,
}

/// One machine's part of the document.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The row it gave.
    #[serde(flatten)]
    pub row: Row,
    /// How the machine ended.
    pub end: String,
    /// The disk image afterwards.
    pub image: ImageCheck,
    /// Every figure.
    pub stats: Stats,
    /// What it printed.
    #[serde(skip)]
    pub console: String,
}

/// The demo's document.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Which host.
    pub host: &'static Host,
    /// The rule of the runs with injection.
    pub rule: &'static str,
    /// The seed given.
    pub seed: Option<u64>,
    /// Whether everything came out as it must.
    pub ok: bool,
    /// What did not.
    pub problems: Vec<String>,
    /// The table.
    pub rows: Vec<Row>,
    /// The machines behind it, in the same order.
    pub runs: Vec<Run>,
    /// Ring-0 instructions of the kernel's basic operations, counted by single stepping; only with `--stats`.
    pub costs: Vec<Cost>,
    /// Wall time of the whole demo, in milliseconds. Says nothing on a virtual host.
    pub wall_ms: u64,
}

/// Runs the demo, prints it and says the exit code.
pub async fn command(request: &Request) -> Result<u8, Failure> {
    let document = play(request).await?;
    let json_on_stdout = request.json.as_deref() == Some(Path::new("-"));
    if !json_on_stdout {
        output::result(format_args!("{}", table::text(&document)))?;
    }
    if request.stats {
        for run in &document.runs {
            let (policy, source) = (run.row.policy, run.row.source.name());
            output::remark(format_args!("\nretry={policy} {source}\n{}", report::stats_text(&run.stats)));
        }
    }
    for cost in &document.costs {
        output::remark(format_args!(
            "{:<30}{:>8} ring-0 instructions, {} kernel entries\n",
            cost.operation, cost.instructions, cost.kernel_entries
        ));
    }
    for problem in &document.problems {
        output::remark(format_args!("refault: {problem}\n"));
    }
    // Last, so that a report that cannot be written does not hide what was found out.
    if let Some(file) = &request.json {
        report::write_json(file, &document)?;
    }
    Ok(if document.ok { 0 } else { ExitCode::Demo as u8 })
}

/// Plays all runs.
pub async fn play(request: &Request) -> Result<Document, Failure> {
    let host_failure = |e: std::io::Error| Failure::new(ExitCode::Host, e);
    let dir = tempfile::tempdir().map_err(host_failure)?;
    let master = dir.path().join("demo.img");
    mkfs::make_demo_image(&master, false).map_err(|e| Failure::new(ExitCode::Mkfs, e))?;
    let original = image::digest(&master).map_err(host_failure)?;

    // More machines at once than processors would only make each of them slower.
    let slots = std::thread::available_parallelism().map_or(1, |n| n.get());
    let slots = Arc::new(Semaphore::new(slots));
    let mut tasks = Vec::new();
    for source in [Source::SecondStage, Source::FirstStage] {
        for policy in POLICIES {
            let path = dir.path().join(format!("{policy}-{}.img", source.name()));
            std::fs::copy(&master, &path).map_err(host_failure)?;
            let (request, slots) = (request.clone(), slots.clone());
            tasks.push(tokio::spawn(async move {
                let _slot = slots.acquire().await;
                one(&request, policy, source, &path, original).await
            }));
        }
    }
    let mut runs = Vec::new();
    for task in tasks {
        runs.push(task.await.map_err(|e| Failure::new(ExitCode::Host, e))??);
    }
    let costs = match request.stats {
        true => costs(request, &master).await?,
        false => Vec::new(),
    };
    let problems: Vec<String> = runs.iter().flat_map(problems).collect();
    Ok(Document {
        schema: SCHEMA,
        host: Host::here(),
        rule: RULE,
        seed: request.seed,
        ok: problems.is_empty(),
        problems,
        rows: runs.iter().map(|r| r.row.clone()).collect(),
        runs,
        costs,
        wall_ms: request.started.elapsed().as_millis() as u64,
    })
}

/// What the kernel's basic operations cost, from a machine of their own: stepping through a kernel distorts its times.
async fn costs(request: &Request, disk: &Path) -> Result<Vec<Cost>, Failure> {
    let config = Config {
        command_line: "measure=on".into(),
        program: vec!["sys_costs".into()],
        started: Instant::now(),
        ..built_in(request, disk)
    };
    let outcome = Vm::start(config).map_err(crate::cli::run::failure)?.run().await;
    match outcome.end {
        End::Exited(0) => Ok(outcome.stats.costs),
        end => {
            let why = anyhow::anyhow!(
                "the costs of kernel calls could not be counted: {}",
                report::describe(&end).2
            );
            Err(Failure::new(ExitCode::Host, why))
        }
    }
}

/// The built-in guest with one disk.
fn built_in(request: &Request, disk: &Path) -> Config {
    Config {
        image: Some(Arc::from(guest_image::BOOT_IMAGE)),
        disks: vec![Disk::new(disk)],
        cpus: request.cpus,
        memory: request.memory,
        mechanism: request.mechanism,
        timeout: Some(request.timeout.unwrap_or(DEFAULT_TIMEOUT)),
        started: request.started,
        ..Config::new(guest_image::KERNEL)
    }
}

async fn one(
    request: &Request,
    policy: &'static str,
    source: Source,
    disk: &Path,
    original: u64,
) -> Result<Run, Failure> {
    let capture = Capture::default();
    let rules = match source {
        Source::SecondStage => vec![parse_rule(RULE).map_err(|e| Failure::new(ExitCode::Rule, e))?],
        Source::FirstStage => Vec::new(),
    };
    let config = Config {
        command_line: format!("retry={policy} fs={FS}"),
        program: ["softread", "--case", source.name()].map(str::to_owned).to_vec(),
        rules,
        console: Console { output: Box::new(capture.clone()), input: None },
        ..built_in(request, disk)
    };
    let vm = Vm::start(config).map_err(crate::cli::run::failure)?;
    let outcome: Outcome = vm.run().await;
    let (_, _, end) = report::describe(&outcome.end);
    let image = ImageCheck::of(disk, original);
    Ok(Run {
        row: Row::of(policy, FS, source, &outcome),
        end,
        image,
        stats: outcome.stats,
        console: capture.text(),
    })
}

/// What is wrong with a run, as sentences.
fn problems(run: &Run) -> Vec<String> {
    let name = format!("retry={} ({})", run.row.policy, run.row.source.name());
    let mut wrong = Vec::new();
    let expected = run.row.expected();
    if run.row.verdict != expected {
        let last: Vec<&str> = run.console.lines().rev().take(12).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        wrong.push(format!(
            "{name}: {} where {expected} was expected; {}; the guest's last lines:\n    {}",
            run.row.verdict,
            run.end,
            last.join("\n    ")
        ));
    }
    if run.stats.faults.is_some_and(|f| !f.conserved()) {
        wrong.push(format!("{name}: the sums of faults do not come out: {:?}", run.stats.faults));
    }
    if let Some(why) = run.image.problem() {
        wrong.push(format!("{name}: {why}"));
    }
    wrong
}

/// The earliest of a time over all runs, in microseconds.
pub fn earliest(runs: &[Run], time: impl Fn(&Times) -> Option<u64>) -> Option<u64> {
    runs.iter().filter_map(|r| time(&r.stats.times)).min()
}
