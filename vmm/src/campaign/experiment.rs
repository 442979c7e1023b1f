//! One run of a campaign, before it is made: what, with which faults, and under which name.
//!
//! The one thing to hold in mind: an experiment's name says what it is, not when or where it was made. The same plan makes the same
//! names in every shard and on every machine, so that runs can be split, left out and merged by them.

use std::fmt;
use std::ops::Deref;

use crate::inject::matcher::SiteName;
use crate::inject::rule::{OPERATIONS, Side};
use crate::suite::console::fnv1a;
use refault_abi::fs;

use super::kind::Kind;
use super::workload::{Argument, Workload};

/// A level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Each site.
    One,
    /// Each pair of sites, the second inside the repeat of the first.
    Two,
    /// Drawn from a seed.
    Random,
}

impl Level {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Level::One => "1",
            Level::Two => "2",
            Level::Random => "random",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Level::One, Level::Two, Level::Random]
            .into_iter()
            .find(|level| level.word() == word)
            .ok_or_else(|| format!("{word:?} is no level; there are 1, 2 and random"))
    }
}

/// A fault site, in the order of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site(pub SiteName);

impl Site {
    /// Its filter with the attempt left open.
    pub fn in_any_attempt(&self) -> String {
        self.to_string().replace(&format!(" attempt={}", self.0.attempt), "")
    }

    /// Whether rules can name it: it belongs to one of the file system requests.
    pub fn is_nameable(&self) -> bool {
        OPERATIONS.contains(&self.0.operation)
    }

    /// Name of its request.
    pub fn operation(&self) -> &'static str {
        fs::operation_name(self.0.operation)
    }

    /// Faults that VFS allows an operation that lends `lent` pages, if all of them are on this site's side; with the final one. A
    /// copier may use another buffer in each attempt, so its pages are bounded together, by the size of what was lent.
    pub fn faults_allowed(&self, per_page: u64, lent: u32) -> u64 {
        match self.0.side {
            Side::Granter => per_page.saturating_add(1),
            Side::Grantee => u64::from(lent).saturating_add(1).saturating_mul(per_page),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Deref for Site {
    type Target = SiteName;

    fn deref(&self) -> &SiteName {
        &self.0
    }
}

/// One run before it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Its name.
    pub id: String,
    /// Its level.
    pub level: Level,
    /// Its workload.
    pub workload: &'static Workload,
    /// What the guest's program is given.
    pub argument: Argument,
    /// The seed from which workload and schedule follow.
    pub seed: u64,
    /// The kernel's words.
    pub words: String,
    /// Its rules.
    pub rules: Vec<String>,
    /// The kind of fault.
    pub kind: Kind,
    /// The sites aimed at.
    pub aimed: Vec<Site>,
    /// Whether it is to name the sites it passes.
    pub log_sites: bool,
    /// Whether the operation may end in an error, because a rule asks for faults that last, or a disk fails.
    pub may_reject: bool,
    /// Whether nothing is to fire: the run behind the last site.
    pub past_the_end: bool,
}

impl Experiment {
    /// The fault-free run of a workload.
    pub fn fault_free(level: Level, workload: &'static Workload, argument: Argument, words: &str) -> Self {
        Self {
            id: format!("{}/{}/{:x}/none", policy(words), workload.name, argument.pack()),
            level,
            workload,
            argument,
            seed: u64::from(argument.seed),
            words: words.to_owned(),
            rules: Vec::new(),
            kind: Kind::None,
            aimed: Vec::new(),
            log_sites: true,
            may_reject: false,
            past_the_end: false,
        }
    }

    /// The request that it is about; empty if none.
    pub fn operation(&self) -> &'static str {
        self.aimed.first().map_or("", Site::operation)
    }

    /// Whether it belongs to a shard of `of`.
    pub fn is_in(&self, shard: Shard) -> bool {
        shard.has(&self.id)
    }
}

/// Words as a part of a name.
pub fn policy(words: &str) -> String {
    let joined = words.split_ascii_whitespace().collect::<Vec<_>>().join("+");
    if joined.is_empty() { "default".into() } else { joined }
}

/// A part of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub part: u32,
    /// Of how many.
    pub of: u32,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { part: 1, of: 1 };

    /// Whether what has this name belongs to it. Each name belongs to exactly one of the parts.
    pub fn has(self, name: &str) -> bool {
        // FNV's low bits are its weakest; a few rounds of mixing make parts of like size.
        let mut hash = fnv1a(name.as_bytes());
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash.checked_rem(u64::from(self.of)).is_some_and(|rest| rest + 1 == u64::from(self.part))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = || format!("{text:?} is no part; write 1/4 for the first of four");
        let (part, of) = text.split_once('/').ok_or_else(why)?;
        let shard = Self { part: part.parse().map_err(|_| why())?, of: of.parse().map_err(|_| why())? };
        if shard.part == 0 || shard.part > shard.of { Err(why()) } else { Ok(shard) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_in_one_part() {
        let parts: Vec<Shard> = (1..=5).map(|part| Shard { part, of: 5 }).collect();
        let mut counts = [0; 5];
        for n in 0..1000 {
            let name = format!("L1/read/{n}/once");
            let of: Vec<usize> = (0..5).filter(|&i| parts[i].has(&name)).collect();
            assert_eq!(of.len(), 1, "{name}");
            counts[of[0]] += 1;
        }
        assert!(counts.iter().all(|&count| count > 120), "{counts:?}");
        for bad in ["", "1", "0/3", "4/3", "a/b", "1/0", "-1/2"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
        assert_eq!("2/3".parse(), Ok(Shard { part: 2, of: 3 }));
    }
}
