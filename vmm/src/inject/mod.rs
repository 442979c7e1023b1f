//! Taking guest pages away, and deciding what the guest notices.
//!
//! | module | idea |
//! |---|---|
//! | [`rule`], [`parse`], [`table`] | what a user asks for, and reading it, as text and in TOML files |
//! | [`matcher`], [`disk`] | which sites, and which requests of disks, a set of rules wants |
//! | [`draw`] | random shares that a seed repeats |
//! | [`mechanism`], [`poison`], [`protect`], [`writeprotect`] | how a page goes away and how a touch is noticed |
//! | [`injector`] | what the doorbell, the processors and a session call; with it `book`, `decide`, [`physical`] |
//! | [`trap`] | a touch as a value, and the line of the log that becomes of it |
//! | [`classes`], [`reach`] | pages that are not like others, and whether they can be away on this host |
//! | [`decode`], [`walk`] | which virtual address the stopped instruction used |
//! | [`counters`] | the sums that must come out |
//!
//! The one thing to hold in mind: a page is away in the vCPU view only. The injector itself, devices and
//! checks read and write the device view, where it never is.
//!
//! Nothing here runs unless there are rules: a machine without any has no userfaultfd, no armed page and no
//! site page countdown.

mod book;
mod class;
pub mod classes;
pub mod counters;
mod decide;
pub mod decode;
pub mod disk;
pub mod draw;
pub mod injector;
pub mod matcher;
pub mod mechanism;
#[cfg(test)]
pub(crate) mod notes;
pub mod parse;
pub mod physical;
pub mod poison;
pub mod protect;
pub mod reach;
pub mod rule;
mod show;
pub mod table;
pub mod trap;
mod uffd;
pub mod walk;
mod wording;
pub mod writeprotect;

pub use counters::FaultCounters;
pub use injector::Injector;
pub use parse::{RuleError, parse_rule};
pub use rule::Rule;
