//! VM in the tests: makes pages present, and asks VFS for those that belong to files.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::message::{REPLY, Status};
use refault_abi::options::Mode;
use refault_abi::vfs::{self, VmCall};
use refault_abi::{Errno, Message, vm};

use super::{MEMORY, State};

/// A range to be made present.
struct Job {
    /// VFS's request, or `None` for a copy of the file system that is suspended.
    message: Option<Message>,
    /// Page-ins it still waits for, with their pages.
    left: BTreeSet<(u64, u64)>,
}

pub(super) struct Memory {
    jobs: Vec<Job>,
    last_request: u64,
    /// The seed asks one thing at a time; the last that wants to ask is the next that does.
    one_at_a_time: bool,
    asking: bool,
    stack: Vec<Message>,
}

impl Memory {
    pub fn new(mode: Mode) -> Memory {
        let one_at_a_time = mode == Mode::Faithful;
        Memory { jobs: Vec::new(), last_request: 0, one_at_a_time, asking: false, stack: Vec::new() }
    }
}

impl State {
    /// Questions to VFS for the pages of a range that are not there; the others are there from now on.
    fn bring_in(&mut self, first: u64, last: u64, message: Option<Message>) -> Vec<Message> {
        let (mut calls, mut left) = (Vec::new(), BTreeSet::new());
        for page in first..=last {
            if !self.absent.contains(&page) {
                continue;
            }
            let Some((handle, offset)) = self.file_pages.get(&page).copied() else {
                self.absent.remove(&page);
                continue;
            };
            self.vm.last_request += 1;
            left.insert((self.vm.last_request, page));
            let call = VmCall {
                operation: vfs::PAGEIN,
                request: self.vm.last_request,
                handle,
                offset,
                length: PAGE,
                ..VmCall::default()
            };
            calls.push(Message::new(vfs::VMCALL, &call));
        }
        if !left.is_empty() {
            self.vm.jobs.push(Job { message, left });
        }
        calls
    }

    /// What of `calls` may be asked now.
    fn asked_now(&mut self, calls: Vec<Message>) -> Vec<Message> {
        if !self.vm.one_at_a_time {
            return calls;
        }
        self.vm.stack.extend(calls);
        self.next_question()
    }

    fn next_question(&mut self) -> Vec<Message> {
        if self.vm.asking {
            return Vec::new();
        }
        let next = self.vm.stack.pop();
        self.vm.asking = next.is_some();
        next.into_iter().collect()
    }

    /// VM's answer to HANDLEMEM_NOW: pages of files that are not there are not its to bring in alone.
    pub(super) fn handle_memory_now(&mut self, message: &Message) -> Message {
        let request: vm::HandleMem = message.get();
        let end = request.address + request.length;
        let pages = request.address / PAGE..=(end - 1) / PAGE;
        let of_file = |page| self.absent.contains(&page) && self.file_pages.contains_key(&page);
        let result = match request.endpoint {
            ..32768 => 0,
            _ if end > MEMORY as u64 => Errno::EFAULT.code().into(),
            _ if pages.clone().any(of_file) => Errno::EAGAIN.code().into(),
            _ => {
                self.absent.retain(|page| !pages.contains(page));
                0
            }
        };
        message.reply(REPLY, &Status { result })
    }

    /// VM's reaction to PROCCTL: an answer, or page-ins first.
    pub(super) fn handle_memory(&mut self, message: &Message) -> Vec<Message> {
        let request: vm::HandleMem = message.get();
        let end = request.address + request.length;
        if request.endpoint < 32768 {
            return vec![message.reply(REPLY, &Status { result: 0 })];
        }
        if end > MEMORY as u64 {
            return vec![message.reply(REPLY, &Status { result: Errno::EFAULT.code().into() })];
        }
        let calls = self.bring_in(request.address / PAGE, (end - 1) / PAGE, Some(*message));
        if calls.is_empty() {
            return vec![message.reply(REPLY, &Status { result: 0 })];
        }
        self.asked_now(calls)
    }

    /// The file system's copy met a page of a file without CPF_TRY: it is suspended, and VM asks.
    pub(super) fn suspend_on(&mut self, page: u64) {
        self.suspended += 1;
        let calls = self.bring_in(page, page, None);
        let now = self.asked_now(calls);
        self.suspended_calls.get_or_insert_default().extend(now);
    }

    /// Whether the file system has just been suspended, and what VM asks because of that.
    pub(super) fn suspended_on(&mut self) -> Option<Vec<Message>> {
        self.suspended_calls.take()
    }

    pub(super) fn suspended_pages_left(&self) -> bool {
        self.vm.jobs.iter().any(|job| job.message.is_none())
    }

    /// An answer of VFS to VM.
    pub(super) fn paged_in(&mut self, message: &Message) -> Vec<Message> {
        let reply: vm::VfsReply = message.get();
        let mut back = Vec::new();
        self.vm.asking = false;
        let absent = &mut self.absent;
        self.vm.jobs.retain_mut(|job| {
            job.left.retain(|(id, page)| {
                if *id == reply.request {
                    absent.remove(page);
                }
                *id != reply.request
            });
            if let Some(asked) = job.message.filter(|_| job.left.is_empty()) {
                back.push(asked.reply(REPLY, &Status { result: reply.result.min(0) }));
            }
            !job.left.is_empty()
        });
        back.extend(self.next_question());
        back
    }
}
