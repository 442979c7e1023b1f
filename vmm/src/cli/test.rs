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
use crate::suite::{DiskKind, Expect, Test, table};
use crate::vm::assemble::AssembleError;

use super::{Failure, output, report, run as run_verb};

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

Exit codes: 0 all passed or left out, 175 some failed, 160 a pattern fits no test; others as of `refault run`.";

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
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use this QEMU's emulation of a microvm instead of KVM
    #[arg(long, value_name = "QEMU")]
    under: Option<PathBuf>,
    /// Words for the kernel, added to those of each test
    #[arg(long, value_name = "STR", default_value = "")]
    words: String,
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
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let request = Request { jobs, words: args.words.clone(), under };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(host)?;
    let all = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|why| Failure::new(ExitCode::Host, why));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let mut progress = Progress::new(tests.len());
        // Whichever comes first drops the other: machines are stopped and temporary files removed.
        let all = tokio::select! {
            all = runner::run(tests, &request, |ran| progress.done(ran)) => Some(all.map_err(host)?),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            _ = hang_up.recv() => None,
        };
        progress.finish();
        Ok(all)
    })?;
    let Some(all) = all else { return Ok(ExitCode::Interrupted as u8) };
    tell(args, &all);
    let document = document(args, jobs, &all, started);
    if let Some(file) = &args.json {
        report::write_json(file, &document)?;
    }
    Ok(if document.failed == 0 { 0 } else { ExitCode::Tests as u8 })
}

fn document(args: &Args, jobs: usize, all: &[Ran], started: Instant) -> Document {
    let count = |wanted: fn(&Ran) -> bool| all.iter().filter(|ran| wanted(ran)).count();
    Document {
        schema: SCHEMA,
        host: Host::here(),
        under: args.under.as_ref().map(|program| program.display().to_string()),
        words: args.words.clone(),
        jobs,
        passed: count(|ran| ran.judged.passed),
        failed: count(is_failure),
        skipped: count(|ran| ran.judged.verdict == Verdict::Skip),
        tests: all.iter().map(Entry::of).collect(),
        wall_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// Says what failed and why, how to repeat it, what was left out, and the sums.
fn tell(args: &Args, all: &[Ran]) {
    for ran in all.iter().filter(|ran| is_failure(ran)) {
        output::remark(format_args!("\n{}: {}\n", ran.test.name, ran.judged.verdict));
        for why in &ran.judged.why {
            output::remark(format_args!("    {why}\n"));
        }
        for edge in &ran.judged.graph {
            output::remark(format_args!("    wait-for: {edge}\n"));
        }
        if ran.judged.verdict == Verdict::Wedged && ran.judged.graph.is_empty() {
            let advice = "with --words watchdog=5000 the kernel says who waits for whom";
            output::remark(format_args!("    {advice}\n"));
        }
        output::remark(format_args!("  its console's last lines:\n"));
        for line in ran.last_lines() {
            output::remark(format_args!("  | {line}\n"));
        }
        output::remark(format_args!("  to repeat it alone: {}\n", repetition(args, &ran.test)));
    }
    for ran in all.iter().filter(|ran| ran.judged.passed && !ran.judged.graph.is_empty()) {
        output::remark(format_args!("\n{}: WEDGED, as it has to be; who waited for whom:\n", ran.test.name));
        for edge in &ran.judged.graph {
            output::remark(format_args!("    {edge}\n"));
        }
    }
    let sum = |of: fn(&Ran) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
    let count = |wanted: fn(&Ran) -> bool| all.iter().filter(|ran| wanted(ran)).count();
    output::remark(format_args!(
        "\n{} passed, {} failed, {} skipped; {} cases, {} faults, {} repeats\n",
        count(|ran| ran.judged.passed),
        count(is_failure),
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
