//! The engine: makes all runs of a plan, several at once, and takes them down as they end.
//!
//! First each workload runs twice without faults: that lists its sites, and shows that it repeats itself. Then workers, each with a
//! workbench of its own, take experiments from one queue; a first site of level 2 puts its pairs there. The one thing to hold in mind:
//! the engine decides nothing about verdicts; it makes what [`super::levels`] and [`super::random`] say and what has not been made yet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;

use super::baseline::Baseline;
use super::bench::{Bench, Shared};
use super::experiment::{Experiment, Level, Shard};
use super::journal::{Journal, Listing};
use super::kind::Kind;
use super::lab::Laboratories;
use super::levels::{Subject, in_the_repeat, pairs};
use super::plan::Plan;
use super::random;
use super::record::RunRecord;
use super::workload::{Argument, Workload};

/// What a campaign is to do here.
pub struct Request<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The part of it that is made here.
    pub shard: Shard,
    /// Machines at once.
    pub jobs: usize,
}

/// Hears of what goes on.
pub trait Observer {
    /// So many runs are known to be made, all in all.
    fn known(&self, runs: u64);
    /// A run has ended.
    fn ended(&self, record: &RunRecord);
}

/// What is left to do.
#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<Experiment>>,
    busy: Cell<usize>,
    known: Cell<u64>,
    changed: Notify,
    stopped: Cell<bool>,
}

impl Queue {
    fn put(&self, more: impl IntoIterator<Item = Experiment>, observer: &impl Observer) {
        let mut waiting = self.waiting.borrow_mut();
        let before = waiting.len();
        waiting.extend(more);
        let added = waiting.len().saturating_sub(before) as u64;
        self.known.set(self.known.get().saturating_add(added));
        observer.known(self.known.get());
        self.changed.notify_waiters();
    }

    /// The next one; `None` when nothing is left and nobody can bring more.
    async fn take(&self) -> Option<Experiment> {
        loop {
            let changed = self.changed.notified();
            if self.stopped.get() {
                return None;
            }
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                Some(next) => {
                    self.busy.set(self.busy.get().saturating_add(1));
                    return Some(next);
                }
                None if self.busy.get() == 0 => return None,
                None => changed.await,
            }
        }
    }

    fn done(&self) {
        self.busy.set(self.busy.get().saturating_sub(1));
        self.changed.notify_waiters();
    }

    fn stop(&self) {
        self.stopped.set(true);
        self.changed.notify_waiters();
    }
}

/// An experiment that violated an oracle, for shrinking.
pub type Failures = Vec<Experiment>;

/// Makes all runs of `request` that `journal` does not have yet. `failures` gets those that violated an oracle.
///
/// # Errors
/// A run could not be made, or not be written down; or a workload does not repeat itself and so has no sites to aim at.
pub async fn conduct<L: Laboratories>(
    request: &Request<'_>,
    shared: &Shared<'_, L>,
    journal: &RefCell<Journal>,
    observer: &impl Observer,
    failures: &RefCell<Failures>,
) -> io::Result<()> {
    let queue = Queue::default();
    let mut first = Bench::new(shared);
    let plan = request.plan;
    for words in plan.all_words() {
        for workload in plan.workloads() {
            let exhaustive: Vec<Level> =
                plan.levels.iter().copied().filter(|level| *level != Level::Random).collect();
            if exhaustive.is_empty() {
                continue;
            }
            let subject = survey(&mut first, plan, workload, &words, journal, observer, failures).await?;
            let (argument, baseline) = &subject;
            let subject = Subject { workload, argument: *argument, words: &words, baseline };
            for level in exhaustive {
                let list = match level {
                    Level::One => subject.level_1(plan),
                    _ => subject.level_2_first(plan),
                };
                let here = list.into_iter().filter(|experiment| experiment.is_in(request.shard));
                // A first site's repeat has to be known even if its own run has been made before.
                let journal = journal.borrow();
                let left = here.filter(|experiment| experiment.log_sites || !journal.has(&experiment.id));
                queue.put(left.collect::<Vec<_>>(), observer);
            }
        }
        if plan.levels.contains(&Level::Random) {
            let drawn = (0..plan.runs).filter_map(|number| random::draw(plan, &words, number));
            let journal = journal.borrow();
            let left =
                drawn.filter(|experiment| experiment.is_in(request.shard) && !journal.has(&experiment.id));
            queue.put(left.collect::<Vec<_>>(), observer);
        }
    }
    let work = Work { plan, queue: &queue, journal, observer, failures };
    let benches = std::iter::once(first).chain((1..request.jobs).map(|_| Bench::new(shared)));
    all(benches.map(|bench| work.work(bench))).await
}

/// Waits for all of them, on this one thread; the first error is what comes of it, when all have ended.
async fn all<F: Future<Output = io::Result<()>>>(futures: impl Iterator<Item = F>) -> io::Result<()> {
    let mut running: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    let mut result = Ok(());
    std::future::poll_fn(move |context| {
        let mut left = false;
        for slot in &mut running {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(context) {
                std::task::Poll::Pending => left = true,
                std::task::Poll::Ready(done) => {
                    *slot = None;
                    if result.is_ok() {
                        result = done;
                    }
                }
            }
        }
        match left {
            true => std::task::Poll::Pending,
            false => std::task::Poll::Ready(std::mem::replace(&mut result, Ok(()))),
        }
    })
    .await
}

struct Work<'a, O> {
    plan: &'a Plan,
    queue: &'a Queue,
    journal: &'a RefCell<Journal>,
    observer: &'a O,
    failures: &'a RefCell<Failures>,
}

impl<O: Observer> Work<'_, O> {
    async fn work<L: Laboratories>(&self, mut bench: Bench<'_, L>) -> io::Result<()> {
        while let Some(experiment) = self.queue.take().await {
            let made = self.one(&mut bench, &experiment).await;
            self.queue.done();
            if made.is_err() {
                // Others need not go on with what will not be whole.
                self.queue.stop();
                return made;
            }
        }
        Ok(())
    }

    async fn one<L: Laboratories>(
        &self,
        bench: &mut Bench<'_, L>,
        experiment: &Experiment,
    ) -> io::Result<()> {
        let done = bench.run(experiment).await?;
        let is_new = !self.journal.borrow().has(&experiment.id);
        if done.judged.violated.is_some() {
            self.failures.borrow_mut().push(experiment.clone());
        }
        if let ([site], Level::Two, true) =
            (experiment.aimed.as_slice(), experiment.level, experiment.log_sites)
        {
            let second = in_the_repeat(site, &done.sites, self.plan);
            self.journal.borrow_mut().list(Listing {
                words: experiment.words.clone(),
                workload: experiment.workload.name.into(),
                argument: experiment.argument.pack(),
                first: Some(site.to_string()),
                sites: second.iter().map(ToString::to_string).collect(),
            })?;
            let journal = self.journal.borrow();
            let left = pairs(experiment, &second).into_iter().filter(|pair| !journal.has(&pair.id));
            self.queue.put(left.collect::<Vec<_>>(), self.observer);
        }
        if is_new {
            self.journal.borrow_mut().append(&done.record)?;
        }
        self.observer.ended(&done.record);
        Ok(())
    }
}

/// Runs a workload without faults, twice.
async fn survey<L: Laboratories>(
    bench: &mut Bench<'_, L>,
    plan: &Plan,
    workload: &'static Workload,
    words: &str,
    journal: &RefCell<Journal>,
    observer: &impl Observer,
    failures: &RefCell<Failures>,
) -> io::Result<(Argument, Rc<Baseline>)> {
    let argument = Argument::of(workload, if workload.is_seeded { plan.seed as u32 } else { 0 });
    let plain = Experiment::fault_free(Level::One, workload, argument, words);
    let (one, _) = bench.fault_free(&plain).await?;
    let (other, done) = bench.fault_free(&plain).await?;
    if let Some(why) = one.unlike(&other) {
        return Err(io::Error::other(format!("{}: {why}; only level random can take it", workload.name)));
    }
    if done.judged.violated.is_some() {
        failures.borrow_mut().push(plain.clone());
    }
    let sites = one.sites.iter().filter(|site| site.is_nameable()).map(ToString::to_string).collect();
    let mut journal = journal.borrow_mut();
    journal.list(Listing {
        words: words.to_owned(),
        workload: workload.name.into(),
        argument: argument.pack(),
        first: None,
        sites,
    })?;
    if !journal.has(&plain.id) {
        journal.append(&done.record)?;
        observer.ended(&done.record);
    }
    Ok((argument, one))
}

/// Whether an experiment is a run without faults, which fails for other reasons than faults.
pub fn is_fault_free(experiment: &Experiment) -> bool {
    experiment.kind == Kind::None
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
