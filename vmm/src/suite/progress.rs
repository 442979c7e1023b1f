//! What people see while tests run: a bar on a terminal, a line for each test anywhere.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::runner::Ran;
use super::verdict::Verdict;

/// The bar's looks; a template that the library cannot read would leave it with its own.
const TEMPLATE: &str = "{bar:30} {pos}/{len} {wide_msg}";

/// Tells what ends. See the [module documentation](self).
pub struct Progress {
    bar: Option<ProgressBar>,
    failed: usize,
}

impl Progress {
    /// For `count` tests. There is a bar only if standard error is a terminal that can be written over.
    pub fn new(count: usize) -> Self {
        let plain = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
        let bar = (!plain && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(count as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.tick();
            bar
        });
        Self { bar, failed: 0 }
    }

    /// One more has ended.
    pub fn done(&mut self, ran: &Ran) {
        self.done_with(ran, "");
    }

    /// One more has ended; `more` is told at once, so that it is not lost if the run is.
    pub fn done_with(&mut self, ran: &Ran, more: &str) {
        self.failed += usize::from(is_failure(ran));
        let line = line(ran) + more;
        match &self.bar {
            Some(bar) => {
                bar.println(line);
                bar.inc(1);
                bar.set_message(match self.failed {
                    0 => String::new(),
                    failed => format!("{failed} failed"),
                });
            }
            None => {
                // Nobody is left to be told that nobody listens.
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
        }
    }

    /// All have ended.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether a test failed: neither passed nor left out.
pub fn is_failure(ran: &Ran) -> bool {
    !ran.judged.passed && ran.judged.verdict != Verdict::Skip
}

/// A test that has ended, in a line.
fn line(ran: &Ran) -> String {
    let judged = &ran.judged;
    let state = match (judged.passed, judged.verdict) {
        (true, _) => "ok  ",
        (false, Verdict::Skip) => "skip",
        (false, _) => "FAIL",
    };
    let mut line = format!("{state} {:<8} {:<44}", judged.verdict, ran.test.name);
    match judged.verdict {
        Verdict::Skip => line.push_str(judged.why.first().map_or("", String::as_str)),
        _ => line.push_str(&format!(
            "{:>3} cases {:>4} faults {:>4} repeats {:>6.1} s",
            judged.cases.len(),
            judged.faults,
            judged.repeats,
            ran.took.as_secs_f64()
        )),
    }
    line
}
