//! The verb `bench`: figures, as tables and as documents.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::bench::costs::{self, POLICIES, SAMPLES_MAX};
use crate::bench::document::Document;
use crate::bench::{self, table};
use crate::doctor::host::Host;
use crate::exit_code::ExitCode;

use super::{Failure, output, report};

/// Measure the guest; without names, everything
#[derive(Debug, clap::Args)]
#[command(after_help = "Benchmarks:
  costs   ring-0 instructions, kernel entries, messages and copies of operations, clean and with a fault,
          under each policy; counted, so the same on every host

Example:
  refault bench costs --json costs.json

Exit codes: 0 measured, 130 interrupted, 160 no such benchmark, 166 a guest did not do all of it; others as of `refault run`.")]
pub struct Args {
    /// Which benchmarks
    names: Vec<String>,
    /// Write the figures as JSON (refault.bench/1); `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Samples of each operation
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(SAMPLES_MAX)))]
    samples: u32,
}

/// Measures, prints and writes.
pub fn run(args: &Args) -> Result<u8, Failure> {
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
            all = costs::measure(&POLICIES, args.samples) => {
                all.map(Some).map_err(|why| Failure::new(ExitCode::Host, why))
            }
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
            _ = hang_up.recv() => Ok(None),
            _ = quit.recv() => Ok(None),
        }
    })?;
    let Some(all) = measured else { return Ok(ExitCode::Interrupted as u8) };
    let ratios = costs::ratios(&all);
    let text = table::text(&all, &ratios);
    match args.json.as_deref() {
        // The document has standard output for itself.
        Some(file) if file.as_os_str() == "-" => output::remark(format_args!("{text}")),
        _ => output::result(format_args!("{text}"))?,
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, table::markdown(&all, &ratios, Host::here())).map_err(|why| {
            let why = anyhow::anyhow!("the tables {} could not be written: {why}", file.display());
            Failure::new(ExitCode::Output, why)
        })?;
    }
    if let Some(file) = &args.json {
        report::write_json(file, &Document::new(costs::figures(&all)))?;
    }
    Ok(0)
}
