//! Kinds of fault: what is done at a site, and what has to come of it.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::experiment::Site;

/// A kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// No fault.
    None,
    /// The n-th site that the run passes, once: it is not named, but counted.
    Nth,
    /// Once: the repeat finds the page.
    Once,
    /// In the attempt aimed at and in the next.
    Twice,
    /// In every attempt: the operation has to end in the error specified.
    Forever,
    /// The page comes late, and the guest does not know.
    Delay,
    /// The contents are lost, and the page never comes back: whose it was ends, and nobody gets an answer about it.
    Poison,
    /// Two faults, the second inside the repeat of the first.
    Pair,
    /// Drawn at random.
    Mixed,
}

/// Those that a plan can ask for at level 1.
pub const LEVEL_1: [Kind; 6] = [Kind::Nth, Kind::Once, Kind::Twice, Kind::Forever, Kind::Delay, Kind::Poison];

impl Kind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Nth => "nth",
            Kind::Once => "once",
            Kind::Twice => "twice",
            Kind::Forever => "forever",
            Kind::Delay => "delay",
            Kind::Poison => "poison",
            Kind::Pair => "pair",
            Kind::Mixed => "mixed",
        }
    }

    /// The kind of this word.
    pub fn of(word: &str) -> Option<Self> {
        [Kind::None, Kind::Pair, Kind::Mixed].into_iter().chain(LEVEL_1).find(|kind| kind.word() == word)
    }

    /// Whether operations may end in the error specified for it.
    pub fn may_reject(self) -> bool {
        matches!(self, Kind::Forever | Kind::Poison)
    }

    /// The rule that does this at `site`, which is the run's `number`-th; none where nothing is done at one site.
    pub fn rule(self, site: &Site, number: usize, delay: Duration) -> Option<String> {
        match self {
            Kind::Nth => Some(format!("nth={number} : reflect")),
            Kind::Once => Some(format!("{site} : reflect")),
            Kind::Twice => Some(format!("{} : reflect*2", site.in_any_attempt())),
            Kind::Forever => Some(format!("{} : reflect*forever", site.in_any_attempt())),
            Kind::Delay => Some(format!("{site} : {}", delayed(delay))),
            Kind::Poison => Some(format!("{site} : poison")),
            Kind::None | Kind::Pair | Kind::Mixed => None,
        }
    }
}

/// The action that lets a page come this late.
pub fn delayed(time: Duration) -> String {
    format!("delay={}", humantime::format_duration(time).to_string().replace(' ', ""))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A kind in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Named(pub Kind);

impl TryFrom<String> for Named {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let found = LEVEL_1.into_iter().find(|kind| kind.word() == word);
        found.map(Named).ok_or_else(|| {
            let words = LEVEL_1.map(Kind::word).join(", ");
            format!("{word:?} is no kind of fault at a site; there are {words}")
        })
    }
}
