//! Plans: what a campaign is to do, as TOML.
//!
//! Everything has a default; a plan says what differs. Errors show the line and what would have been right there. The one thing to
//! hold in mind: a plan and a build decide every run of a campaign; nothing about the machine or the time does.

use std::time::Duration;

use refault_abi::options::Options;
use serde::{Deserialize, Deserializer};

use super::experiment::Level;
use super::kind::{self, Kind};
use super::oracle::Oracle;
use super::workload::{self, Workload};

/// A plan.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Its name, in reports.
    pub name: String,
    /// What runs.
    workloads: Vec<workload::Named>,
    /// Levels.
    #[serde(deserialize_with = "levels")]
    pub levels: Vec<Level>,
    /// Kinds of fault at level 1; all but poison, which ends programs, unless it is named.
    kinds: Vec<kind::Named>,
    /// Words for the kernel, of every run.
    pub words: Words,
    /// Words that are compared: each run is made with each of them.
    pub policies: Vec<Words>,
    /// The seed of everything that is drawn, and of workloads that take one.
    pub seed: u64,
    /// Runs at level random.
    pub runs: u64,
    /// Machines at once; 0 for as many as there are processors.
    pub jobs: usize,
    /// What a run may take.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// How late a page comes at level 1.
    #[serde(deserialize_with = "duration")]
    pub delay: Duration,
    /// Milliseconds of standstill after which the kernel says who waits for whom; 0 for never.
    pub watchdog: u32,
    /// Bounds of level 2.
    pub bounds: Bounds,
    /// What is drawn at level random.
    pub random: Random,
    /// The checks that are made.
    pub oracles: Oracles,
    /// Coverage below which the campaign fails.
    pub floor: Floor,
    /// What is done about failures.
    pub shrink: Shrink,
}

/// Bounds of level 2.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// First sites, in the order of the run.
    pub first: usize,
    /// Sites of a repeat that are second ones.
    pub second: usize,
}

/// What is drawn at level random.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Random {
    /// Different seeds that workloads are given: each needs a fault-free run to compare with.
    pub seeds: u32,
    /// Rules of a run, at most.
    pub rules: u32,
    /// Operations of a run; 0 for the workload's own number.
    pub operations: u16,
    /// Processes at work, at most.
    pub clients: u8,
    /// Whether faults may last: operations then may end in the error specified.
    pub forever: bool,
    /// Whether pages of RAM are taken away by their addresses too.
    pub physical: bool,
    /// Whether disks may be slow.
    pub disk_delays: bool,
    /// Whether disks may fail: operations then may end in an error.
    pub disk_errors: bool,
    /// How late a page or a disk comes, at most.
    #[serde(deserialize_with = "duration")]
    pub delay: Duration,
}

/// The checks that are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Oracles {
    /// Those that are not.
    pub off: Vec<Oracle>,
}

/// Coverage below which the campaign fails; nothing is asked of a share of 0.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Floor {
    /// Share of the sites known that have to be visited.
    #[serde(deserialize_with = "share")]
    pub sites: f64,
    /// Share of the pairs known.
    #[serde(deserialize_with = "share")]
    pub pairs: f64,
    /// Whether the matrix may have no empty cell.
    pub matrix: bool,
    /// Faults.
    pub faults: u64,
}

/// What is done about failures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shrink {
    /// How many are shrunk; 0 for none.
    pub failures: usize,
    /// How often each candidate is tried.
    pub times: u32,
    /// How often the smallest one is repeated for its failure rate.
    pub replays: u32,
    /// Runs that shrinking one failure may take.
    pub budget: u32,
}

/// Words for the kernel, known to be such.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Words(pub String);

impl TryFrom<String> for Words {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Err(bad) = Options::parse(&text) {
            return Err(format!("{:?} is no option of the guest: must be {}", bad.word, bad.expected));
        }
        Ok(Self(text))
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "campaign".into(),
            workloads: workload::named("requests").map(workload::Named).into_iter().collect(),
            levels: vec![Level::One],
            kinds: kind::LEVEL_1.into_iter().filter(|kind| *kind != Kind::Poison).map(kind::Named).collect(),
            words: Words::default(),
            policies: vec![Words("retry=hardened".into())],
            seed: 1,
            runs: 100,
            jobs: 0,
            timeout: Duration::from_secs(60),
            delay: Duration::from_millis(1),
            watchdog: 10_000,
            bounds: Bounds::default(),
            random: Random::default(),
            oracles: Oracles::default(),
            floor: Floor::default(),
            shrink: Shrink::default(),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { first: usize::MAX, second: usize::MAX }
    }
}

impl Default for Random {
    fn default() -> Self {
        Self {
            seeds: 16,
            rules: 3,
            operations: 0,
            clients: 3,
            forever: false,
            physical: false,
            disk_delays: false,
            disk_errors: false,
            delay: Duration::from_millis(2),
        }
    }
}

impl Default for Shrink {
    fn default() -> Self {
        Self { failures: 3, times: 2, replays: 5, budget: 200 }
    }
}

/// A plan that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It cannot be read as one.
    #[error("the plan {name} cannot be understood:\n{why}")]
    Text {
        /// Where it is from.
        name: String,
        /// The line and what is wrong there.
        why: Box<toml::de::Error>,
    },
    /// It says nothing that could be run.
    #[error("the plan {name} runs nothing: {what} is empty")]
    Empty {
        /// Where it is from.
        name: String,
        /// What it does not say.
        what: &'static str,
    },
}

impl Plan {
    /// Reads a plan's text; `name` says in errors where it is from.
    ///
    /// # Errors
    /// It cannot be understood, or would run nothing.
    pub fn read(name: &str, text: &str) -> Result<Self, PlanError> {
        let plan: Self = toml::from_str(text)
            .map_err(|why| PlanError::Text { name: name.to_owned(), why: Box::new(why) })?;
        plan.checked(name)
    }

    /// The plan, if it runs anything.
    ///
    /// # Errors
    /// It would run nothing.
    pub fn checked(self, name: &str) -> Result<Self, PlanError> {
        let empty = [
            (self.workloads.is_empty(), "`workloads`"),
            (self.levels.is_empty(), "`levels`"),
            (self.policies.is_empty(), "`policies`"),
            (self.kinds.is_empty() && self.levels.contains(&Level::One), "`kinds`"),
            (self.runs == 0 && self.levels.contains(&Level::Random), "`runs`"),
            (self.random.seeds == 0 && self.levels.contains(&Level::Random), "`random.seeds`"),
            (self.random.rules == 0 && self.levels.contains(&Level::Random), "`random.rules`"),
        ];
        match empty.into_iter().find(|(is, _)| *is) {
            Some((_, what)) => Err(PlanError::Empty { name: name.to_owned(), what }),
            None => Ok(self),
        }
    }

    /// What runs.
    pub fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        self.workloads.iter().map(|named| named.0)
    }

    /// Kinds of fault at level 1.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.kinds.iter().map(|named| named.0)
    }

    /// All of it as a text, without what changes no run: how many machines there are.
    pub fn text(&self) -> String {
        format!("{:?}", Self { jobs: 0, ..self.clone() })
    }

    /// The kernel's words of each policy, complete.
    pub fn all_words(&self) -> Vec<String> {
        let watchdog = match self.watchdog {
            0 => String::new(),
            time => format!("watchdog={time}"),
        };
        let join = |policy: &Words| {
            let parts = [policy.0.trim(), self.words.0.trim(), &watchdog];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        };
        self.policies.iter().map(join).collect()
    }
}

fn levels<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Level>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Word {
        Number(u64),
        Text(String),
    }
    let words = Vec::<Word>::deserialize(from)?;
    let level = |word| match word {
        Word::Number(number) => number.to_string().parse(),
        Word::Text(text) => text.parse(),
    };
    words.into_iter().map(level).collect::<Result<_, String>>().map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    match humantime::parse_duration(&text) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err(serde::de::Error::custom("no time at all; write 30s, 2ms, 50us")),
        Err(why) => {
            Err(serde::de::Error::custom(format!("{text:?} is not a time ({why}); write 30s, 2ms, 50us")))
        }
    }
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(from)?;
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err(serde::de::Error::custom(format!("{share} is no share: it is from 0 to 1"))),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
