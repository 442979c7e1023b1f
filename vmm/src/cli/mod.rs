//! The command line: verbs, their arguments, and what becomes an exit code.
//!
//! What this is not: logic. Each verb turns its arguments into the input of a library function and prints the result.

pub mod bench;
pub mod campaign;
pub mod campaign_report;
pub mod config_file;
pub mod coverage;
pub mod disk;
pub mod export;
pub mod mkfs;
pub mod mutation;
pub mod output;
pub mod replay;
pub mod report;
pub mod run;
pub mod size;
pub mod terminal;
pub mod test;

use clap::{Parser, Subcommand};

use crate::doctor;
use crate::exit_code::ExitCode;

/// A virtual machine monitor that takes guest pages away at the second stage of address translation.
///
/// Without a verb: `refault run`, and without arguments that is the demo.
#[derive(Debug, Parser)]
#[command(name = "refault", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

const EXAMPLES: &str = "Examples:
  refault                                   the demo: the same read under three policies, as a table
  refault run --disk disk.img -- cat /hello.txt
  refault test                              the guest tests, in parallel machines
  refault campaign --preset level1          every fault site of eight requests, in each kind
  refault doctor                            what this host can do";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a guest; without arguments, the demo
    Run(Box<run::Args>),
    /// Run the guest tests, in parallel machines
    Test(test::Args),
    /// Measure the guest
    Bench(bench::Args),
    /// Make many runs with faults, and judge each
    Campaign(Box<campaign::Args>),
    /// Run one schedule again, with a trace
    Replay(replay::Args),
    /// Say what campaigns have visited of what is known
    Coverage(coverage::Args),
    /// Make one HTML file of what campaigns found
    Report(campaign_report::Args),
    /// Make a MINIX v3 disk image
    Mkfs(mkfs::Args),
    /// Write the built-in guest into a directory, for other monitors
    Export(export::Args),
    /// Find out what this host can do
    Doctor(doctor::command::Args),
}

/// An error with the exit code that goes with it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: ExitCode,
    /// What to tell the user.
    pub error: anyhow::Error,
}

impl Failure {
    /// Puts a code on an error.
    pub fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }
}

/// Runs the command with the process's arguments and says its exit code.
pub fn main() -> u8 {
    let started = std::time::Instant::now();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("REFAULT_LOG").unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        // Errors of writing would be printed by a macro that panics, in whichever thread had something to say.
        .log_internal_errors(false)
        .init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(why) => {
            // Help and version go to standard output and are no failure.
            let _ = why.print();
            return if why.use_stderr() { ExitCode::Usage as u8 } else { 0 };
        }
    };
    let done = match cli.verb.unwrap_or_else(|| Verb::Run(Box::default())) {
        Verb::Run(args) => run::run(*args, started),
        Verb::Test(args) => test::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Campaign(args) => campaign::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Coverage(args) => coverage::run(&args),
        Verb::Report(args) => campaign_report::run(&args),
        Verb::Mkfs(args) => mkfs::run(&args),
        Verb::Export(args) => export::run(&args),
        Verb::Doctor(args) => doctor::command::run(&args)
            .map(|verdict| verdict.exit_code())
            .map_err(|e| Failure::new(ExitCode::Output, e)),
    };
    done.unwrap_or_else(|failure| {
        output::remark(format_args!("refault: {}\n", chain(&failure.error)));
        failure.code as u8
    })
}

/// The error and its causes on one line each, none twice.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str("\n  because: ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests;
