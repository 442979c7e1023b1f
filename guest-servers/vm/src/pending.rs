//! The requests that VFS has not answered, and who waits for each.
//!
//! The one thing to hold in mind: a process may die at any moment, its requests may not. An answer finds its request here although
//! nobody waits for it any more. In the seed's way one request is with VFS at a time, and of the others the youngest goes next
//! (specification 4.3); ours are all with VFS at once, and jobs for the same page share one.

use alloc::vec::Vec;

use refault_abi::Endpoint;
use refault_abi::vfs::VmCall;

use crate::jobs::{Asked, Exec, Job, Purpose};

/// The requests.
#[derive(Debug, Default)]
pub struct Pending {
    list: Vec<(u64, Asked)>,
    last: u64,
    /// One at a time.
    single: bool,
    /// The one that is with VFS, if it is one at a time.
    current: Option<u64>,
    /// Requests that are not with VFS yet; the last goes first.
    held: Vec<VmCall>,
}

/// What a dead process leaves undone.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "somebody alive may be waiting for it"]
pub struct Orphans {
    /// Jobs for which somebody else waits.
    pub jobs: Vec<Job>,
    /// Programs that nobody will run.
    pub execs: Vec<Exec>,
}

impl Pending {
    /// None. `single`: one is with VFS at a time.
    pub const fn new(single: bool) -> Pending {
        Pending { list: Vec::new(), last: 0, single, current: None, held: Vec::new() }
    }

    /// Remembers a request. Answers its id, never 0, and the call if it is to be made now.
    pub fn add(&mut self, asked: Asked, call: VmCall) -> (u64, Option<VmCall>) {
        self.last = self.last.wrapping_add(1).max(1);
        self.list.push((self.last, asked));
        let call = VmCall { request: self.last, ..call };
        if !self.single {
            return (self.last, Some(call));
        }
        self.held.push(call);
        (self.last, self.next())
    }

    /// The request that is with VFS, if it is one at a time.
    pub fn current(&self) -> Option<u64> {
        self.current
    }

    /// The next call to make, if it is one at a time and none is with VFS.
    fn next(&mut self) -> Option<VmCall> {
        if self.current.is_some() {
            return None;
        }
        let call = self.held.pop()?;
        self.current = Some(call.request);
        Some(call)
    }

    /// Lets `job` wait for a request that already covers the page, and answers its id; gives the job back when there is none.
    pub fn join(&mut self, device: u64, inode: u64, offset: u64, job: Job) -> Result<u64, Job> {
        for (id, asked) in self.list.iter_mut().filter(|_| !self.single) {
            if let Asked::PageIn { device: d, inode: i, offset: start, length, jobs } = asked {
                let covered = offset.checked_sub(*start).is_some_and(|skip| skip < *length);
                if *d == device && *i == inode && covered {
                    jobs.push(job);
                    return Ok(*id);
                }
            }
        }
        Err(job)
    }

    /// The request with this id, which is answered now, and the call to make instead.
    pub fn take(&mut self, id: u64) -> (Option<Asked>, Option<VmCall>) {
        let index = self.list.iter().position(|(each, _)| *each == id);
        if self.current == Some(id) {
            self.current = None;
        }
        // A held request cannot be answered: whoever answers it invents the answer.
        let index = index.filter(|_| self.held.iter().all(|call| call.request != id));
        (index.map(|index| self.list.swap_remove(index).1), self.next())
    }

    /// Requests not answered.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether pages of `target` are being brought in.
    pub fn brings_in_for(&self, target: Endpoint) -> bool {
        self.list.iter().any(|(_, asked)| match asked {
            Asked::PageIn { jobs, .. } => jobs.iter().any(|job| job.target == target),
            _ => false,
        })
    }

    /// Takes out what was to be done for a process that is gone, and answers what others wait for of it. Requests that are with
    /// VFS stay: their answers come.
    pub fn forget(&mut self, gone: Endpoint) -> Orphans {
        let mut orphans = Orphans::default();
        let held = &mut self.held;
        self.list.retain_mut(|(id, asked)| {
            let is_held = held.iter().any(|call| call.request == *id);
            let wanted = match asked {
                Asked::PageIn { jobs, .. } => {
                    jobs.retain(|job| !orphans.takes(job, gone));
                    !jobs.is_empty()
                }
                Asked::Lookup { caller, .. } => *caller != gone,
                Asked::Program(exec) => {
                    let orphan = exec.process == gone;
                    if orphan {
                        orphans.execs.push(exec.clone());
                        // The answer finds a request of nobody's.
                        *asked =
                            Asked::PageIn { device: 0, inode: 0, offset: 0, length: 0, jobs: Vec::new() };
                    }
                    !orphan
                }
            };
            if is_held && !wanted {
                held.retain(|call| call.request != *id);
            }
            wanted || !is_held
        });
        orphans
    }
}

impl Orphans {
    /// Whether `job` ends because `gone` is gone; kept if somebody else waits for it.
    fn takes(&mut self, job: &Job, gone: Endpoint) -> bool {
        match job.purpose {
            Purpose::Fault => job.target == gone,
            Purpose::KernelCall { requestor } => {
                if requestor != gone && job.target == gone {
                    self.jobs.push(*job);
                }
                requestor == gone || job.target == gone
            }
            Purpose::HandleMem(asker) => {
                if asker.endpoint != gone && job.target == gone {
                    self.jobs.push(*job);
                }
                asker.endpoint == gone || job.target == gone
            }
        }
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
