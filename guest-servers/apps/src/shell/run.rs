//! Running what a line means: pipes, descriptors, fork, exec, and waiting.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use refault_abi::vfs::{O_APPEND, O_CREAT, O_TRUNC, O_WRONLY};
use refault_rt::user::{self, Descriptor, Forked};
use refault_rt::{Endpoint, Errno, Result, eprintln};

use super::builtin;
use super::lexer::{Part, Word};
use super::syntax::{Command, Job, Pipeline, Target, When};
use crate::reason::reason;

/// Status of a program that is not there, and of one that cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_RUN: i32 = 126;

/// The shell's state.
#[derive(Debug, Default)]
pub struct Shell {
    /// Status of the last command.
    pub status: i32,
    /// Somebody is typing.
    pub interactive: bool,
    /// Background jobs under way.
    jobs: Vec<Endpoint>,
    /// Background jobs that ended, not yet mentioned.
    ended: Vec<(Endpoint, i64)>,
    /// Set by `exit`.
    pub exit: Option<i32>,
}

impl Shell {
    /// Runs jobs one after the other, until `exit`.
    pub fn run(&mut self, jobs: &[Job]) {
        for job in jobs {
            if job.background {
                self.background(job)
            } else {
                self.foreground(job)
            }
            if self.exit.is_some() {
                return;
            }
        }
    }

    fn foreground(&mut self, job: &Job) {
        for (when, pipeline) in &job.pipelines {
            let runs = match when {
                When::Always => true,
                When::Succeeded => self.status == 0,
                When::Failed => self.status != 0,
            };
            if runs {
                self.status = self.pipeline(pipeline);
            }
            if self.exit.is_some() {
                return;
            }
        }
    }

    /// A copy of the shell runs the job.
    fn background(&mut self, job: &Job) {
        match user::fork() {
            Ok(Forked::Child) => {
                self.jobs.clear();
                // What is typed is for the shell.
                let nothing = user::open("/dev/null", 0, 0).and_then(|opened| take_over(Some(opened), 0));
                if let Err(error) = nothing {
                    user::exit(failed("/dev/null", error));
                }
                self.foreground(job);
                user::exit(self.exit.unwrap_or(self.status));
            }
            Ok(Forked::Parent(child)) => {
                self.jobs.push(child);
                if self.interactive {
                    eprintln!("[{}]", child.raw());
                }
                self.status = 0;
            }
            Err(error) => self.status = failed("fork", error),
        }
    }

    /// Runs a pipeline and waits for all of it; the last command's status is its own.
    fn pipeline(&mut self, pipeline: &Pipeline) -> i32 {
        if let [command] = pipeline.as_slice()
            && let Some(status) = self.builtin(command)
        {
            return status;
        }
        let mut children = Vec::new();
        let mut input: Option<Descriptor> = None;
        let mut status = 0;
        for (index, command) in pipeline.iter().enumerate() {
            let last = index + 1 == pipeline.len();
            let pipe = match if last { Ok(None) } else { user::pipe().map(Some) } {
                Ok(pipe) => pipe,
                Err(error) => {
                    status = failed("pipe", error);
                    break;
                }
            };
            match user::fork() {
                Ok(Forked::Child) => self.child(command, input, pipe),
                Ok(Forked::Parent(child)) => children.push(child),
                Err(error) => status = failed("fork", error),
            }
            // The copies in the child are what counts now: an end left open here would never come to its end.
            close_all([input, pipe.map(|(_, output)| output)]);
            input = pipe.map(|(input, _)| input);
            if status != 0 {
                break;
            }
        }
        close_all([input, None]);
        let last = if status == 0 { children.last().copied() } else { None };
        self.wait_for(children, last).unwrap_or(status)
    }

    /// In the child: descriptors, then the program. Does not return.
    fn child(
        &mut self,
        command: &Command,
        input: Option<Descriptor>,
        pipe: Option<(Descriptor, Descriptor)>,
    ) -> ! {
        self.jobs.clear();
        let ready = take_over(input, 0)
            .and_then(|()| {
                close_all([pipe.map(|(input, _)| input), None]);
                take_over(pipe.map(|(_, output)| output), 1)
            })
            .map_err(|error| failed("pipe", error))
            .and_then(|()| self.redirect(command));
        if let Err(status) = ready {
            user::exit(status);
        }
        let words = self.words(command);
        if let Some(status) = builtin::run(self, &words) {
            user::exit(self.exit.unwrap_or(status));
        }
        let error = user::exec(words.iter().map(String::as_str));
        let name = words.first().map_or("", String::as_str);
        user::exit(match error {
            Errno::ENOENT => {
                eprintln!("sh: {name}: not found");
                NOT_FOUND
            }
            Errno::ENOEXEC => {
                eprintln!("sh: {name}: is no program");
                NOT_RUN
            }
            _ => {
                eprintln!("sh: {name}: {} ({error})", reason(error));
                NOT_RUN
            }
        })
    }

    /// Runs a command of the shell's own in the shell itself. `None` when it is none.
    fn builtin(&mut self, command: &Command) -> Option<i32> {
        let words = self.words(command);
        if !words.first().is_some_and(|name| builtin::is_builtin(name)) {
            return None;
        }
        let mut saved = Vec::new();
        for (descriptor, _) in &command.redirections {
            saved.push((*descriptor, user::dup(*descriptor, None).ok()));
        }
        let status = match self.redirect(command) {
            Ok(()) => builtin::run(self, &words),
            Err(status) => Some(status),
        };
        for (descriptor, copy) in saved.into_iter().rev() {
            // A descriptor that was closed before is closed again; nothing else can fail.
            let _ = take_over(copy, descriptor);
            if copy.is_none() {
                let _ = user::close(descriptor);
            }
        }
        status
    }

    /// Opens what a command's redirections name. The status when one cannot be.
    fn redirect(&self, command: &Command) -> core::result::Result<(), i32> {
        for (descriptor, target) in &command.redirections {
            let (word, flags) = match target {
                Target::Read(word) => (word, 0),
                Target::Write(word) => (word, O_WRONLY | O_CREAT | O_TRUNC),
                Target::Append(word) => (word, O_WRONLY | O_CREAT | O_APPEND),
                Target::Descriptor(from) => {
                    user::dup(*from, Some(*descriptor)).map_err(|error| failed(">&", error))?;
                    continue;
                }
            };
            let path = self.expand(word);
            user::open(&path, flags, 0o644)
                .and_then(|opened| take_over(Some(opened), *descriptor))
                .map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }

    fn words(&self, command: &Command) -> Vec<String> {
        command.words.iter().map(|word| self.expand(word)).collect()
    }

    fn expand(&self, word: &Word) -> String {
        let mut text = String::new();
        for part in word {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Status => text.push_str(&self.status.to_string()),
            }
        }
        text
    }

    /// Waits for all of `children`; answers the status of `last`.
    fn wait_for(&mut self, mut children: Vec<Endpoint>, last: Option<Endpoint>) -> Option<i32> {
        let mut result = None;
        while !children.is_empty() {
            let (child, status) = match user::wait() {
                Ok(ended) => ended,
                Err(error) => return Some(failed("wait", error)),
            };
            if Some(child) == last {
                result = i32::try_from(status).ok();
            }
            let before = children.len();
            children.retain(|waited| *waited != child);
            if children.len() == before {
                self.job_ended(child, status);
            }
        }
        result
    }

    fn job_ended(&mut self, child: Endpoint, status: i64) {
        self.jobs.retain(|job| *job != child);
        self.ended.push((child, status));
    }

    /// `wait`: all background jobs.
    pub fn wait_for_jobs(&mut self) -> i32 {
        let jobs = core::mem::take(&mut self.jobs);
        let last = jobs.last().copied();
        self.wait_for(jobs, last).unwrap_or(0)
    }

    /// Mentions background jobs that have ended.
    pub fn mention_ended(&mut self) {
        for (child, status) in self.ended.drain(..) {
            eprintln!("[{}] ended, status {status}", child.raw());
        }
    }
}

/// Makes `descriptor` what `from` is, and closes `from`.
fn take_over(from: Option<Descriptor>, descriptor: Descriptor) -> Result<()> {
    match from {
        Some(from) if from != descriptor => {
            user::dup(from, Some(descriptor))?;
            user::close(from)
        }
        _ => Ok(()),
    }
}

/// Closes what is open of them.
fn close_all(descriptors: [Option<Descriptor>; 2]) {
    for descriptor in descriptors.into_iter().flatten() {
        // An end of a pipe has nothing to lose.
        let _ = user::close(descriptor);
    }
}

/// Says what could not be done; answers the status for it.
fn failed(what: &str, error: Errno) -> i32 {
    eprintln!("sh: {what}: {} ({error})", reason(error));
    1
}
