//! The verb `report`: what campaigns found, as one HTML file.

use std::path::PathBuf;

use crate::exit_code::ExitCode;
use crate::report::numbers::Document;
use crate::report::{page, read};

use super::{Failure, output, report};

/// Make one HTML file of what campaigns found: verdicts, failures, coverage, latencies, rates
///
/// Several directories are the shards of one campaign; a run that is in two of them counts once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  refault report out
  refault report shard-1 shard-2 shard-3 --out report.html --json report.json

Exit codes: 0 made (whatever the verdicts are), 169 could not be written, 179 the runs cannot be read.")]
pub struct Args {
    /// Directories of campaigns, each with its runs.jsonl
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// The file to write; without it, report.html in the first directory
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write the numbers as JSON (refault.report/1); `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Reads, makes and writes.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let runs = read::read(&args.directories).map_err(|why| Failure::new(ExitCode::Records, why))?;
    let document = Document::new(&args.directories, &runs);
    let beside = args.directories.first().map(|directory| directory.join("report.html"));
    let out = args.out.clone().or(beside).unwrap_or_else(|| "report.html".into());
    std::fs::write(&out, page::render(&document)).map_err(|why| {
        let why = anyhow::anyhow!("the report {} could not be written: {why}", out.display());
        Failure::new(ExitCode::Output, why)
    })?;
    let said = format!("{}: {} runs, {} violations\n", out.display(), document.runs, document.failures.len());
    match args.json.as_deref() {
        // The document has standard output for itself.
        Some(file) if file.as_os_str() == "-" => output::remark(format_args!("{said}")),
        _ => output::result(format_args!("{said}"))?,
    }
    if let Some(file) = &args.json {
        report::write_json(file, &document)?;
    }
    Ok(0)
}
