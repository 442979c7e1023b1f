//! Sessions: a machine that is booted once and put back to its ready mark before each run.
//!
//! | module | idea |
//! |---|---|
//! | [`session`] | the async handle: boot, run, run again |
//! | [`run`] | what a run is given, and what came of it |
//! | [`parking`] | processors that stop between runs |
//! | [`processor`], [`memory`], [`devices`], [`shadows`] | what is put back, and what KVM has to forget for it |

pub mod devices;
pub mod memory;
pub mod parking;
pub mod processor;
pub mod run;
pub mod session;
pub mod shadows;

pub use run::{DiskContents, Ran, Run};
pub use session::{Session, SessionError};
