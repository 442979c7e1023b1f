//! The verb `coverage`: what campaigns have visited of what is known.

use std::path::PathBuf;

use crate::campaign::coverage::{self, Coverage};
use crate::campaign::plan::Floor;
use crate::exit_code::ExitCode;

use super::{Failure, output, report};

const EXAMPLES: &str = "Examples:
  refault coverage campaign-level1
  refault coverage part-* --floor 1.0 --markdown docs/coverage.md

Exit codes: 0, 177 coverage is below the floor, 179 a directory could not be read, 169 the page not be written.";

/// Say what campaigns have visited of what is known
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Directories of campaigns, taken as one
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// Share of the known sites, and of the known pairs if there are any, that has to be visited; the matrix may have no empty cell
    #[arg(long, value_name = "F", value_parser = share)]
    floor: Option<f64>,
    /// Write a page of documentation
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write it as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share: it is from 0 to 1"))
}

/// Says it, and the exit code.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let output_failed = |why: anyhow::Error| Failure::new(ExitCode::Output, why);
    let loaded = coverage::load(&args.directories).map_err(|why| Failure::new(ExitCode::Records, why))?;
    let coverage = Coverage::of(&loaded.records, &loaded.listings, &[], &[]);
    output::result(format_args!(
        "{} runs, {} faults\nsites {} of {}\npairs {} of {}\n",
        loaded.records.len(),
        coverage.faults,
        coverage.sites_visited,
        coverage.sites_known,
        coverage.pairs_visited,
        coverage.pairs_known
    ))?;
    for site in &coverage.unvisited {
        output::result(format_args!("not visited: {site}\n"))?;
    }
    for cell in coverage.empty_cells() {
        output::result(format_args!("no fault in the cell {cell}\n"))?;
    }
    if let Some(file) = &args.markdown {
        let directories: Vec<_> = args.directories.iter().map(|path| path.display().to_string()).collect();
        let command = format!("refault coverage {} --markdown {}", directories.join(" "), file.display());
        let text = coverage::markdown(&coverage, &loaded.records, &command);
        std::fs::write(file, text)
            .map_err(|why| output_failed(anyhow::anyhow!("{} cannot be written: {why}", file.display())))?;
    }
    if let Some(file) = &args.json {
        report::write_json(file, &coverage)?;
    }
    let Some(floor) = args.floor else { return Ok(0) };
    let pairs = if coverage.pairs_known > 0 { floor } else { 0.0 };
    let below =
        coverage.below(&Floor { sites: floor, pairs, matrix: !coverage.matrix.is_empty(), faults: 0 });
    for line in &below {
        output::remark(format_args!("below the floor: {line}\n"));
    }
    Ok(if below.is_empty() { 0 } else { ExitCode::Coverage as u8 })
}
