//! Making pages present: for page faults, for suspended kernel calls and for VFS.

use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::ipc::senda;
use refault_abi::kcall::{VmCtl, vmctl};
use refault_abi::layout::{PAGE, USER_END, page_ceil, page_floor, pte};
use refault_abi::message::{REPLY, Status};
use refault_abi::{Endpoint, Errno, Message, pm, vfs, vm};
use refault_rt::{info, kernel};
use refault_vm::cache::Key;
use refault_vm::files::FileId;
use refault_vm::jobs::{Asked, Job, Purpose};
use refault_vm::memory::{Access, How, Outcome, Refusal};
use refault_vm::process::Process;
use refault_vm::tables;

use super::Server;
use super::mapping::flush;

/// Most bytes asked of VFS at once.
const PAGE_IN_MAX: u64 = 16 * PAGE;

/// Why a job failed.
enum Failure {
    /// The pages cannot be there.
    Refused(Refusal),
    /// The file system could not provide them.
    NoPage,
    /// The process is gone.
    Gone,
}

impl Failure {
    fn errno(&self) -> Errno {
        match self {
            Failure::Refused(refusal) => refusal.errno(),
            Failure::NoPage => Errno::EIO,
            Failure::Gone => Errno::ESRCH,
        }
    }

    /// The signal of a process whose own access failed.
    fn signal(&self) -> u32 {
        const SIGBUS: u32 = 7;
        const SIGSEGV: u32 = 11;
        match self {
            Failure::Refused(Refusal::Invalid) => SIGSEGV,
            _ => SIGBUS,
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
    pub fn handle_mem(&mut self, transaction: u16, request: &vm::HandleMem) {
        info::count(Counter::VmHandleMem, 1);
        let access = Access { write: request.write != 0, fetch: false };
        let target = Endpoint::from_raw(request.endpoint);
        self.range(Purpose::HandleMem { transaction }, target, request.address, request.length, access, true);
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
        while job.next < job.end {
            let Ok(slot) = self.take(job.target) else {
                return self.finish(&job, Err(Failure::Gone));
            };
            let process = &slot.process;
            let ranged = job.purpose != Purpose::Fault;
            if ranged && job.away {
                self.ask_back(process, job.next);
            }
            let before = tables::lookup(&self.memory.ram, process.root, job.next);
            let outcome = self.memory.resolve(process, job.next, job.access);
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
                        _ => {}
                    }
                    job.next = job.next.saturating_add(PAGE);
                }
                Outcome::Refused(refusal) => {
                    self.put(slot);
                    return self.finish(&job, Err(Failure::Refused(refusal)));
                }
                Outcome::Missing { file, offset } => {
                    let region_end = process.regions.find(job.next).map_or(0, |region| region.end);
                    self.put(slot);
                    return self.page_in(job, file, offset, region_end);
                }
            }
            self.put(slot);
        }
        self.finish(&job, Ok(()));
    }

    /// Lets the job wait for a page of a file.
    fn page_in(&mut self, job: Job, file: FileId, offset: u64, region_end: u64) {
        // VFS cannot be asked to help itself: it would have to answer while it waits.
        let vfs_waits = match job.purpose {
            Purpose::KernelCall { requestor } => requestor == Endpoint::VFS,
            Purpose::Fault => job.target == Endpoint::VFS,
            Purpose::HandleMem { .. } => false,
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
        let Some(job) = self.pending.join(info.device, info.inode, offset, job) else { return };
        // As many pages as the job needs next and the cache does not have.
        let most = job.end.min(region_end).saturating_sub(job.next).min(PAGE_IN_MAX);
        let mut length = PAGE;
        while length < most && offset + length < info.size {
            let key = Key { device: info.device, inode: info.inode, offset: offset + length };
            if self.memory.cache.get(key).is_some() {
                break;
            }
            length += PAGE;
        }
        info::count(Counter::VmFilePages, length / PAGE);
        let asked =
            Asked::PageIn { device: info.device, inode: info.inode, offset, length, jobs: Vec::from([job]) };
        let call = vfs::VmCall {
            operation: vfs::PAGEIN,
            request: self.pending.add(asked),
            handle: info.handle,
            offset,
            length,
            ..vfs::VmCall::default()
        };
        self.post(Endpoint::VFS, Message::new(vfs::VMCALL, &call), 0);
    }

    /// VFS has answered.
    pub fn vfs_reply(&mut self, reply: &vm::VfsReply) {
        let result = Errno::check(reply.result);
        match self.pending.take(reply.request) {
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
                if reply.size > 0 && (reply.device, reply.inode) == (device, inode) {
                    self.memory.files.resize(device, inode, reply.size);
                }
                for mut job in jobs {
                    if result.is_err() {
                        self.finish(&job, Err(Failure::NoPage));
                    } else {
                        job.asked = Some(job.next);
                        self.work(job);
                    }
                }
            }
            // An answer to nothing: VFS was asked on behalf of a table that no longer knows it.
            None => {}
        }
    }

    /// Tells whoever waits.
    fn finish(&mut self, job: &Job, result: Result<(), Failure>) {
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
                        signal: failure.signal(),
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
            Purpose::HandleMem { transaction } => {
                let status = Status::unit(result.map_err(|failure| failure.errno()));
                let reply = Message::new(REPLY, &status).with_transaction(transaction);
                self.post(Endpoint::VFS, reply, senda::NOREPLY);
            }
        }
    }
}
