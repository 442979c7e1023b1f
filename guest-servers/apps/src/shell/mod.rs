//! The shell: words and their quoting, what they mean, and running it.
//!
//! The one thing to hold in mind: a line is understood completely before any of it runs, and understanding it is plain
//! computation, tested on the host. Only `run` (in the guest) asks the system for anything.
//!
//! | written | meaning |
//! |---|---|
//! | `a ; b`, `a & b` | b after a; a in the background, and b |
//! | `a && b`, `a \|\| b` | b if a succeeded; if it failed |
//! | `a \| b` | a's output is b's input |
//! | `< f`, `> f`, `>> f`, `2> f`, `2>&1` | another file for a descriptor |
//! | `'...'`, `"..."`, `\x`, `# ...` | text as it is, a comment |
//! | `$?` | status of the last command |

pub mod lexer;
pub mod syntax;

#[cfg(feature = "guest")]
pub mod builtin;
#[cfg(feature = "guest")]
pub mod run;
