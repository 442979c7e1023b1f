//! The verb `test`: the guest tests.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use crate::doctor::host::Host;
use crate::exit_code::ExitCode;
use crate::host::open_kvm;
use crate::suite::emulator::Emulator;
use crate::suite::json::{Document, Entry, SCHEMA};
use crate::suite::progress::{Progress, is_failure};
use crate::suite::runner::{self, Ran, Request, Under};
use crate::suite::select::select;
use crate::suite::verdict::Verdict;
use crate::suite::{DiskKind, Expect, Test, disk, table};
use crate::vm::assemble::AssembleError;

use super::{Failure, mutation, output, report, run as run_verb};

const EXAMPLES: &str = "Examples:
  refault test --list                        what there is
  refault test                               all of them, as many machines at once as there are processors
  refault test F1 'M*.second-stage'          names that contain F1, and names like that
  refault test --jobs 1 --json result.json   one after the other, with a document (refault.test/1)
  refault test --under qemu-system-x86_64    in QEMU's emulation: what needs no monitor
  refault test --words mode=faithful D1      with a word added to each test's command line

A test passes if every case of its program is well, the faults it is about happened, its disks are sound afterwards and hold
what the program said. Verdicts: PASS, RETRIED (operations were repeated), REJECTED (the error specified), SKIP (reason given),
FAILED, LEAK, SHORT, CORRUPT, WEDGED (with the graph of who waits for whom), CRASH. Some tests have to come to SHORT or WEDGED:
they show what the system this one descends from does.

Exit codes: 0 all passed or left out, 175 some failed, 130 interrupted, 160 a pattern fits no test; others as of `refault run`.";

/// Run the guest tests, in parallel machines
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only say what there is
    #[arg(long)]
    list: bool,
    /// Names, parts of names, or patterns with * and ?
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Machines at once [default: as many as processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Write the results as JSON (refault.test/1); `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    json: Option<PathBuf>,
    /// Use this QEMU's emulation of a microvm instead of KVM
    #[arg(long, value_name = "QEMU")]
    under: Option<PathBuf>,
    /// Words for the kernel, added to those of each test
    #[arg(long, value_name = "STR", default_value = "")]
    words: String,
    /// Switch each seeded bug on in turn and say which tests notice; needs a build that has them (tests/mutation.sh)
    #[arg(long, conflicts_with_all = ["list", "json"])]
    bugs: bool,
    /// With --bugs: try every test on every bug, not only those aimed at it
    #[arg(long, requires = "bugs")]
    all_tests: bool,
    /// With --bugs: write the table as Markdown
    #[arg(long, requires = "bugs", value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// How the running of machines ended.
enum Done {
    /// All tests have run.
    Ran(Vec<Ran>),
    /// All that was wanted is done.
    Code(u8),
    /// A signal came.
    Stopped,
}

/// Runs tests, or lists them, and says the exit code.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let started = Instant::now();
    let tests = select(table::all(), &args.patterns).map_err(|pattern| {
        let why = anyhow::anyhow!("no test fits {pattern:?}; `refault test --list` says what there is");
        Failure::new(ExitCode::Usage, why)
    })?;
    if args.list {
        return list(&tests);
    }
    run_verb::guest_words("--words", &args.words)?;
    let host = |why: std::io::Error| Failure::new(ExitCode::Host, why);
    let under = match &args.under {
        Some(program) => Under::Emulator(Arc::new(Emulator::new(program).map_err(host)?)),
        None => {
            // One clear message instead of as many failures as there are tests.
            open_kvm().map_err(|why| run_verb::failure(AssembleError::Host(why)))?;
            Under::Kvm
        }
    };
    let has_fsck = disk::has_fsck();
    if !has_fsck {
        output::remark(format_args!(
            "refault: fsck.minix is not installed (package util-linux), so disks are only walked, which finds less\n"
        ));
    }
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let request = Request { jobs, words: args.words.clone(), under };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(host)?;
    let done = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|why| Failure::new(ExitCode::Host, why));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let mut quit = listen(SignalKind::quit())?;
        if args.bugs {
            let wanted = mutation::Wanted { all: args.all_tests, markdown: args.markdown.as_deref() };
            return tokio::select! {
                code = mutation::run(&tests, &request, wanted) => code.map(Done::Code),
                _ = interrupt.recv() => Ok(Done::Stopped),
                _ = terminate.recv() => Ok(Done::Stopped),
                _ = hang_up.recv() => Ok(Done::Stopped),
                _ = quit.recv() => Ok(Done::Stopped),
            };
        }
        let mut progress = Progress::new(tests.len());
        // Whichever comes first drops the other: machines are stopped and temporary files removed.
        let done = tokio::select! {
            all = runner::run(tests, &request, |ran| {
                let more = if is_failure(ran) { failure(args, ran) } else { String::new() };
                progress.done_with(ran, &more);
            }) => Done::Ran(all.map_err(host)?),
            _ = interrupt.recv() => Done::Stopped,
            _ = terminate.recv() => Done::Stopped,
            _ = hang_up.recv() => Done::Stopped,
            _ = quit.recv() => Done::Stopped,
        };
        progress.finish();
        Ok(done)
    })?;
    let all = match done {
        Done::Ran(all) => all,
        Done::Code(code) => return Ok(code),
        Done::Stopped => return Ok(ExitCode::Interrupted as u8),
    };
    tell(&all);
    let document = document(args, jobs, has_fsck, &all, started);
    if let Some(file) = &args.json {
        report::write_json(file, &document)?;
    }
    Ok(if document.failed == 0 { 0 } else { ExitCode::Tests as u8 })
}

fn document(args: &Args, jobs: usize, has_fsck: bool, all: &[Ran], started: Instant) -> Document {
    let count = |wanted: fn(&Ran) -> bool| all.iter().filter(|ran| wanted(ran)).count();
    Document {
        schema: SCHEMA,
        host: Host::here(),
        under: args.under.as_ref().map(|program| program.display().to_string()),
        disk_check: if has_fsck { "fsck.minix" } else { "walk" },
        words: args.words.clone(),
        jobs,
        passed: count(|ran| ran.judged.passed),
        failed: count(is_failure),
        skipped: count(|ran| ran.judged.verdict == Verdict::Skip),
        tests: all.iter().map(Entry::of).collect(),
        wall_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// What a failed test is to be told of: why it failed, its console's last lines, and how to repeat it.
fn failure(args: &Args, ran: &Ran) -> String {
    let mut text = format!("\n{}: {}\n", ran.test.name, ran.judged.verdict);
    let mut add = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    for why in &ran.judged.why {
        add(&format!("    {why}"));
    }
    for edge in &ran.judged.graph {
        add(&format!("    wait-for: {edge}"));
    }
    if ran.judged.verdict == Verdict::Wedged && ran.judged.graph.is_empty() {
        add("    with --words watchdog=5000 the kernel says who waits for whom");
    }
    add("  its console's last lines:");
    for line in ran.last_lines() {
        add(&format!("  | {line}"));
    }
    add(&format!("  to repeat it alone: {}", repetition(args, &ran.test)));
    text
}

/// Says what wedged as it had to, what failed, and the sums.
fn tell(all: &[Ran]) {
    for ran in all.iter().filter(|ran| ran.judged.passed && !ran.judged.graph.is_empty()) {
        output::remark(format_args!("\n{}: WEDGED, as it has to be; who waited for whom:\n", ran.test.name));
        for edge in &ran.judged.graph {
            output::remark(format_args!("    {edge}\n"));
        }
    }
    let failed: Vec<&str> =
        all.iter().filter(|ran| is_failure(ran)).map(|ran| ran.test.name.as_str()).collect();
    if !failed.is_empty() {
        output::remark(format_args!("\nfailed: {}\n", failed.join(" ")));
    }
    let sum = |of: fn(&Ran) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
    let count = |wanted: fn(&Ran) -> bool| all.iter().filter(|ran| wanted(ran)).count();
    output::remark(format_args!(
        "\n{} passed, {} failed, {} skipped; {} cases, {} faults, {} repeats\n",
        count(|ran| ran.judged.passed),
        failed.len(),
        count(|ran| ran.judged.verdict == Verdict::Skip),
        sum(|ran| ran.judged.cases.len() as u64),
        sum(|ran| ran.judged.faults),
        sum(|ran| ran.judged.repeats),
    ));
}

/// The command that runs this test alone, as it was run.
fn repetition(args: &Args, test: &Test) -> String {
    let mut command = format!("refault test {}", test.name);
    if !args.words.is_empty() {
        command.push_str(&format!(" --words '{}'", args.words));
    }
    if let Some(program) = &args.under {
        command.push_str(&format!(" --under {}", program.display()));
    }
    command
}

fn list(tests: &[Test]) -> Result<u8, Failure> {
    let mut text = String::new();
    for test in tests {
        let mut notes = Vec::new();
        if !test.words.is_empty() {
            notes.push(test.words.clone());
        }
        if test.needs_monitor {
            notes.push("needs the monitor".to_owned());
        }
        if test.disks.contains(&DiskKind::Second) {
            notes.push("two disks".to_owned());
        }
        match &test.expect {
            Expect::Pass => {}
            Expect::Wedged(_) => notes.push("has to wedge".to_owned()),
            Expect::Short => notes.push("has to come out short".to_owned()),
            Expect::Corrupt => notes.push("has to come out wrong".to_owned()),
            Expect::Leak => notes.push("has to leak".to_owned()),
            Expect::Status(status) => notes.push(format!("has to end with {status}")),
        }
        let notes = if notes.is_empty() { String::new() } else { format!("  [{}]", notes.join(", ")) };
        text.push_str(&format!("{:<44} {}{notes}\n", test.name, test.program.join(" ")));
    }
    output::result(format_args!("{text}"))?;
    Ok(0)
}
