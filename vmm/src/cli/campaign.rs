//! The verb `campaign`: many runs with faults, each judged.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use crate::campaign::bench::{Bench, Shared};
use crate::campaign::coverage::{self, Coverage};
use crate::campaign::engine::{self, Failures, Request};
use crate::campaign::experiment::{Experiment, Level, Shard};
use crate::campaign::journal::{self, Header, Journal};
use crate::campaign::judge::Place;
use crate::campaign::live;
use crate::campaign::plan::{Plan, PlanError, Words};
use crate::campaign::presets;
use crate::campaign::progress::Progress;
use crate::campaign::replay::Replay;
use crate::campaign::shrink::shrink;
use crate::campaign::summary::{self, Summary};
use crate::doctor::host::Host;
use crate::exit_code::ExitCode;
use crate::guest_image;
use crate::host::open_kvm;
use crate::suite::console::fnv1a;
use crate::suite::disk;
use crate::vm::assemble::AssembleError;

use super::run::MechanismName;
use super::{Failure, output, report, run as run_verb};

const EXAMPLES: &str = "Examples:
  refault campaign --preset level1                        each fault site of all eight requests, in each kind
  refault campaign --preset escapes                       the policy before the cure: what gets out, shrunk
  refault campaign --preset random --seed 7 --runs 500 --jobs 4
  refault campaign plan.toml --shard 2/8 --out part2      the second of eight parts; see docs/campaigns.md
  refault replay campaign/replay-1.toml                   one failure again, with a trace

The directory (--out) gets campaign.json, runs.jsonl with a line for each run as it ends, sites.jsonl, summary.json
(refault.campaign/1) and replay-N.toml for each failure that was shrunk. Called again with the same plan, it goes on where it was.

Exit codes: 0 all is well, 130 interrupted (what was made is kept), 160 usage or plan, 176 an oracle was violated,
177 coverage below the plan's floor; others as of `refault run`.";

/// Make many runs with faults, and judge each
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan (docs/campaigns.md)
    #[arg(value_name = "PLAN.toml", required_unless_present = "preset")]
    plan: Option<PathBuf>,
    /// A plan that is built in: floor, level1, level2, random, million, poison, contrast, escapes
    #[arg(long, value_name = "NAME", conflicts_with = "plan")]
    preset: Option<String>,
    /// Instead of the plan's levels
    #[arg(long, value_name = "1|2|random")]
    level: Option<Level>,
    /// Machines at once [default: the plan's, or as many as processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Instead of the plan's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Instead of the plan's number of runs at level random
    #[arg(long, value_name = "R")]
    runs: Option<u64>,
    /// Only this part of the campaign
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    shard: Shard,
    /// Where everything is written down [default: campaign-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Words for the kernel, added to the plan's
    #[arg(long, value_name = "STR", default_value = "")]
    words: String,
    /// How pages are taken away
    #[arg(long, value_enum, value_name = "WAY", default_value = "best")]
    mechanism: MechanismName,
    /// Write the summary (refault.campaign/1) there too; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn usage(why: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::Usage, why)
}

fn host(why: std::io::Error) -> Failure {
    Failure::new(ExitCode::Host, why)
}

/// The plan as the command line changes it.
fn plan(args: &Args) -> Result<Plan, Failure> {
    let (name, read) = match (&args.plan, &args.preset) {
        (Some(path), _) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|why| usage(anyhow::anyhow!("the plan {name} cannot be read: {why}")))?;
            (name.clone(), Plan::read(&name, &text))
        }
        (None, Some(preset)) => {
            let found = presets::find(preset).ok_or_else(|| {
                usage(anyhow::anyhow!("there is no preset {preset:?}; there are {}", presets::names()))
            })?;
            (preset.clone(), found)
        }
        (None, None) => return Err(usage(anyhow::anyhow!("give a plan or a preset"))),
    };
    let mut plan = read.map_err(usage)?;
    if let Some(level) = args.level {
        plan.levels = vec![level];
    }
    plan.seed = args.seed.unwrap_or(plan.seed);
    plan.runs = args.runs.unwrap_or(plan.runs);
    run_verb::guest_words("--words", &args.words)?;
    plan.words = Words(format!("{} {}", plan.words.0, args.words).trim().to_owned());
    plan.checked(&name).map_err(|why: PlanError| usage(why))
}

/// The guest's build, in records.
pub fn build() -> String {
    format!("{:016x}", fnv1a(&[guest_image::KERNEL, guest_image::BOOT_IMAGE].concat()))
}

/// Where this is, in records.
pub fn place() -> Place {
    let host = Host::here();
    Place {
        build: build(),
        host: format!("{}, {}, {}", host.cpu, host.kvm_module, host.kernel),
        mechanism: String::new(),
    }
}

/// Makes the campaign and says the exit code.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let started = Instant::now();
    let plan = plan(args)?;
    open_kvm().map_err(|why| run_verb::failure(AssembleError::Host(why)))?;
    if !disk::has_fsck() {
        output::remark(format_args!(
            "refault: fsck.minix is not installed (package util-linux), so disks are only walked, which finds less\n"
        ));
    }
    let jobs = args.jobs.map(NonZeroUsize::get).or((plan.jobs > 0).then_some(plan.jobs));
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok().map(NonZeroUsize::get)).unwrap_or(1);
    let header = Header {
        schema: journal::SCHEMA.into(),
        // How many machines there are changes no run.
        plan: plan.text(),
        build: build(),
        shard: args.shard.to_string(),
    };
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("campaign-{}", plan.name)));
    let journal = Journal::open(&out, &header).map_err(|why| Failure::new(ExitCode::Output, why))?;
    if !journal.before.is_empty() {
        output::remark(format_args!(
            "refault: {} has {} runs already; going on from there\n",
            out.display(),
            journal.before.len()
        ));
    }
    let labs = live::Host::new(args.mechanism.wanted()).map_err(host)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(host)?;
    let request = Request { plan: &plan, shard: args.shard, jobs };
    let made = runtime.block_on(conduct(&request, &labs, journal))?;
    let loaded = coverage::load(&[&out]).map_err(|why| Failure::new(ExitCode::Output, why))?;
    let kinds: Vec<String> = match plan.levels.contains(&Level::One) {
        true => plan.kinds().map(|kind| kind.word().into()).collect(),
        false => Vec::new(),
    };
    let coverage = Coverage::of(&loaded.records, &loaded.listings, &kinds, &plan.all_words());
    let summary = Summary {
        plan: plan.name.clone(),
        shard: args.shard.to_string(),
        interrupted: made.interrupted,
        // A part of a campaign need not reach what all of it has to.
        below_floor: if args.shard.of == 1 { coverage.below(&plan.floor) } else { Vec::new() },
        failures: made.failures,
        wall_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..Summary::of(&loaded, coverage)
    };
    report::write_json(&out.join("summary.json"), &summary)?;
    if let Some(file) = &args.json {
        report::write_json(file, &summary)?;
    }
    tell(&summary, &out);
    Ok(match (summary.interrupted, summary.violations, summary.below_floor.is_empty()) {
        (true, ..) => ExitCode::Interrupted as u8,
        (false, 1.., _) => ExitCode::Campaign as u8,
        (false, 0, false) => ExitCode::Coverage as u8,
        (false, 0, true) => 0,
    })
}

struct Made {
    interrupted: bool,
    failures: Vec<summary::Failure>,
}

async fn conduct(request: &Request<'_>, labs: &live::Host, journal: Journal) -> Result<Made, Failure> {
    let listen = |kind| signal(kind).map_err(host);
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    let plan = request.plan;
    let shared = Shared::new(labs, plan.timeout, &plan.oracles.off, place());
    let progress = Progress::new();
    let journal = RefCell::new(journal);
    let (failed, looked_into) = (RefCell::new(Failures::new()), RefCell::new(Vec::new()));
    let complete = Cell::new(false);
    let campaign = async {
        engine::conduct(request, &shared, &journal, &progress, &failed).await?;
        complete.set(true);
        progress.finish();
        let worth = chosen(&failed.borrow(), plan.shrink.failures);
        let mut bench = Bench::new(&shared);
        let directory = journal.borrow().directory().to_owned();
        for experiment in worth {
            let number = looked_into.borrow().len().saturating_add(1);
            let Some(failure) = look_into(&mut bench, &experiment, plan, &directory, number).await? else {
                continue;
            };
            let mut all = looked_into.borrow_mut();
            match all.iter_mut().find(|known: &&mut summary::Failure| known.is_same(&failure)) {
                Some(known) => {
                    known.also.push(failure.id);
                    std::fs::remove_file(replay_file(&directory, number))?;
                }
                None => all.push(failure),
            }
        }
        Ok(())
    };
    // Whichever comes first drops the other: machines are stopped, and what was made has been written.
    let done = tokio::select! {
        done = campaign => done,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
        _ = quit.recv() => Ok(()),
    };
    progress.finish();
    done.map_err(host)?;
    Ok(Made { interrupted: !complete.get(), failures: looked_into.take() })
}

/// Failures that are worth looking into: of each workload and request one.
fn chosen(failed: &[Experiment], count: usize) -> Vec<Experiment> {
    let mut seen = std::collections::HashSet::new();
    let fresh = |experiment: &&Experiment| seen.insert((experiment.workload.name, experiment.operation()));
    failed.iter().filter(fresh).take(count).cloned().collect()
}

fn replay_file(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("replay-{number}.toml"))
}

/// Shrinks a failure and writes down how to repeat it. `None` if it did not fail again.
async fn look_into(
    bench: &mut Bench<'_, live::Host>,
    experiment: &Experiment,
    plan: &Plan,
    directory: &Path,
    number: usize,
) -> std::io::Result<Option<summary::Failure>> {
    let mut again = bench.run(experiment).await?;
    for _ in 1..plan.shrink.times.max(1) {
        if again.judged.violated.is_none() {
            again = bench.run(experiment).await?;
        }
    }
    let Some(violated) = again.judged.violated else {
        output::remark(format_args!(
            "{}: did not fail again; its line in runs.jsonl can be replayed\n",
            experiment.id
        ));
        return Ok(None);
    };
    output::remark(format_args!("{}: shrinking\n", experiment.id));
    let shrunk = shrink(bench, experiment, &again.judged, &plan.shrink).await?;
    let mut replay = Replay::of(&shrunk.experiment, Some(&shrunk.judged));
    replay.seen.insert("run".into(), experiment.id.clone());
    replay.seen.insert("rate".into(), format!("{} of {}", shrunk.failed, shrunk.replays));
    replay.seen.insert("build".into(), build());
    let path = replay_file(directory, number);
    std::fs::write(&path, toml::to_string(&replay).map_err(std::io::Error::other)?)?;
    Ok(Some(summary::Failure {
        id: experiment.id.clone(),
        also: Vec::new(),
        verdict: shrunk.judged.verdict.word().into(),
        violated: violated.name().into(),
        why: shrunk.judged.why.clone(),
        rule: shrunk.experiment.rules.clone(),
        workload: shrunk.experiment.workload.name.into(),
        argument: shrunk.experiment.argument.to_string(),
        without_faults: shrunk.without_faults,
        failed: shrunk.failed,
        replays: shrunk.replays,
        replay: format!("refault replay {}", path.display()),
    }))
}

fn tell(summary: &Summary, out: &Path) {
    let say = |text: String| output::remark(format_args!("{text}\n"));
    for failure in &summary.failures {
        say(format!(
            "\n{} {}: {}",
            failure.verdict,
            failure.violated,
            failure.why.first().map_or("", String::as_str)
        ));
        match failure.without_faults {
            true => say(format!("    {} fails without any fault", failure.workload)),
            false => {
                say(format!("    in {} (argument {}):", failure.workload, failure.argument));
                failure.rule.iter().for_each(|rule| say(format!("    --inject '{rule}'")));
            }
        }
        say(format!("    {}  (failed {} of {} times)", failure.replay, failure.failed, failure.replays));
    }
    let verdicts: Vec<String> =
        summary.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    say(format!(
        "\n{} runs ({}), {} violations; {} faults; {} of {} sites, {} of {} pairs visited",
        summary.runs,
        verdicts.join(", "),
        summary.violations,
        summary.faults,
        summary.sites_visited,
        summary.sites_known,
        summary.pairs_visited,
        summary.pairs_known
    ));
    if let Some(restores) = &summary.restore_us {
        say(format!(
            "machines put back in {} µs (p50), {} µs (p99), n = {}",
            restores.p50, restores.p99, restores.n
        ));
    }
    for below in &summary.below_floor {
        say(format!("below the floor: {below}"));
    }
    if summary.interrupted {
        say("interrupted; the same command goes on from here".into());
    }
    say(format!("{}", out.display()));
}
