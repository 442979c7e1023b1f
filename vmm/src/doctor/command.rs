//! The verb `refault doctor`: arguments in, report out.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::uses::Verdict;
use super::{Report, examine, render};

/// Finds out what this host can do, each item by doing it.
///
/// Prints a table, what will be used, and what to do about what is missing. Exit code 0: guests run and faults
/// can be injected; 3: guests run, but no faults can be injected; 4: no guest can run.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  refault doctor --json doctor.json")]
pub struct Args {
    /// Also write the report as JSON (schema refault.doctor/1); with `-`, to standard output instead of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Why the report could not be delivered.
#[derive(Debug, thiserror::Error)]
#[error("the report could not be written to {target}: {source}")]
pub struct WriteError {
    target: String,
    source: io::Error,
}

/// Examines the host and reports.
pub fn run(args: &Args) -> Result<Verdict, WriteError> {
    let report = examine();
    let failed = |target: &Path| {
        let target = target.display().to_string();
        move |source| WriteError { target, source }
    };
    let stdout = Path::new("standard output");
    match args.json.as_deref() {
        Some(file) if file == Path::new("-") => {
            write_json(&report, io::stdout().lock()).map_err(failed(stdout))?;
        }
        Some(file) => {
            print_table(&report).map_err(failed(stdout))?;
            File::create(file).and_then(|to| write_json(&report, to)).map_err(failed(file))?;
        }
        None => print_table(&report).map_err(failed(stdout))?,
    }
    Ok(report.verdict())
}

fn print_table(report: &Report) -> io::Result<()> {
    io::stdout().lock().write_all(render::text(report).as_bytes())
}

fn write_json(report: &Report, mut to: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut to, report)?;
    writeln!(to)?;
    to.flush()
}
