//! The `refault` command. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(refault::cli::main())
}
