//! What the guest's program can be asked to do, and the number that asks for it.
//!
//! The one thing to hold in mind: names and numbers are a contract with the program `sys_exercise`; a campaign knows nothing else of
//! what a workload does.

use std::fmt;

use serde::Deserialize;

/// A workload.
#[derive(Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name, in plans and records.
    pub name: &'static str,
    /// Its number, in [`Argument`].
    pub number: u8,
    /// Whether two runs with the same argument pass the same sites in the same order and leave the same tree. Where several
    /// processes race they need not.
    pub repeats_itself: bool,
    /// Whether a seed makes a difference.
    pub is_seeded: bool,
    /// Whether it has pages of its own taken away where the monitor lets it.
    pub asks: bool,
}

const fn fixed(name: &'static str, number: u8) -> Workload {
    Workload { name, number, repeats_itself: true, is_seeded: false, asks: false }
}

const fn seeded(name: &'static str, number: u8, repeats_itself: bool) -> Workload {
    Workload { name, number, repeats_itself, is_seeded: true, asks: false }
}

/// All of them, by their numbers.
pub static ALL: [Workload; 15] = [
    fixed("requests", 0),
    fixed("read", 1),
    fixed("write", 2),
    fixed("bread", 3),
    fixed("bwrite", 4),
    fixed("getdents", 5),
    fixed("rdlink", 6),
    fixed("slink", 7),
    fixed("stat", 8),
    seeded("fsx", 9, true),
    // Two processes and a pipe: who comes first is the scheduler's business.
    seeded("pipes", 10, false),
    seeded("names", 11, true),
    seeded("crowd", 12, false),
    seeded("mix", 13, false),
    Workload { asks: true, ..seeded("touch", 14, true) },
];

/// The workload of this name.
pub fn named(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// The workload of this number.
pub fn numbered(number: u8) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.number == number)
}

/// A workload in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Named(pub &'static Workload);

impl TryFrom<String> for Named {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let names = || ALL.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", ");
        named(&name).map(Named).ok_or_else(|| format!("{name:?} is no workload; there are {}", names()))
    }
}

/// What the guest's program reads at the doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Argument {
    /// Number of the workload, below 128.
    pub workload: u8,
    /// Whether what is left over afterwards is looked for in every table there is.
    pub thorough: bool,
    /// Processes at work; 0 and 1 are one.
    pub clients: u8,
    /// Operations; 0 for the workload's own number.
    pub operations: u16,
    /// Seed.
    pub seed: u32,
}

/// The bit of [`Argument::thorough`].
const THOROUGH: u8 = 0x80;

impl Argument {
    /// A workload as it is by itself.
    pub fn of(workload: &Workload, seed: u32) -> Self {
        Self { workload: workload.number, thorough: false, clients: 1, operations: 0, seed }
    }

    /// The register's value.
    pub fn pack(self) -> u64 {
        u64::from(self.workload & THOROUGH.wrapping_sub(1))
            | u64::from(if self.thorough { THOROUGH } else { 0 })
            | u64::from(self.clients) << 8
            | u64::from(self.operations) << 16
            | u64::from(self.seed) << 32
    }

    /// What a value of the register means.
    pub fn unpack(value: u64) -> Self {
        Self {
            workload: value as u8 & THOROUGH.wrapping_sub(1),
            thorough: value as u8 & THOROUGH != 0,
            clients: (value >> 8) as u8,
            operations: (value >> 16) as u16,
            seed: (value >> 32) as u32,
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.pack())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_and_names_are_unique() {
        for (index, workload) in ALL.iter().enumerate() {
            assert_eq!(usize::from(workload.number), index);
            assert_eq!(named(workload.name), Some(workload));
            assert_eq!(numbered(workload.number), Some(workload));
        }
        assert!(Named::try_from("reqests".to_owned()).is_err_and(|why| why.contains("requests, read")));
    }

    #[test]
    fn an_argument_is_its_bits() {
        let mut argument =
            Argument { workload: 12, thorough: false, clients: 3, operations: 0x1234, seed: 0x89ab_cdef };
        assert_eq!(argument.pack(), 0x89ab_cdef_1234_030c);
        assert_eq!(Argument::unpack(argument.pack()), argument);
        argument.thorough = true;
        assert_eq!(argument.pack(), 0x89ab_cdef_1234_038c);
        assert_eq!(Argument::unpack(argument.pack()), argument);
    }
}
