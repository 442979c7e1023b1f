//! What a line's tokens mean: pipelines, and when each of them runs.

use alloc::vec::Vec;

use super::lexer::{Token, Word, Wrong, tokens};

/// Where a descriptor of a command leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Reads a file.
    Read(Word),
    /// Writes a file from its beginning.
    Write(Word),
    /// Writes behind a file's end.
    Append(Word),
    /// Where that descriptor leads.
    Descriptor(i32),
}

/// A program or a command of the shell's own, with its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The name first.
    pub words: Vec<Word>,
    /// In the order in which they are made.
    pub redirections: Vec<(i32, Target)>,
}

/// When a pipeline runs, after the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In any case.
    Always,
    /// If it succeeded.
    Succeeded,
    /// If it failed.
    Failed,
}

/// Commands, each reading what the one before it writes.
pub type Pipeline = Vec<Command>;

/// Pipelines that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The pipelines, with what each depends on.
    pub pipelines: Vec<(When, Pipeline)>,
    /// Nobody waits for it.
    pub background: bool,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Its words.
    Words(Wrong),
    /// An operator where a command was expected.
    CommandMissing,
    /// A redirection without a file.
    FileMissing,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Words(Wrong::Quote(mark)) => write!(f, "{mark} is not closed"),
            Error::Words(Wrong::Backslash) => f.write_str("nothing behind the backslash"),
            Error::Words(Wrong::Duplicate) => f.write_str(">& needs the number of a descriptor"),
            Error::CommandMissing => f.write_str("a command is missing"),
            Error::FileMissing => f.write_str("a redirection needs a file"),
        }
    }
}

/// Understands a line.
pub fn parse(line: &str) -> Result<Vec<Job>, Error> {
    let mut jobs = Vec::new();
    let mut job = Job::default();
    let mut pipeline = Pipeline::new();
    let mut command = Command::default();
    let mut when = When::Always;
    let mut left = tokens(line).map_err(Error::Words)?.into_iter();
    while let Some(token) = left.next() {
        let mut file = || match left.next() {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(Error::FileMissing),
        };
        match token {
            Token::Word(word) => command.words.push(word),
            Token::Less(descriptor) => command.redirections.push((descriptor, Target::Read(file()?))),
            Token::Great(descriptor) => command.redirections.push((descriptor, Target::Write(file()?))),
            Token::Append(descriptor) => command.redirections.push((descriptor, Target::Append(file()?))),
            Token::Duplicate(descriptor, from) => {
                command.redirections.push((descriptor, Target::Descriptor(from)));
            }
            Token::Pipe => pipeline.push(complete(&mut command)?),
            Token::And | Token::Or => {
                pipeline.push(complete(&mut command)?);
                job.pipelines.push((when, core::mem::take(&mut pipeline)));
                when = if token == Token::And { When::Succeeded } else { When::Failed };
            }
            Token::Then | Token::Background => {
                let empty = command == Command::default() && pipeline.is_empty();
                if empty && when == When::Always && token == Token::Then {
                    continue;
                }
                pipeline.push(complete(&mut command)?);
                job.pipelines.push((when, core::mem::take(&mut pipeline)));
                job.background = token == Token::Background;
                jobs.push(core::mem::take(&mut job));
                when = When::Always;
            }
        }
    }
    if command != Command::default() || !pipeline.is_empty() || when != When::Always {
        pipeline.push(complete(&mut command)?);
        job.pipelines.push((when, pipeline));
        jobs.push(job);
    }
    Ok(jobs)
}

/// A command at its end.
fn complete(command: &mut Command) -> Result<Command, Error> {
    if command.words.is_empty() { Err(Error::CommandMissing) } else { Ok(core::mem::take(command)) }
}

#[cfg(test)]
#[path = "syntax_tests.rs"]
mod tests;
