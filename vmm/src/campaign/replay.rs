//! A schedule in a file: enough to make one run again, and what is expected of it.
//!
//! Written as TOML by campaigns for what they have shrunk; read as TOML, as JSON, or as a line of `runs.jsonl`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use refault_abi::fs;

use crate::inject::matcher::SiteName;
use crate::inject::rule::{AccessKind, Page, Rule, SiteRule};
use crate::inject::{RuleError, parse_rule};

use super::experiment::{Experiment, Level, Site};
use super::judge::Judged;
use super::kind::Kind;
use super::record::{self, RunRecord};
use super::workload::{self, Argument};

/// Schema of a file.
pub const SCHEMA: &str = "refault.replay/1";

/// A file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name of the workload.
    pub workload: String,
    /// What the program is given, hexadecimal.
    pub argument: String,
    /// The seed that rules draw from.
    #[serde(default)]
    pub seed: u64,
    /// The kernel's words.
    #[serde(default)]
    pub words: String,
    /// Rules.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Level of the run that failed.
    #[serde(default = "random")]
    pub level: String,
    /// Its kind of fault.
    #[serde(default = "mixed")]
    pub kind: String,
    /// The sites it was aimed at.
    #[serde(default)]
    pub aimed: Vec<String>,
    /// Whether operations may end in an error.
    #[serde(default)]
    pub may_reject: bool,
    /// Where the failure was seen, and how often.
    #[serde(default)]
    pub seen: BTreeMap<String, String>,
    /// What is expected.
    pub expect: Option<Expected>,
}

fn random() -> String {
    Level::Random.word().into()
}

fn mixed() -> String {
    Kind::Mixed.word().into()
}

/// What is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The verdict.
    pub verdict: String,
    /// The oracle violated.
    pub violated: Option<String>,
}

impl Expected {
    /// Whether it came to that.
    pub fn is_met(&self, judged: &Judged) -> bool {
        self.verdict == judged.verdict.word()
            && self.violated.as_deref() == judged.violated.map(super::oracle::Oracle::name)
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is neither form of TOML or JSON.
    #[error("it can be read neither as a replay file nor as a run's line: {0}")]
    Text(String),
    /// Something in it is unknown.
    #[error("its {what} is {value:?}, which there is not")]
    Unknown {
        /// Which value.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// A rule of it cannot be read.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl Replay {
    /// Reads a file.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &str) -> Result<Self, ReplayError> {
        let replay: Self = match text.trim_start().starts_with('{') {
            false => toml::from_str(text).map_err(|why| ReplayError::Text(why.to_string()))?,
            true => {
                let line = text.lines().next().unwrap_or("");
                match serde_json::from_str::<RunRecord>(line) {
                    Ok(record) if record.schema == record::SCHEMA => Self::of_record(&record),
                    _ => serde_json::from_str(text).map_err(|why| ReplayError::Text(why.to_string()))?,
                }
            }
        };
        match replay.schema == SCHEMA {
            true => Ok(replay),
            false => Err(ReplayError::Unknown { what: "schema", value: replay.schema }),
        }
    }

    /// The file for an experiment and what it came to.
    pub fn of(experiment: &Experiment, judged: Option<&Judged>) -> Self {
        Self {
            schema: SCHEMA.into(),
            workload: experiment.workload.name.into(),
            argument: experiment.argument.to_string(),
            seed: experiment.seed,
            words: experiment.words.clone(),
            rules: experiment.rules.clone(),
            level: experiment.level.word().into(),
            kind: experiment.kind.word().into(),
            aimed: experiment.aimed.iter().map(ToString::to_string).collect(),
            may_reject: experiment.may_reject,
            seen: BTreeMap::new(),
            expect: judged.map(|judged| Expected {
                verdict: judged.verdict.word().into(),
                violated: judged.violated.map(|oracle| oracle.name().into()),
            }),
        }
    }

    /// The file for a run that was made.
    pub fn of_record(record: &RunRecord) -> Self {
        let lasts = |rule: &String| {
            rule.contains("forever")
                || [": error", ": poison"].iter().any(|end| rule.trim_end().ends_with(end))
        };
        Self {
            schema: SCHEMA.into(),
            workload: record.workload.clone(),
            argument: format!("{:#x}", record.argument),
            seed: record.seed,
            words: record.words.clone(),
            rules: record.rules.clone(),
            level: record.level.clone(),
            kind: record.kind.clone(),
            aimed: record.aimed.clone(),
            may_reject: record.rules.iter().any(lasts),
            seen: BTreeMap::from([("run".into(), record.id.clone())]),
            expect: Some(Expected { verdict: record.verdict.clone(), violated: record.violated.clone() }),
        }
    }

    /// The experiment.
    ///
    /// # Errors
    /// Something in it is unknown, or a rule cannot be read.
    pub fn experiment(&self) -> Result<Experiment, ReplayError> {
        let unknown = |what, value: &String| ReplayError::Unknown { what, value: value.clone() };
        let digits = self.argument.strip_prefix("0x").unwrap_or(&self.argument);
        let argument = u64::from_str_radix(digits, 16).map_err(|_| unknown("argument", &self.argument))?;
        let workload = workload::named(&self.workload).ok_or_else(|| unknown("workload", &self.workload))?;
        let level = self.level.parse().map_err(|_| unknown("level", &self.level))?;
        let kind = Kind::of(&self.kind).ok_or_else(|| unknown("kind", &self.kind))?;
        for rule in &self.rules {
            parse_rule(rule)?;
        }
        let aimed = self.aimed.iter().map(|site| self::site(site)).collect::<Result<_, _>>()?;
        let plain = Experiment::fault_free(level, workload, Argument::unpack(argument), &self.words);
        Ok(Experiment {
            id: "replay".into(),
            seed: self.seed,
            rules: self.rules.clone(),
            kind,
            aimed,
            may_reject: self.may_reject,
            past_the_end: kind == Kind::Nth && self.aimed.is_empty(),
            ..plain
        })
    }
}

/// The site of a filter as campaigns write it.
fn site(text: &str) -> Result<Site, ReplayError> {
    let unknown = || ReplayError::Unknown { what: "site", value: text.to_owned() };
    let Rule::Site(rule) = parse_rule(&format!("{text} : reflect"))? else { return Err(unknown()) };
    let SiteRule { operation, requests, copies, pages, attempts, side, access, .. } = rule;
    let only = |list: Option<Vec<u32>>| list.and_then(|list| list.first().copied());
    let Some(Page::Index(page)) = pages.and_then(|pages| pages.first().copied()) else {
        return Err(unknown());
    };
    Ok(Site(SiteName {
        operation: operation.unwrap_or(fs::READ),
        request: only(requests).ok_or_else(unknown)?,
        attempt: only(attempts).and_then(|attempt| attempt.try_into().ok()).ok_or_else(unknown)?,
        copy: only(copies).ok_or_else(unknown)?,
        page,
        // Filters do not say how many pages there are; there is this one.
        pages: page.saturating_add(1),
        side: side.ok_or_else(unknown)?,
        access: access.unwrap_or(AccessKind::Read),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "schema = 'refault.replay/1'\nworkload = 'read'\nargument = '0x101'\nwords = 'retry=efault'\n\
        rules = ['read request=1 copy=2 page=1 attempt=1 side=granter access=write : reflect']\nlevel = '1'\nkind = 'once'\n\
        aimed = ['read request=1 copy=2 page=1 attempt=1 side=granter access=write']\n\
        [expect]\nverdict = 'SHORT'\nviolated = 'O2'\n";

    #[test]
    fn a_file_is_an_experiment_and_back() {
        let replay = Replay::read(TEXT).unwrap();
        let experiment = replay.experiment().unwrap();
        assert_eq!(
            (experiment.workload.name, experiment.argument.pack(), experiment.kind),
            ("read", 0x101, Kind::Once)
        );
        assert_eq!(experiment.aimed[0].to_string(), replay.aimed[0]);
        let again = Replay { expect: replay.expect.clone(), ..Replay::of(&experiment, None) };
        assert_eq!(Replay::read(&toml::to_string(&again).unwrap()).unwrap(), replay);
        assert_eq!(Replay::read(&serde_json::to_string(&replay).unwrap()).unwrap(), replay);
    }

    #[test]
    fn a_line_of_a_campaign_can_be_replayed() {
        let record = RunRecord {
            schema: record::SCHEMA.into(),
            workload: "stat".into(),
            argument: u64::MAX,
            level: "random".into(),
            kind: "mixed".into(),
            rules: vec!["stat : reflect*forever".into()],
            verdict: "WEDGED".into(),
            ..RunRecord::default()
        };
        let line = serde_json::to_string(&record).unwrap();
        let replay = Replay::read(&format!("{line}\n{line}\n")).unwrap();
        let experiment = replay.experiment().unwrap();
        assert_eq!(experiment.argument.pack(), u64::MAX);
        assert!(experiment.may_reject);
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (from, to, said) in [
            ("'read'", "'raed'", "workload"),
            ("'0x101'", "'x'", "argument"),
            ("'once'", "'thrice'", "kind"),
            ("level = '1'", "level = '4'", "level"),
            ("write : reflect", "write : reflekt", "expected here"),
        ] {
            let text = TEXT.replacen(from, to, 1);
            let why = Replay::read(&text).unwrap().experiment().unwrap_err().to_string();
            assert!(why.contains(said), "{why}");
        }
        for text in [
            "",
            "{",
            "{}",
            "schema = 'x'",
            &TEXT.replace("replay/1", "replay/2"),
            &TEXT.replace("words", "wrods"),
        ] {
            assert!(Replay::read(text).is_err(), "{text}");
        }
    }
}
