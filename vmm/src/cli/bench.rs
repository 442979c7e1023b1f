//! The verb `bench`: figures, as tables and as documents.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use crate::bench::costs::{self, POLICIES, SAMPLES_MAX};
use crate::bench::document::{Document, Figure};
use crate::bench::inject::{self, Amount};
use crate::bench::{self, compare, table};
use crate::doctor::host::Host;
use crate::exit_code::ExitCode;

use super::{Failure, output, report};

/// Measure the guest and the injector; without names, everything
#[derive(Debug, clap::Args)]
#[command(after_help = "Benchmarks:
  costs         ring-0 instructions, kernel entries, messages and copies of operations, clean and with a fault,
                under each policy; counted, so the same on every host
  inject        each mechanism's arm, trap, disarm, retry and reflected fault; runs and faults per second; putting a machine
                back; rules that match nothing beside no rules. Times, so of this host only
  compare A B   two documents of one host: which figures changed; unlike hosts are refused. Counts changed if their medians differ;
                times, if the medians differ by more than 3 % and each lies outside the other's range from the least to
                the 90th percentile, with ten samples or more of each

Examples:
  refault bench costs --json costs.json
  refault bench inject --json before.json --markdown inject.md
  refault bench compare before.json after.json

Exit codes: 0 measured or compared, 130 interrupted, 160 no such benchmark or documents that cannot be compared, 166 a guest did
not do all of it; others as of `refault run`.")]
pub struct Args {
    /// Which benchmarks
    names: Vec<String>,
    /// Write the figures as JSON (refault.bench/1); `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Samples of each operation (costs)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(SAMPLES_MAX)))]
    samples: u32,
    /// Rounds of runs, in each of which every variant has its turn (inject)
    #[arg(long, value_name = "N", default_value_t = Amount::DEFAULT.rounds as u32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
}

/// What benchmarks gave.
#[derive(Default)]
struct Given {
    text: String,
    markdown: Vec<String>,
    figures: Vec<Figure>,
}

/// Measures, prints and writes.
pub fn run(args: &Args) -> Result<u8, Failure> {
    if let [first, rest @ ..] = args.names.as_slice()
        && first == "compare"
    {
        return compare_files(rest);
    }
    if let Some(name) = args.names.iter().find(|name| !bench::ALL.iter().any(|(known, _)| known == name)) {
        let known: Vec<&str> = bench::ALL.iter().map(|(name, _)| *name).collect();
        let why = anyhow::anyhow!("there is no benchmark {name:?}; there is: {}", known.join(", "));
        return Err(Failure::new(ExitCode::Usage, why));
    }
    crate::host::open_kvm().map_err(|why| super::run::failure(why.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|why| Failure::new(ExitCode::Host, why))?;
    let measured = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|why| Failure::new(ExitCode::Host, why));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let mut quit = listen(SignalKind::quit())?;
        // Whichever comes first drops the other: machines are stopped and temporary files removed.
        tokio::select! {
            given = measure(args) => given.map(Some).map_err(|why| Failure::new(ExitCode::Host, why)),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
            _ = hang_up.recv() => Ok(None),
            _ = quit.recv() => Ok(None),
        }
    })?;
    let Some(given) = measured else { return Ok(ExitCode::Interrupted as u8) };
    match args.json.as_deref() {
        // The document has standard output for itself.
        Some(file) if file.as_os_str() == "-" => output::remark(format_args!("{}", given.text)),
        _ => output::result(format_args!("{}", given.text))?,
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, given.markdown.join("\n")).map_err(|why| {
            let why = anyhow::anyhow!("the tables {} could not be written: {why}", file.display());
            Failure::new(ExitCode::Output, why)
        })?;
    }
    if let Some(file) = &args.json {
        report::write_json(file, &Document::new(given.figures))?;
    }
    Ok(0)
}

async fn measure(args: &Args) -> anyhow::Result<Given> {
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    let mut given = Given::default();
    if wanted("costs") {
        let all = costs::measure(&POLICIES, args.samples).await?;
        let ratios = costs::ratios(&all);
        given.text.push_str(&table::text(&all, &ratios));
        given.markdown.push(table::markdown(&all, &ratios, Host::here()));
        given.figures.extend(costs::figures(&all));
    }
    if wanted("inject") {
        let amount = Amount { rounds: args.rounds as usize, ..Amount::DEFAULT };
        let measured = inject::measure(amount).await?;
        given.text.push_str(&inject::table::text(&measured.figures));
        for remark in &measured.remarks {
            output::remark(format_args!("not measured: {remark}\n"));
        }
        given.markdown.push(inject::table::markdown(&measured.figures, &measured.remarks, Host::here()));
        given.figures.extend(measured.figures);
    }
    Ok(given)
}

fn compare_files(files: &[String]) -> Result<u8, Failure> {
    let [a, b] = files else {
        let why = anyhow::anyhow!(
            "`bench compare` takes two documents, as in: refault bench compare before.json after.json"
        );
        return Err(Failure::new(ExitCode::Usage, why));
    };
    let read = |file: &String| {
        let bytes = std::fs::read(Path::new(file)).map_err(|why| {
            Failure::new(ExitCode::Usage, anyhow::anyhow!("{file} could not be read: {why}"))
        })?;
        compare::parse(file, &bytes).map_err(|why| Failure::new(ExitCode::Usage, why))
    };
    let rows = compare::compare(&read(a)?, &read(b)?).map_err(|why| Failure::new(ExitCode::Usage, why))?;
    output::result(format_args!("{}", compare::text(&rows)))?;
    Ok(0)
}
