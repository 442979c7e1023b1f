//! Programs that do one thing to each of their paths.

use refault_rt::Result;
use refault_rt::start::Args;

use crate::files::complain;
use crate::{DONE, FAILED, USAGE};

/// Does `action` to every path named, whatever became of the others.
pub fn path(program: &str, args: Args, action: impl Fn(&str) -> Result<()>) -> i32 {
    let mut paths = args.skip(1).peekable();
    if paths.peek().is_none() {
        refault_rt::eprintln!("usage: {program} PATH...");
        return USAGE;
    }
    let mut status = DONE;
    for path in paths {
        if let Err(error) = action(path) {
            complain(program, path, error);
            status = FAILED;
        }
    }
    status
}
