//! `cp SOURCE DESTINATION`: copies a file; into a directory under its own name.
#![no_std]
#![no_main]

use refault_abi::vfs::{O_CREAT, O_TRUNC, O_WRONLY};
use refault_apps::files::{Failed, complain, for_each_piece, write_all};
use refault_apps::paths::target;
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::user;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut paths = args.skip(1);
    let (Some(source), Some(destination), None) = (paths.next(), paths.next(), paths.next()) else {
        refault_rt::eprintln!("usage: cp SOURCE DESTINATION");
        return USAGE;
    };
    let directory = user::stat(destination).is_ok_and(|stat| stat.mode & 0o170000 == 0o040000);
    let destination = target(source, destination, directory);
    match copy(source, &destination) {
        Ok(()) => DONE,
        Err(Failed::Reading(error)) => {
            complain("cp", source, error);
            FAILED
        }
        Err(Failed::Writing(error)) => {
            complain("cp", &destination, error);
            FAILED
        }
    }
}

fn copy(source: &str, destination: &str) -> Result<(), Failed> {
    let input = user::open(source, 0, 0).map_err(Failed::Reading)?;
    let from = user::fstat(input).map_err(Failed::Reading)?;
    if let Ok(to) = user::stat(destination)
        && (to.device, to.inode) == (from.device, from.inode)
    {
        // Truncating the destination would empty the source.
        return Err(Failed::Writing(refault_rt::Errno::EEXIST));
    }
    let output =
        user::open(destination, O_WRONLY | O_CREAT | O_TRUNC, from.mode & 0o777).map_err(Failed::Writing)?;
    for_each_piece(input, |piece| write_all(output, piece))?;
    user::close(output).map_err(Failed::Writing)
}
