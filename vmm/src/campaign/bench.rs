//! A workbench: a laboratory, and everything around it that makes a judged run out of an experiment.
//!
//! The one thing to hold in mind: a guest can do what it likes; an error from here means that the host could not make the run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::inject::parse_rule;
use crate::snapshot::{Ran, Run};
use crate::vm::End;

use super::baseline::Baseline;
use super::experiment::{Experiment, Site};
use super::judge::{self, Judged, Place};
use super::lab::{Laboratories, Laboratory};
use super::oracle::{Evidence, Oracle, Told};
use super::record::RunRecord;
use super::tree::{Inspected, Inspector};
use super::workload::Argument;

/// Fault-free runs by the kernel's words and the program's argument.
type Baselines = HashMap<(String, Argument), Rc<Baseline>>;

/// Fault-free runs that are kept.
const KEPT: usize = 1024;

/// What all workbenches of a campaign share.
pub struct Shared<'a, L> {
    /// Where laboratories come from.
    pub labs: &'a L,
    /// What a run may take.
    pub timeout: Duration,
    /// Oracles that are not asked.
    pub off: &'a [Oracle],
    /// As records say it; the mechanism is the laboratory's.
    pub place: Place,
    baselines: RefCell<Baselines>,
    inspector: Arc<Inspector>,
}

/// A run that has been made and judged.
#[derive(Debug)]
pub struct Done {
    /// The record of it.
    pub record: RunRecord,
    /// What it came to.
    pub judged: Judged,
    /// The sites it passed, if it was to name them.
    pub sites: Vec<Site>,
    /// Everything that came of it.
    pub ran: Ran,
    /// What the program said.
    pub told: Told,
}

impl<'a, L: Laboratories> Shared<'a, L> {
    /// For laboratories from `labs`.
    pub fn new(labs: &'a L, timeout: Duration, off: &'a [Oracle], place: Place) -> Self {
        Self { labs, timeout, off, place, baselines: RefCell::default(), inspector: Arc::default() }
    }
}

/// See the [module documentation](self).
pub struct Bench<'a, L: Laboratories> {
    shared: &'a Shared<'a, L>,
    open: Option<(String, L::Lab)>,
}

impl<'a, L: Laboratories> Bench<'a, L> {
    /// One with no laboratory yet.
    pub fn new(shared: &'a Shared<'a, L>) -> Self {
        Self { shared, open: None }
    }

    /// Makes an experiment and judges it against the fault-free run of its workload.
    ///
    /// # Errors
    /// The run could not be made.
    pub async fn run(&mut self, experiment: &Experiment) -> io::Result<Done> {
        let baseline = self.baseline(experiment).await?;
        self.judged(experiment, Some(&baseline)).await
    }

    /// The fault-free run of an experiment's workload.
    ///
    /// # Errors
    /// It could not be made.
    pub async fn baseline(&mut self, experiment: &Experiment) -> io::Result<Rc<Baseline>> {
        // How thoroughly rest is looked for makes no other run to compare with.
        let argument = Argument { thorough: false, ..experiment.argument };
        let key = (experiment.words.clone(), argument);
        if let Some(known) = self.shared.baselines.borrow().get(&key) {
            return Ok(known.clone());
        }
        let (baseline, _) = self.fault_free(&Experiment { argument, ..experiment.clone() }).await?;
        Ok(baseline)
    }

    /// Makes the fault-free run of an experiment's workload, and keeps it to compare with.
    ///
    /// # Errors
    /// It could not be made.
    pub async fn fault_free(&mut self, experiment: &Experiment) -> io::Result<(Rc<Baseline>, Done)> {
        let Experiment { level, workload, argument, words, .. } = experiment;
        let plain = Experiment::fault_free(*level, workload, *argument, words);
        let (ran, told, disk) = self.make(&plain).await?;
        let evidence =
            Evidence { experiment: &plain, ran: &ran, told: &told, baseline: None, disk: disk.as_ref() };
        let baseline = Rc::new(Baseline::of(&evidence));
        let done = self.finish(&plain, None, ran, told, disk);
        let mut kept = self.shared.baselines.borrow_mut();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert((words.clone(), *argument), baseline.clone());
        Ok((baseline, done))
    }

    async fn judged(&mut self, experiment: &Experiment, baseline: Option<&Baseline>) -> io::Result<Done> {
        let (ran, told, disk) = self.make(experiment).await?;
        Ok(self.finish(experiment, baseline, ran, told, disk))
    }

    async fn make(&mut self, experiment: &Experiment) -> io::Result<(Ran, Told, Option<Inspected>)> {
        let rules = experiment.rules.iter().map(|rule| parse_rule(rule));
        let rules = rules.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let run = Run {
            rules,
            argument: experiment.argument.pack(),
            seed: experiment.seed,
            timeout: Some(self.shared.timeout),
            log_sites: experiment.log_sites,
        };
        let lab = self.lab(&experiment.words).await?;
        let made = lab.run(run).await;
        let ran = match made {
            Ok(Ran { end: End::Failed(why), .. }) => {
                self.open = None;
                return Err(io::Error::other(why.to_string()));
            }
            Ok(ran) => ran,
            Err(why) => {
                self.open = None;
                return Err(why);
            }
        };
        let told = Told::read(&ran.reports);
        let disk = match (ran.disks.first(), &ran.end) {
            (Some(disk), End::Exited(_)) => {
                let (inspector, disk) = (self.shared.inspector.clone(), disk.clone());
                let looking = tokio::task::spawn_blocking(move || inspector.inspect(&disk));
                Some(looking.await.map_err(io::Error::other)??)
            }
            // What was being written when everything stopped is nobody's fault.
            _ => None,
        };
        Ok((ran, told, disk))
    }

    fn finish(
        &self,
        experiment: &Experiment,
        baseline: Option<&Baseline>,
        ran: Ran,
        told: Told,
        disk: Option<Inspected>,
    ) -> Done {
        let evidence = Evidence { experiment, ran: &ran, told: &told, baseline, disk: disk.as_ref() };
        let judged = judge::judge(&evidence, self.shared.off);
        let mechanism = self.open.as_ref().map_or_else(String::new, |(_, lab)| lab.mechanism());
        let place = Place { mechanism, ..self.shared.place.clone() };
        let record = judge::record(&evidence, &judged, &place);
        let sites = ran.sites.iter().copied().map(Site).collect();
        Done { record, judged, sites, ran, told }
    }

    /// The laboratory for a kernel with these words.
    async fn lab(&mut self, words: &str) -> io::Result<&mut L::Lab> {
        if self.open.as_ref().is_some_and(|(of, _)| of != words) {
            self.open = None;
        }
        let lab = match self.open.take() {
            Some((_, lab)) => lab,
            None => self.shared.labs.open(words).await?,
        };
        let (_, lab) = self.open.insert((words.to_owned(), lab));
        Ok(lab)
    }
}
