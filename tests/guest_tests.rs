//! The guest tests, as cargo's tests: one for each entry of the table, by its name.
//!
//! The same table, runner and judge as `refault test`. What a host cannot run (no usable /dev/kvm, no way to take pages away)
//! is ignored with its reason; a test that leaves itself out where nothing is missing has failed.

mod common;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use common::{Need, Suite};
use refault::suite::runner::{self, Masters, Request, Under};
use refault::suite::{Test, table};
use tokio::runtime::Runtime;

/// Images as tests find them, made once.
static MASTERS: OnceLock<Arc<Masters>> = OnceLock::new();

fn main() -> ExitCode {
    let mut suite = Suite::new("guest_tests");
    for test in table::all() {
        let needs: &[Need] = if test.needs_monitor { &[Need::Kvm, Need::Injection] } else { &[Need::Kvm] };
        suite.test(test.name.clone(), needs, move || check(test));
    }
    suite.run()
}

fn check(test: Test) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    });
    let masters = MASTERS.get_or_init(|| Arc::new(runner::masters(&table::all()).unwrap())).clone();
    let request = Request { jobs: 1, words: String::new(), under: Under::Kvm };
    let ran = runtime.block_on(runner::one(test, &request, masters));
    assert!(
        ran.judged.passed,
        "{}: {}\n{}\nwho waited for whom: {:?}\nits console's last lines:\n{}\nto repeat it alone: refault test {}",
        ran.test.name,
        ran.judged.verdict,
        ran.judged.why.join("\n"),
        ran.judged.graph,
        ran.last_lines().join("\n"),
        ran.test.name,
    );
}
