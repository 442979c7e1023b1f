//! A virtual machine: configuration, assembly, life and end.
//!
//! [`Config`] says what is wanted, [`Vm`] is the running machine, [`Outcome`] says what came of it.

pub mod action;
pub mod assemble;
pub mod config;
pub mod console;
pub mod device_loop;
pub mod devices;
pub mod ending;
pub mod event;
pub mod handle;
pub mod lines;
pub mod machine;
pub mod news;
pub mod outcome;
pub mod parts;
pub mod patience;

pub use assemble::AssembleError;
pub use config::Config;
pub use handle::Vm;
pub use outcome::{End, Outcome};
