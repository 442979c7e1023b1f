//! The verb `replay`: one schedule again, with a trace.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::campaign::bench::{Bench, Done, Shared};
use crate::campaign::live;
use crate::campaign::replay::Replay;
use crate::exit_code::ExitCode;
use crate::host::open_kvm;
use crate::vm::assemble::AssembleError;

use super::run::MechanismName;
use super::{Failure, campaign, output, report, run as run_verb};

const EXAMPLES: &str = "Examples:
  refault replay campaign-escapes/replay-1.toml
  grep SHORT campaign/runs.jsonl | head -1 > run.json && refault replay run.json --times 10

The file is what a campaign writes for a failure it has shrunk, or a line of runs.jsonl.

Exit codes: 0 it came to what the file expects (without an expectation: no oracle was violated), 176 an oracle was violated that the
file does not expect, 178 it did not come to what the file expects; others as of `refault run`.";

/// Run one schedule again, with a trace
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The schedule
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Run it so often, and say how often it came to the same
    #[arg(long, value_name = "K", default_value = "1")]
    times: NonZeroU32,
    /// What a run may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = run_verb::duration)]
    timeout: Duration,
    /// How pages are taken away
    #[arg(long, value_enum, value_name = "WAY", default_value = "best")]
    mechanism: MechanismName,
    /// Do not show each site
    #[arg(long)]
    quiet: bool,
    /// Write the last run's record as JSON (refault.run-record/1); `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Replays and says the exit code.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let name = args.file.display();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|why| Failure::new(ExitCode::Usage, anyhow::anyhow!("{name} cannot be read: {why}")))?;
    let wrong = |why| Failure::new(ExitCode::Usage, anyhow::anyhow!("{name}: {why}"));
    let replay = Replay::read(&text).map_err(wrong)?;
    let mut experiment = replay.experiment().map_err(wrong)?;
    run_verb::guest_words("words", &experiment.words)?;
    experiment.log_sites = true;
    open_kvm().map_err(|why| run_verb::failure(AssembleError::Host(why)))?;
    let host = |why| Failure::new(ExitCode::Host, why);
    let labs = live::Host::new(args.mechanism.wanted()).map_err(host)?;
    let shared = Shared::new(&labs, args.timeout, &[], campaign::place());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let (met, last) = runtime.map_err(host)?.block_on(async {
        let mut bench = Bench::new(&shared);
        let mut met = 0_u32;
        let mut last = None;
        for _ in 0..args.times.get() {
            let done = bench.run(&experiment).await.map_err(host)?;
            met += u32::from(match &replay.expect {
                Some(expected) => expected.is_met(&done.judged),
                None => done.judged.violated.is_none(),
            });
            last = Some(done);
        }
        Ok::<_, Failure>((met, last))
    })?;
    let Some(last) = last else { return Ok(0) };
    trace(&last, args.quiet)?;
    output::result(format_args!("{met} of {} runs came to what was expected\n", args.times))?;
    if let Some(file) = &args.json {
        report::write_json(file, &json!(last.record))?;
    }
    Ok(match (met == args.times.get(), &replay.expect, last.judged.violated) {
        (true, ..) => 0,
        (false, Some(expected), Some(_)) if expected.violated.is_none() => ExitCode::Campaign as u8,
        (false, Some(_), _) => ExitCode::Replay as u8,
        (false, None, _) => ExitCode::Campaign as u8,
    })
}

/// Says site by site, fault by fault and case by case what happened.
fn trace(done: &Done, quiet: bool) -> Result<(), Failure> {
    let record = &done.record;
    output::result(format_args!(
        "{} (argument {:#x}), words: {}\n",
        record.workload, record.argument, record.words
    ))?;
    for rule in &record.rules {
        output::result(format_args!("    --inject '{rule}'\n"))?;
    }
    for site in done.sites.iter().filter(|_| !quiet) {
        let faults = done.ran.faults.iter().filter(|fault| {
            (fault.request, fault.attempt, fault.copy, fault.page, fault.side)
                == (site.request, site.attempt, site.copy, site.page, Some(site.side))
        });
        let faults: Vec<String> = faults
            .map(|fault| {
                format!("  <- fault {} at gva {:#x}, rip {:#x}", fault.sequence, fault.gva, fault.rip)
            })
            .collect();
        output::result(format_args!("  {site}{}\n", faults.concat()))?;
    }
    for case in done.told.cases() {
        let verdict = case.judged().map_or("?", crate::suite::verdict::Verdict::word);
        output::result(format_args!("  {verdict:<8} {} {}\n", case.name, case.detail))?;
    }
    let sums = &record.faults;
    output::result(format_args!(
        "{} pages taken away, {} touched, {} reflected, {} marks, {} repeats, at most {} attempts\n",
        sums.armed, sums.trapped, sums.reflected, record.marks, record.repeats, record.attempts
    ))?;
    output::result(format_args!("{} {}\n", record.verdict, record.violated.as_deref().unwrap_or("")))?;
    for why in &record.why {
        output::result(format_args!("    {why}\n"))?;
    }
    Ok(())
}
