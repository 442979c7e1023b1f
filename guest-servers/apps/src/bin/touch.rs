//! `touch PATH...`: makes files that are not there; those that are stay as they are.
#![no_std]
#![no_main]

use refault_abi::vfs::{O_CREAT, O_WRONLY};
use refault_apps::each;
use refault_rt::start::Args;
use refault_rt::user;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    each::path("touch", args, |path| user::close(user::open(path, O_WRONLY | O_CREAT, 0o644)?))
}
