//! Sessions: a machine that is booted once and put back to its ready mark before each run.
//!
//! | module | idea |
//! |---|---|
//! | [`run`] | what a run is given, and what came of it |

pub mod run;

pub use run::{DiskContents, Ran, Run};
