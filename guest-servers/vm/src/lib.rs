//! The virtual-memory server's logic: frames, page tables, regions, file pages, programs.
//!
//! The one thing to hold in mind: everything here works on guest RAM through [`ram::Ram`] and decides without
//! waiting; whatever has to be asked of VFS comes out as a value ([`memory::Outcome::Missing`]) and is asked by
//! the server around it, which never blocks. What it is not: the message loop (the program `vm`).
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
pub mod arguments;
pub mod audit;
pub mod cache;
pub mod elf;
pub mod filepages;
pub mod files;
pub mod fork;
pub mod frames;
pub mod jobs;
pub mod load;
pub mod memory;
pub mod pending;
pub mod poison;
pub mod process;
pub mod quarantine;
pub mod ram;
pub mod regions;
pub mod tables;
