//! `ls [-l] [PATH]...`: what is in directories, by name.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::vfs::{O_DIRECTORY, PATH_MAX, Stat};
use refault_apps::files::complain;
use refault_apps::status::{Moment, mode_text};
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::user::Entries;
use refault_rt::{Errno, user};

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    let mut long = false;
    let mut paths = Vec::new();
    for word in args.skip(1) {
        match word {
            "-l" => long = true,
            _ if word.starts_with('-') => {
                refault_rt::eprintln!("ls: {word}: unknown option\nusage: ls [-l] [PATH]...");
                return USAGE;
            }
            _ => paths.push(word),
        }
    }
    if paths.is_empty() {
        paths.push(".");
    }
    let several = paths.len() > 1;
    let mut status = DONE;
    for path in paths {
        match list(path, long, several) {
            Ok(outcome) => status = status.max(outcome),
            Err(error) => {
                complain("ls", path, error);
                status = FAILED;
            }
        }
    }
    status
}

/// The status: an entry that cannot be looked at is a failure, but no reason to keep the others back.
fn list(path: &str, long: bool, several: bool) -> Result<i32, Errno> {
    let mut status = DONE;
    let stat = user::lstat(path)?;
    if stat.mode & 0o170000 != 0o040000 {
        return Ok(show(path, path, &stat, long));
    }
    if several {
        refault_rt::println!("{path}:");
    }
    let mut names = names(path)?;
    names.sort();
    for name in names {
        let full = format!("{}/{name}", path.trim_end_matches('/'));
        match user::lstat(&full) {
            Ok(stat) => status = status.max(show(&full, &name, &stat, long)),
            Err(error) => {
                complain("ls", &full, error);
                status = FAILED;
            }
        }
    }
    Ok(status)
}

/// The names in a directory.
fn names(path: &str) -> Result<Vec<String>, Errno> {
    let directory = user::open(path, O_DIRECTORY, 0)?;
    let mut names = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        let count = user::getdents(directory, &mut buffer)?;
        let stored = buffer.get(..count).unwrap_or_default();
        if stored.is_empty() {
            break;
        }
        names.extend(Entries(stored).map(|(_, name)| name.to_string()));
    }
    user::close(directory)?;
    Ok(names)
}

fn show(path: &str, name: &str, stat: &Stat, long: bool) -> i32 {
    if !long {
        refault_rt::println!("{name}");
        return DONE;
    }
    let mut status = DONE;
    let mode = mode_text(stat.mode);
    let mode = core::str::from_utf8(&mode).unwrap_or("?");
    let mut target = String::new();
    if stat.mode & 0o170000 == 0o120000 {
        let mut bytes = vec![0; PATH_MAX as usize];
        target = match user::readlink(path, &mut bytes) {
            Ok(length) => format!(" -> {}", String::from_utf8_lossy(bytes.get(..length).unwrap_or_default())),
            Err(error) => {
                status = FAILED;
                format!(" -> ({error})")
            }
        };
    }
    refault_rt::println!(
        "{mode} {:>3} {:>4} {:>4} {:>10} {} {name}{target}",
        stat.links,
        stat.uid,
        stat.gid,
        stat.size,
        Moment(stat.mtime)
    );
    status
}
