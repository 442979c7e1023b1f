//! `rm PATH...`: removes names of files.
#![no_std]
#![no_main]

use refault_apps::each;
use refault_rt::start::Args;
use refault_rt::user;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    each::path("rm", args, user::unlink)
}
