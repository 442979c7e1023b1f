//! A virtual machine: configuration, assembly, life and end.

pub mod action;
pub mod assemble;
pub mod config;
pub mod ending;
pub mod event;
pub mod machine;
