//! Refault: a KVM virtual machine monitor that takes guest pages away at the second stage of address translation.

pub mod boot;
pub mod doctor;
pub mod doorbell;
pub mod host;
pub mod inject;
pub mod layout;
pub mod memory;
pub mod micro;
pub mod mkfs;
pub mod vcpu;
pub mod vm;
