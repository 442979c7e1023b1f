//! The requests, by what they are about.
//!
//! The one thing to hold in mind: a handler reads what the process said once, checks it before it uses it, and changes
//! nothing that outlives it until the file system has given a final answer.

mod data;
mod device;
mod names;
mod open;
pub(crate) mod pipe;
mod status;
pub(crate) mod system;
pub(crate) mod vm;
