//! Machines in the test's own process, for what the command line does not tell: figures between two events.

use std::sync::Arc;
use std::time::Duration;

use refault::guest_image::{BOOT_IMAGE, KERNEL};
use refault::inject::parse_rule;
use refault::vm::config::{Console, Disk};
use refault::vm::console::Capture;
use refault::vm::{Config, Outcome, Vm};

use super::disk::Image;

/// How long a machine may run before it counts as wedged.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs `program` on `image` with words for the command line and rules; the outcome, and what it printed.
pub fn run(image: &Image, words: &str, rules: &[&str], program: &[&str]) -> (Outcome, String) {
    let console = Capture::default();
    let config = Config {
        image: Some(Arc::from(BOOT_IMAGE)),
        command_line: words.to_owned(),
        program: program.iter().map(|word| (*word).to_owned()).collect(),
        disks: vec![Disk::new(image.path())],
        rules: rules.iter().map(|rule| parse_rule(rule).unwrap()).collect(),
        console: Console { output: Box::new(console.clone()), input: None },
        timeout: Some(LIMIT),
        ..Config::new(KERNEL)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let outcome = runtime.block_on(Vm::start(config).unwrap().run());
    (outcome, console.text())
}
