//! The shell's own commands: those that change the shell, or are about it.

use alloc::string::String;

use refault_rt::{eprintln, println, user};

use super::run::Shell;
use crate::USAGE;
use crate::reason::reason;

/// Their names.
const NAMES: [&str; 8] = ["cd", "exit", "help", "status", "wait", "true", "false", ":"];

/// What `help` says.
const HELP: &str = "\
Programs: cat cp echo faults grants kill ln ls mkdir mv ps rm rmdir softread sum sync touch; a path runs a file.
Own commands: cd [DIR], exit [STATUS], help, status, wait, true, false.
a | b   a > f   a >> f   a < f   2>&1   a ; b   a && b   a || b   a &   'quoted'   \"$?\"
Ctrl-C ends the running program, Ctrl-D at the beginning of a line ends the input.";

/// Whether the shell itself runs a command of this name.
pub fn is_builtin(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Runs it; `None` when it is none of the shell's own.
pub fn run(shell: &mut Shell, words: &[String]) -> Option<i32> {
    let (name, arguments) = words.split_first()?;
    let argument = arguments.first().map(String::as_str);
    Some(match name.as_str() {
        "cd" => match user::chdir(argument.unwrap_or("/")) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("sh: cd: {}: {} ({error})", argument.unwrap_or("/"), reason(error));
                1
            }
        },
        "exit" => {
            let status = argument.map_or(Some(shell.status), |text| text.parse().ok());
            match status {
                Some(status) => {
                    shell.exit = Some(status);
                    status
                }
                None => {
                    eprintln!("sh: exit: the status must be a number");
                    USAGE
                }
            }
        }
        "help" => {
            println!("{HELP}");
            0
        }
        "status" => {
            println!("{}", shell.status);
            shell.status
        }
        "wait" => shell.wait_for_jobs(),
        "true" | ":" => 0,
        "false" => 1,
        _ => return None,
    })
}
