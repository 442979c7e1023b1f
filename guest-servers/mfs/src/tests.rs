//! The server against a disk, a VM and users in memory.

mod cache;
#[path = "../../minixfs/tests/common/check.rs"]
mod check;
mod device;
mod faults;
mod full;
mod power;
mod requests;
mod sequences;
mod world;
