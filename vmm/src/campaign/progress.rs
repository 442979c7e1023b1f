//! What people see while a campaign runs: a bar with its rate and the time left on a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::coverage::faults_of;
use super::engine::Observer;
use super::record::RunRecord;

/// The bar's looks; a template that the library cannot read would leave it with its own.
const TEMPLATE: &str = "{bar:30} {pos}/{len} {per_sec} {eta} left {wide_msg}";

/// How often there is a line where there is no bar.
const EACH: Duration = Duration::from_secs(10);

/// See the [module documentation](self).
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    told: Cell<Instant>,
    known: Cell<u64>,
    ended: Cell<u64>,
    violations: Cell<u64>,
    faults: Cell<u64>,
}

impl Progress {
    /// Of a campaign that begins now.
    pub fn new() -> Self {
        let plain = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
        let bar = (!plain && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            started: now,
            told: Cell::new(now),
            known: Cell::default(),
            ended: Cell::default(),
            violations: Cell::default(),
            faults: Cell::default(),
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => {
                // Nobody is left to be told that nobody listens.
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
        }
    }

    /// It has ended.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Progress {
    fn known(&self, runs: u64) {
        self.known.set(runs);
        if let Some(bar) = &self.bar {
            bar.set_length(runs);
        }
    }

    fn ended(&self, record: &RunRecord) {
        let ended = self.ended.get().saturating_add(1);
        self.ended.set(ended);
        self.faults.set(self.faults.get().saturating_add(faults_of(record)));
        if let Some(oracle) = &record.violated {
            self.violations.set(self.violations.get().saturating_add(1));
            // The first ones say what there is; after that the count does.
            if self.violations.get() <= 20 {
                let why = record.why.first().map_or("", String::as_str);
                self.say(&format!("{} {oracle} {}: {why}", record.verdict, record.id));
            }
        }
        let (faults, violations) = (self.faults.get(), self.violations.get());
        match &self.bar {
            Some(bar) => {
                bar.set_position(ended);
                bar.set_message(format!("{faults} faults, {violations} violations"));
            }
            None if self.told.get().elapsed() >= EACH => {
                self.told.set(Instant::now());
                let seconds = self.started.elapsed().as_secs_f64();
                let rate = ended as f64 / seconds.max(0.001);
                let left = self.known.get().saturating_sub(ended) as f64 / rate.max(0.001);
                self.say(&format!(
                    "{ended} of {} runs, {rate:.1} a second, {left:.0} s left; {faults} faults, {violations} violations",
                    self.known.get()
                ));
            }
            None => {}
        }
    }
}
