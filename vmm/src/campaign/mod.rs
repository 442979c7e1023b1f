//! Campaigns: many runs, each with its faults, each judged.
//!
//! | module | idea |
//! |---|---|
//! | [`plan`], [`presets`] | what a campaign is to do |
//! | [`workload`], [`kind`], [`experiment`] | what can be run, what can be done to it, one run before it is made |
//! | [`levels`], [`random`] | which runs there are |
//! | [`lab`], [`live`], [`bench`] | where runs are made: sessions of machines, or a model of one |
//! | [`baseline`], [`tree`] | what a workload comes to without faults |
//! | [`oracle`], [`judge`] | what has to hold, and the verdict |
//! | [`journal`], [`record`] | what is written down, and going on after an interruption |
//! | [`engine`] | all of it together, several machines at once |
//! | [`shrink`], [`replay`] | the smallest schedule that fails, again |
//! | [`coverage`], [`summary`] | what was visited of what is known |
//!
//! The one thing to hold in mind: plan and build decide every run. Machines, jobs, parts and interruptions decide when and where it is
//! made, never what it is.

pub mod baseline;
pub mod bench;
pub mod coverage;
pub mod engine;
pub mod experiment;
pub mod journal;
pub mod judge;
pub mod kind;
pub mod lab;
pub mod levels;
pub mod live;
#[cfg(test)]
mod mock;
pub mod oracle;
pub mod plan;
pub mod presets;
pub mod progress;
pub mod random;
pub mod record;
pub mod replay;
pub mod shrink;
pub mod summary;
pub mod tree;
pub mod workload;

pub use coverage::load;
