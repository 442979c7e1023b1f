//! Making pages present: for page faults, for suspended kernel calls and for VFS.

use alloc::vec::Vec;

use refault_abi::bugs::Bug;
use refault_abi::counters::Counter;
use refault_abi::ipc::senda;
use refault_abi::kcall::{VmCtl, vmctl};
use refault_abi::layout::{PAGE, USER_END, page_ceil, page_floor, pte};
use refault_abi::{Endpoint, Errno, Message, pm, vfs, vm};
use refault_rt::{info, kernel};
use refault_vm::cache::Key;
use refault_vm::files::{File, FileId};
use refault_vm::jobs::{Asked, Asker, Job, Purpose};
use refault_vm::memory::{Access, How, Outcome, Refusal};
use refault_vm::process::Process;
use refault_vm::regions::Backing;
use refault_vm::tables;

use super::Server;
use super::mapping::flush;

/// Most bytes asked of VFS at once.
pub const PAGE_IN_MAX: u64 = 16 * PAGE;

/// Why a job failed.
pub enum Failure {
    /// The pages cannot be there.
    Refused(Refusal),
    /// The file system could not provide them.
    NoPage,
    /// The process is gone.
    Gone,
}

/// How far a job has come.
enum Progress {
    /// Every page is there.
    Done,
    /// One cannot be.
    Failed(Failure),
    /// The next one has to come from a file system.
    Missing {
        /// The file.
        file: FileId,
        /// Offset in it.
        offset: u64,
        /// Where the region of the page ends.
        region_end: u64,
    },
}

impl Failure {
    fn errno(&self) -> Errno {
        match self {
            Failure::Refused(refusal) => refusal.errno(),
            Failure::NoPage => Errno::EIO,
            Failure::Gone => Errno::ESRCH,
        }
    }

    /// The signal of a process whose own access failed. The seed does not look for the reason.
    fn signal(&self, faithful: bool) -> u32 {
        match self {
            Failure::Refused(Refusal::Invalid) => pm::SIGSEGV,
            Failure::Refused(Refusal::PastEnd) | Failure::NoPage if faithful => pm::SIGSEGV,
            _ => pm::SIGBUS,
        }
    }
}

impl Server {
    /// A process touched a page that is not there, or not with that access.
    pub fn page_fault(&mut self, who: Endpoint, fault: &vm::PageFault) {
        info::count(Counter::VmPageFaults, 1);
        let address = page_floor(fault.address);
        let away = fault.flags & u64::from(vm::FAULT_SECOND_STAGE) != 0;
        if let Ok(slot) = self.slot(who)
            && away
        {
            self.ask_back(&slot.process, address);
        }
        let job = Job {
            purpose: Purpose::Fault,
            target: who,
            next: address,
            end: address.saturating_add(PAGE),
            // Bits of the processor's error code: Intel SDM volume 3, 4.7.
            access: Access { write: fault.error & 2 != 0, fetch: fault.error & 16 != 0 },
            address: fault.address,
            away: !away,
            asked: None,
        };
        self.work(job);
    }

    /// The kernel has suspended calls.
    pub fn kernel_requests(&mut self) {
        loop {
            let get = VmCtl { operation: vmctl::MEMREQ_GET, ..VmCtl::default() };
            // ENOENT: that was all of them.
            let Ok(request) = kernel::vmctl(&get) else { return };
            info::count(Counter::VmMemRequests, 1);
            let requestor = Endpoint::from_raw(request.requestor);
            let access = Access { write: request.value != 0, fetch: false };
            let away = request.flags & vm::FAULT_SECOND_STAGE != 0;
            let target = Endpoint::from_raw(request.endpoint);
            self.range(
                Purpose::KernelCall { requestor },
                target,
                request.address,
                request.bytes,
                access,
                away,
            );
        }
    }

    /// HANDLEMEM.
    pub fn handle_mem(&mut self, asker: Asker, request: &vm::HandleMem) {
        info::count(Counter::VmHandleMem, 1);
        let access = Access { write: request.write != 0, fetch: false };
        let target = Endpoint::from_raw(request.endpoint);
        let away = !Bug::NeverAsksBack.is(self.options.bug);
        let length = self.handled(request);
        self.range(Purpose::HandleMem(asker), target, request.address, length, access, away);
    }

    /// The bytes of a HANDLEMEM to make present.
    fn handled(&self, request: &vm::HandleMem) -> u64 {
        let first_page = PAGE - request.address % PAGE;
        if Bug::MapFirstPageOnly.is(self.options.bug) {
            request.length.min(first_page)
        } else {
            request.length
        }
    }

    /// HANDLEMEM_NOW: what needs no file system. EAGAIN for the rest.
    pub fn handle_mem_now(&mut self, request: &vm::HandleMem) -> refault_abi::Result<u64> {
        let length = self.handled(request);
        let end = request.address.checked_add(length).filter(|end| *end <= USER_END).ok_or(Errno::EFAULT)?;
        let mut job = Job {
            // Nobody is told: the answer is the caller's.
            purpose: Purpose::KernelCall { requestor: Endpoint::NONE },
            target: Endpoint::from_raw(request.endpoint),
            next: page_floor(request.address),
            end: page_ceil(end),
            access: Access { write: request.write != 0, fetch: false },
            address: request.address,
            away: !Bug::NeverAsksBack.is(self.options.bug),
            asked: None,
        };
        let result = match self.advance(&mut job) {
            Progress::Done => Ok(0),
            Progress::Failed(failure) => Err(failure.errno()),
            Progress::Missing { .. } => return Err(Errno::EAGAIN),
        };
        info::count(Counter::VmHandleMem, 1);
        result
    }

    /// Begins a job over a range that somebody else chose.
    fn range(
        &mut self,
        purpose: Purpose,
        target: Endpoint,
        address: u64,
        bytes: u64,
        access: Access,
        away: bool,
    ) {
        let end = address.checked_add(bytes).filter(|end| *end <= USER_END);
        let mut job =
            Job { purpose, target, next: page_floor(address), end: 0, access, address, away, asked: None };
        match end {
            Some(end) => {
                job.end = page_ceil(end);
                self.work(job);
            }
            None => self.finish(&job, Err(Failure::Refused(Refusal::Invalid))),
        }
    }

    /// Asks the doorbell for the page that is mapped at `address`.
    fn ask_back(&self, process: &Process, address: u64) {
        let entry = tables::lookup(&self.memory.ram, process.root, address);
        if entry != 0 {
            self.doorbell.page_back(entry & pte::ADDRESS);
        }
    }

    /// Goes on with a job until it is done or has to wait.
    fn work(&mut self, mut job: Job) {
        match self.advance(&mut job) {
            Progress::Done => self.finish(&job, Ok(())),
            Progress::Failed(failure) => self.finish(&job, Err(failure)),
            Progress::Missing { file, offset, region_end } => self.page_in(job, file, offset, region_end),
        }
    }

    /// Makes as many of a job's pages present as can be without anybody else.
    fn advance(&mut self, job: &mut Job) -> Progress {
        while job.next < job.end {
            let Ok(slot) = self.take(job.target) else { return Progress::Failed(Failure::Gone) };
            let process = &slot.process;
            let ranged = job.purpose != Purpose::Fault;
            if ranged && job.away {
                self.ask_back(process, job.next);
            }
            let before = tables::lookup(&self.memory.ram, process.root, job.next);
            let asked = job.asked == Some(job.next);
            let outcome = self.memory.resolve(process, job.next, job.access, asked);
            let region_end = process.regions.find(job.next).map_or(0, |region| region.end);
            self.put(slot);
            match outcome {
                Outcome::Ready { frame, how } => {
                    match how {
                        // A fault on a page that is there, and that nobody has asked back yet.
                        How::Already if !ranged && job.away => self.doorbell.page_back(frame),
                        How::Copied => {
                            info::count(Counter::VmCopyOnWrite, 1);
                            if before != 0 && ranged {
                                flush(job.target, job.next, PAGE);
                            }
                        }
                        How::Cached => info::count(Counter::VmCacheHits, 1),
                        How::OneShot => info::count(Counter::VmOneShot, 1),
                        _ => {}
                    }
                    job.next = job.next.saturating_add(PAGE);
                }
                Outcome::Refused(refusal) => return Progress::Failed(Failure::Refused(refusal)),
                Outcome::Missing { file, offset } => return Progress::Missing { file, offset, region_end },
            }
        }
        Progress::Done
    }

    /// Lets the job wait for a page of a file.
    fn page_in(&mut self, job: Job, file: FileId, offset: u64, region_end: u64) {
        // VFS cannot be asked to help itself: it would have to answer while it waits.
        let vfs_waits = match job.purpose {
            Purpose::KernelCall { requestor } => requestor == Endpoint::VFS,
            Purpose::Fault => job.target == Endpoint::VFS,
            Purpose::HandleMem(_) => false,
        };
        let Some(&info) = self.memory.files.get(file) else {
            return self.finish(&job, Err(Failure::NoPage));
        };
        if vfs_waits {
            return self.finish(&job, Err(Failure::Refused(Refusal::Invalid)));
        }
        if job.asked == Some(job.next) {
            return self.finish(&job, Err(Failure::NoPage));
        }
        let waiter = job.waiter();
        let job = match self.pending.join(info.device, info.inode, offset, job) {
            Ok(request) => return self.waits.page_in(request, waiter),
            Err(job) => job,
        };
        // As many pages as the job needs next and the cache does not have. The seed asks for one.
        let most = job.end.min(region_end).saturating_sub(job.next).min(PAGE_IN_MAX);
        let mut length = PAGE;
        while !self.faithful() && length < most && offset.saturating_add(length) < info.size {
            let key = Key { device: info.device, inode: info.inode, offset: offset.saturating_add(length) };
            if self.memory.cache.get(key).is_some() {
                break;
            }
            length += PAGE;
        }
        let asked =
            Asked::PageIn { device: info.device, inode: info.inode, offset, length, jobs: Vec::from([job]) };
        self.ask_pages(asked, &info, offset, length, waiter);
    }

    /// Asks VFS for pages of a file.
    pub fn ask_pages(&mut self, asked: Asked, file: &File, offset: u64, length: u64, waiter: Endpoint) {
        info::count(Counter::VmFilePages, length / PAGE);
        let handle = file.handle;
        self.ask_vfs(
            asked,
            vfs::VmCall { operation: vfs::PAGEIN, handle, offset, length, ..vfs::VmCall::default() },
            waiter,
        );
    }

    /// VFS has answered.
    pub fn vfs_reply(&mut self, reply: &vm::VfsReply) {
        let result = Errno::check(reply.result);
        let (asked, next) = self.pending.take(reply.request);
        self.waits.over(reply.request);
        if let Some(call) = next {
            self.waits.begins(call.request);
            self.call_vfs(&call);
        }
        match asked {
            Some(Asked::Lookup { caller, mapping }) => {
                let mapped = result.and_then(|_| {
                    let mapped = self.map_file(caller, &mapping, reply);
                    if mapped.is_err() {
                        self.release_handle(reply.handle);
                    }
                    mapped
                });
                self.answer_late(caller, mapped);
            }
            Some(Asked::PageIn { device, inode, jobs, .. }) => {
                self.note_size(reply, device, inode);
                for (index, mut job) in jobs.into_iter().enumerate() {
                    if let (true, Purpose::KernelCall { .. } | Purpose::HandleMem(_), Err(_)) =
                        (self.faithful(), job.purpose, result)
                    {
                        self.finish(&job, Err(Failure::NoPage));
                        continue;
                    }
                    // A page that serves once may have served somebody who waited for the same request: whoever did not ask
                    // himself may still ask.
                    if index == 0 || self.is_cached(&job) {
                        job.asked = Some(job.next);
                    }
                    self.work(job);
                }
            }
            Some(Asked::Program(exec)) => {
                self.note_size(reply, exec.file.device, exec.file.inode);
                self.go_on_with_exec(&exec, result.map(drop));
            }
            // An answer to nothing: VFS was asked on behalf of a table that no longer knows it.
            None => {}
        }
    }

    /// VFS has said how long a file is now.
    fn note_size(&mut self, reply: &vm::VfsReply, device: u64, inode: u64) {
        if reply.result >= 0 && (reply.device, reply.inode) == (device, inode) {
            self.memory.files.resize(device, inode, reply.size);
        }
    }

    /// Whether the page a job wants next is in the cache.
    fn is_cached(&self, job: &Job) -> bool {
        let region = self.slot(job.target).ok().and_then(|slot| slot.process.regions.find(job.next).copied());
        let Some(region) = region else { return false };
        let Backing::File { file, offset, .. } = region.backing else { return false };
        let Some(info) = self.memory.files.get(file) else { return false };
        let offset = offset.saturating_add(job.next.saturating_sub(region.start));
        self.memory.cache.get(Key { device: info.device, inode: info.inode, offset }).is_some()
    }

    /// A process is gone: whoever else waits for something of it hears about it.
    pub fn forget_jobs(&mut self, gone: Endpoint) {
        let orphans = self.pending.forget(gone);
        for job in &orphans.jobs {
            self.finish(job, Err(Failure::Gone));
        }
        for exec in &orphans.execs {
            self.release_handle(exec.file.handle);
            self.answer_asker(exec.asker, Err(Errno::ESRCH));
        }
    }

    /// Tells whoever waits.
    pub fn finish(&mut self, job: &Job, result: Result<(), Failure>) {
        match job.purpose {
            Purpose::Fault => match result {
                Ok(()) => {
                    let operation = vmctl::CLEAR_PAGEFAULT;
                    let clear = VmCtl { operation, endpoint: job.target.raw(), ..VmCtl::default() };
                    // Fails only when the process is gone.
                    let _ = kernel::vmctl(&clear);
                }
                Err(Failure::Gone) => {}
                Err(failure) => {
                    let killed = pm::Killed {
                        endpoint: job.target.raw(),
                        signal: failure.signal(self.faithful()),
                        address: job.address,
                    };
                    self.post(Endpoint::PM, Message::new(pm::KILLED, &killed), senda::NOREPLY);
                }
            },
            Purpose::KernelCall { requestor } => {
                let value = result.map_or_else(|failure| i64::from(failure.errno().code()), |()| 0);
                let reply = VmCtl {
                    operation: vmctl::MEMREQ_REPLY,
                    endpoint: job.target.raw(),
                    value,
                    requestor: requestor.raw(),
                    ..VmCtl::default()
                };
                // Fails only when the requestor is gone.
                let _ = kernel::vmctl(&reply);
            }
            Purpose::HandleMem(asker) => {
                self.answer_asker(asker, result.map(|()| 0).map_err(|failure| failure.errno()));
            }
        }
    }
}
