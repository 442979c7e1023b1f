//! What the command says, where nobody may be listening.
//!
//! The one thing to hold in mind: `println!` and its kin panic when the reader of a pipe has gone. A result that
//! nobody takes is a failure with a code of its own; a remark that nobody takes is dropped.

use std::fmt::Arguments;
use std::io::{self, Write as _};

use crate::exit_code::ExitCode;

use super::Failure;

/// Writes a result to standard output.
pub fn result(text: Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).map_err(|why| {
        Failure::new(ExitCode::Output, anyhow::anyhow!("standard output could not be written: {why}"))
    })
}

/// Says something on standard error.
pub fn remark(text: Arguments<'_>) {
    // Nobody is left to be told that nobody listens.
    let _ = io::stderr().lock().write_fmt(text);
}
