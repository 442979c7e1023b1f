//! What the integration tests share: a harness that says what it could not run, the command with a time limit, images.
//!
//! The tests bring their own `main` (`harness = false`) for one reason: what a test needs (a usable /dev/kvm, the host's
//! file system tools, root) is known only when it runs, and the ordinary harness would count a test that returned
//! early as passed and hide its message. Here such a test is *ignored*: the totals show it, and a list of names and
//! reasons goes to standard error, past any capturing.
//!
//! The one thing to hold in mind: no test waits for ever and none looks at a clock. Every run of the command has a limit
//! far beyond what a slow machine takes, and ends as a failure there.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod command;
pub mod disk;
pub mod machine;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use refault::inject::mechanism::{Wanted, choose};
use refault::memory::{GuestRam, MIN_RAM};

/// What a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Machines can be run.
    Kvm,
    /// Pages can be taken away.
    Injection,
    /// To become another user.
    Root,
    /// This program of the host.
    Tool(&'static str),
}

impl Need {
    /// Why this host does not have it.
    fn missing(self) -> Option<String> {
        match self {
            Need::Kvm => refault::host::open_kvm().err().map(|why| why.to_string()),
            Need::Injection => {
                let ram = GuestRam::new(MIN_RAM).map(Arc::new).map_err(|why| why.to_string());
                let way = ram.and_then(|ram| choose(&ram, Wanted::Best).map_err(|why| why.to_string()));
                way.err()
            }
            Need::Root => {
                // SAFETY: the call has no preconditions.
                (unsafe { libc::geteuid() } != 0).then(|| "only root can become another user".into())
            }
            Need::Tool(name) => tool(name).is_none().then(|| format!("{name} is not installed")),
        }
    }
}

/// The tests of one file.
pub struct Suite {
    name: &'static str,
    trials: Vec<Trial>,
    skipped: Vec<(String, String)>,
    known: BTreeMap<Need, Option<String>>,
}

impl Suite {
    /// No tests yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, trials: Vec::new(), skipped: Vec::new(), known: BTreeMap::new() }
    }

    /// A test that runs machines.
    pub fn kvm(&mut self, name: impl Into<String>, test: impl FnOnce() + Send + 'static) {
        self.test(name, &[Need::Kvm], test);
    }

    /// A test that runs on every host.
    pub fn host(&mut self, name: impl Into<String>, test: impl FnOnce() + Send + 'static) {
        self.test(name, &[], test);
    }

    /// A test with needs of its own.
    pub fn test(&mut self, name: impl Into<String>, needs: &[Need], test: impl FnOnce() + Send + 'static) {
        let name = name.into();
        let trial = Trial::test(name.clone(), move || {
            test();
            Ok(())
        });
        let missing =
            needs.iter().find_map(|need| self.known.entry(*need).or_insert_with(|| need.missing()).clone());
        self.trials.push(trial.with_ignored_flag(missing.is_some()));
        if let Some(why) = missing {
            self.skipped.push((name, why));
        }
    }

    /// Runs them as the command line says, and says what was left out.
    pub fn run(self) -> ExitCode {
        let arguments = Arguments::from_args();
        let listing = arguments.list;
        let summary = summary(self.name, &self.skipped);
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        if !listing && !self.skipped.is_empty() {
            // Straight to the descriptor; nothing to do if nobody listens.
            let _ = std::io::stderr().write_all(summary.as_bytes());
        }
        conclusion.exit_code()
    }
}

/// What was left out of a suite: how many tests, and which for which reason.
fn summary(suite: &str, skipped: &[(String, String)]) -> String {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, why) in skipped {
        reasons.entry(why).or_default().push(name);
    }
    let mut text = format!("*** SKIPPED {} tests of {suite}\n", skipped.len());
    for (why, names) in reasons {
        text.push_str(&format!("*** {} of them because {why}:\n***   {}\n", names.len(), names.join(", ")));
    }
    text
}

/// Where a program of the host is; some distributions keep the file system tools out of the ordinary search path.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").into(), Path::new("/sbin").into()])
        .map(|place| place.join(name))
        .find(|place| place.is_file())
}
