//! The server against a disk, a VM and users in memory.

mod cache;
mod device;
mod faults;
mod full;
mod requests;
mod sequences;
mod world;
