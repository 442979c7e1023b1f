//! Everything two parts of Refault must agree on: kernel and servers, guest and monitor.
//!
//! The one thing to hold in mind: nothing here *does* anything. A module is a table of numbers and
//! layouts with the reason for each; both sides of a boundary include it, and the layouts are pinned
//! by compile-time assertions. What is *not* here: policy (it lives in the servers), and anything
//! that needs memory, so the crate is `no_std` and builds for the host and for the guest alike.
//!
//! | module | boundary |
//! |---|---|
//! | [`errno`], [`endpoint`], [`message`] | everybody |
//! | [`ipc`], [`kcall`] | process and kernel |
//! | [`grant`] | granter's memory and kernel |
//! | [`layout`], [`info`] | kernel, `vm` and every address space |
//! | [`doorbell`], [`counters`] | kernel and monitor |
//! | [`pm`], [`vfs`], [`fs`], [`vm`], [`bdev`], [`cdev`] | one server each |
//! | [`rs`] | the reincarnation server and whoever it restarts |
//! | [`options`], [`bugs`] | command line |
//! | [`pattern`] | demo disk and the programs that check it |
#![no_std]

pub mod bdev;
pub mod bugs;
pub mod cdev;
pub mod counters;
pub mod doorbell;
pub mod endpoint;
pub mod errno;
pub mod fs;
pub mod grant;
pub mod info;
pub mod ipc;
pub mod kcall;
pub mod layout;
pub mod message;
pub mod options;
pub mod pattern;
pub mod pm;
pub mod rs;
pub mod vfs;
pub mod vm;

pub use endpoint::Endpoint;
pub use errno::{Errno, Result};
pub use grant::GrantId;
pub use message::Message;
