//! `sh`, `sh FILE`, `sh -c WORD...`: the shell. Reads lines from descriptor 0, from a script, or takes its arguments, joined
//! by blanks, as one line.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_apps::shell::run::Shell;
use refault_apps::shell::syntax;
use refault_apps::{USAGE, files};
use refault_rt::start::Args;
use refault_rt::user::{self, Descriptor};
use refault_rt::{Errno, Result, eprintln, print};

refault_rt::entry!(main);

/// Standard input.
const INPUT: Descriptor = 0;
/// Longest line of a script.
const LINE_MAX: usize = 4096;

fn main(mut args: Args) -> i32 {
    let mut shell = Shell::default();
    match args.nth(1) {
        Some("-c") => {
            let words: Vec<&str> = args.collect();
            line(&mut shell, &words.join(" "));
        }
        Some(path) => match user::open(path, 0, 0) {
            Ok(script) => lines(&mut shell, script),
            Err(error) => {
                files::complain("sh", path, error);
                return USAGE;
            }
        },
        None => {
            const CHARACTER_DEVICE: u32 = 0o020000;
            let kind = user::fstat(INPUT).map(|stat| stat.mode & 0o170000);
            shell.interactive = kind == Ok(CHARACTER_DEVICE);
            lines(&mut shell, INPUT);
        }
    }
    shell.exit.unwrap_or(shell.status)
}

/// Runs line after line, until the end or `exit`.
fn lines(shell: &mut Shell, from: Descriptor) {
    while shell.exit.is_none() {
        if shell.interactive {
            shell.mention_ended();
            // Whatever ran before has ended. Without PM nobody could interrupt anything.
            let _ = user::foreground();
            print!("$ ");
        }
        let text = if shell.interactive { typed_line(from) } else { script_line(from) };
        match text {
            Ok(Some(text)) => line(shell, &text),
            Ok(None) => {
                if shell.interactive {
                    // Behind the prompt.
                    refault_rt::println!();
                }
                return;
            }
            // The interrupt character: a new prompt.
            Err(Errno::EINTR) => shell.status = 130,
            Err(error) => {
                files::complain("sh", "standard input", error);
                shell.status = 1;
                return;
            }
        }
    }
}

/// Runs one line.
fn line(shell: &mut Shell, text: &str) {
    match syntax::parse(text) {
        Ok(jobs) => shell.run(&jobs),
        Err(error) => {
            eprintln!("sh: {error}");
            shell.status = USAGE;
        }
    }
}

/// A line from the terminal, which gives one at a time. `None` at the end.
fn typed_line(from: Descriptor) -> Result<Option<String>> {
    let mut buffer = vec![0; LINE_MAX];
    let count = user::read(from, &mut buffer)?;
    buffer.truncate(count);
    Ok(if count == 0 { None } else { Some(String::from_utf8_lossy(&buffer).into_owned()) })
}

/// A line from a file or a pipe, byte by byte: what comes behind it may be meant for a program that reads the same input.
fn script_line(from: Descriptor) -> Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match user::read(from, &mut byte)? {
            0 if line.is_empty() => return Ok(None),
            0 => break,
            _ => line.extend(byte),
        }
        if byte == [b'\n'] || line.len() >= LINE_MAX {
            break;
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}
