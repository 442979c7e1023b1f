//! `sync`: everything written so far reaches the disk.
#![no_std]
#![no_main]

use refault_apps::files::complain;
use refault_apps::{DONE, FAILED};
use refault_rt::start::Args;
use refault_rt::user;

refault_rt::entry!(main);

fn main(_args: Args) -> i32 {
    match user::sync() {
        Ok(()) => DONE,
        Err(error) => {
            complain("sync", "everything", error);
            FAILED
        }
    }
}
