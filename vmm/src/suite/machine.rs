//! A test's machine on this host's KVM.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Test;
use super::judge::{Ended, Monitor, Played};
use crate::cli::report;
use crate::cli::run::failure;
use crate::guest_image;
use crate::inject::parse_rule;
use crate::vm::assemble::AssembleError;
use crate::vm::config::{Console, Disk};
use crate::vm::console::Capture;
use crate::vm::{Config, End, Vm};

/// The rule by which a guest may have pages of its own taken away, and nothing else happens.
const ALLOW: &str = "guest: allow";

/// Runs `test` with these disks. `words` are added to those of the test.
pub async fn play(test: &Test, disks: &[PathBuf], words: &str) -> Played {
    let console = Capture::default();
    let vm = match start(test, disks, words, &console, true) {
        // Where pages cannot be taken away, tests that can do without still run.
        Err(AssembleError::Mechanism(why)) if test.needs_monitor => {
            return unplayed(Ended::Skipped(format!("pages cannot be taken away on this host: {why}")));
        }
        Err(AssembleError::Mechanism(_)) => start(test, disks, words, &console, false),
        started => started,
    };
    let vm = match vm {
        Ok(vm) => vm,
        Err(why) => return unplayed(Ended::Failed(failure(why).error.to_string())),
    };
    let outcome = vm.run().await;
    let (_, _, text) = report::describe(&outcome.end);
    let mut graph = Vec::new();
    let ended = match outcome.end {
        End::Exited(status) => Ended::Exited(status),
        End::Wedged(edges) => {
            graph = edges;
            Ended::Wedged
        }
        End::TimedOut(_) => Ended::TimedOut(text),
        End::Panicked(_) | End::Crashed(_) => Ended::Crashed(text),
        End::Failed(_) => Ended::Failed(text),
    };
    let monitor = outcome.stats.faults.map(|faults| Monitor {
        conserved: faults.conserved(),
        reflected: faults.reflected + faults.poisoned,
    });
    Played { ended, console: console.text(), graph, monitor }
}

fn unplayed(ended: Ended) -> Played {
    Played { ended, console: String::new(), graph: Vec::new(), monitor: None }
}

fn start(
    test: &Test,
    disks: &[PathBuf],
    words: &str,
    console: &Capture,
    monitor: bool,
) -> Result<Vm, AssembleError> {
    let rules = Some(ALLOW).into_iter().chain(test.rules.iter().map(String::as_str)).filter(|_| monitor);
    // The table's own rules: a test of the table reads each of them.
    let rules = rules.filter_map(|rule| parse_rule(rule).ok()).collect();
    let input = match test.typed.is_empty() {
        true => None,
        false => Some(typed(&test.typed).map_err(AssembleError::io("console input"))?),
    };
    Vm::start(Config {
        image: Some(Arc::from(guest_image::BOOT_IMAGE)),
        command_line: format!("{} {words}", test.words),
        program: test.program.clone(),
        disks: disks.iter().map(Disk::new).collect(),
        rules,
        console: Console { output: Box::new(console.clone()), input },
        timeout: Some(Duration::from_secs(u64::from(test.limit))),
        ..Config::new(guest_image::KERNEL)
    })
}

/// A descriptor from which `text` can be read, and then its end.
fn typed(text: &str) -> std::io::Result<std::os::fd::OwnedFd> {
    use std::io::Write as _;
    let (from, mut to) = std::io::pipe()?;
    // A pipe holds more than any test types, so this cannot wait: the table's own tests see to it.
    to.write_all(text.as_bytes())?;
    Ok(from.into())
}
