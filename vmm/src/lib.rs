//! Refault: a KVM virtual machine monitor that takes guest pages away at the second stage of address translation.
//!
//! Three kinds of thread, and what each of them owns:
//!
//! - **vCPU threads** ([`vcpu`]), one per processor: KVM_RUN, its exits, and traps of pages that are away.
//! - **The device loop** ([`vm::device_loop`]), one per machine: an `event-manager` loop in which queue kicks,
//!   completions and console input are dealt with, in a fixed order. Nothing in it is async.
//! - **tokio** ([`cli`], [`demo`]): everything outside the machines. A machine is an async handle there:
//!   `vm.run().await` gives an [`vm::Outcome`], and dropping [`vm::Vm`] stops the machine and joins its threads.
//!
//! They meet in one channel type, [`vm::event::VmEvent`]: vCPU threads and the doorbell send, the handle receives. In
//! the other direction there is only a flag and a kick.
//!
//! Guest RAM is one file with two mappings ([`memory`]): the processors' view, from which [`inject`] takes pages away, and
//! the view of devices and of the monitor itself, which is always whole.

pub mod bench;
pub mod boot;
#[cfg(test)]
mod boot_image;
pub mod campaign;
pub mod cli;
pub mod demo;
pub mod doctor;
pub mod doorbell;
pub mod exit_code;
pub mod guest_image;
pub mod host;
pub mod inject;
pub mod layout;
pub mod memory;
pub mod micro;
pub mod mkfs;
pub mod report;
pub mod snapshot;
pub mod suite;
pub mod vcpu;
pub mod vm;
