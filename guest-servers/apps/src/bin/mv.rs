//! `mv OLD NEW`: renames; into a directory under its own name.
#![no_std]
#![no_main]

use refault_apps::files::complain;
use refault_apps::paths::target;
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::user;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut paths = args.skip(1);
    let (Some(old), Some(new), None) = (paths.next(), paths.next(), paths.next()) else {
        refault_rt::eprintln!("usage: mv OLD NEW");
        return USAGE;
    };
    let directory = user::stat(new).is_ok_and(|stat| stat.mode & 0o170000 == 0o040000);
    match user::rename(old, &target(old, new, directory)) {
        Ok(()) => DONE,
        Err(error) => {
            complain("mv", old, error);
            FAILED
        }
    }
}
