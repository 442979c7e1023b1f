//! What campaigns found, as one document for people and one for programs.
//!
//! | module | idea |
//! |---|---|
//! | [`read`] | the lines of campaigns' directories, merged |
//! | [`numbers`] | everything that is said of them, in one value: the JSON document |
//! | [`coverage`] | the matrix request × side × access × kind, one for each policy |
//! | [`latency`], [`distribution`] | how long the parts of a fault took |
//! | [`retry`] | the one repeated operation that is drawn |
//! | [`page`] | the same as one HTML file |
//!
//! The one thing to hold in mind: the page shows what is in [`numbers::Document`] and nothing else, so that a reader and a program
//! cannot be told different things. What this is not: a judge. Verdicts are those that the campaign wrote.

pub mod coverage;
pub mod distribution;
pub mod latency;
pub mod numbers;
pub mod page;
pub mod read;
pub mod retry;
