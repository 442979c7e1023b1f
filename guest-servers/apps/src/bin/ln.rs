//! `ln [-s] TARGET NAME`: a further name for a file, or a symbolic link; into a directory under the target's name.
#![no_std]
#![no_main]

use refault_apps::files::complain;
use refault_apps::paths::target;
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::user;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut words = args.skip(1).peekable();
    let symbolic = words.next_if_eq(&"-s").is_some();
    let (Some(old), Some(new), None) = (words.next(), words.next(), words.next()) else {
        refault_rt::eprintln!("usage: ln [-s] TARGET NAME");
        return USAGE;
    };
    let directory = user::stat(new).is_ok_and(|stat| stat.mode & 0o170000 == 0o040000);
    let new = target(old, new, directory);
    let made = if symbolic { user::symlink(old, &new) } else { user::link(old, &new) };
    match made {
        Ok(()) => DONE,
        Err(error) => {
            complain("ln", &new, error);
            FAILED
        }
    }
}
