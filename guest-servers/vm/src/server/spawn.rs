//! Making processes, out of programs of the boot image or as copies, and ending them.

use alloc::vec::Vec;

use refault_abi::bugs::Bug;
use refault_abi::counters::Counter;
use refault_abi::kcall::{Target, privilege};
use refault_abi::layout::{INFO, STATS, STUB, pte};
use refault_abi::{Endpoint, Errno, Result, vfs, vm};
use refault_rt::{info, kernel};
use refault_vm::load::{Shared, Source};
use refault_vm::memory::{Refusal, Unmapped};
use refault_vm::process::Process;
use refault_vm::{archive, arguments, elf, load};

use super::mapping::flush;
use super::{Server, Slot};

/// How a process begins.
pub struct Start {
    /// First instruction.
    pub entry: u64,
    /// Stack pointer and address of the arguments.
    pub stack: u64,
}

impl Start {
    /// Lets the process run.
    pub fn go(&self, process: &Process) -> Result<()> {
        kernel::proc_start(process.endpoint, self.entry, self.stack, self.stack, process.root)
    }
}

impl Server {
    /// SPAWN: copies the strings from PM and makes the process.
    pub fn spawn(&mut self, request: &vm::Spawn) -> Result<u64> {
        let block = self.strings(request.address, request.bytes)?;
        if !matches!(request.privilege, privilege::USER | privilege::TEST) {
            return Err(Errno::EPERM);
        }
        let words: Vec<&[u8]> = arguments::words(&block).collect();
        let name = words.first().and_then(|name| core::str::from_utf8(name).ok()).ok_or(Errno::ENOENT)?;
        let members = &mut archive::members(self.image);
        let file =
            members.find(|member| member.name.strip_prefix("bin/") == Some(name)).ok_or(Errno::ENOENT)?;
        let endpoint = self.create(file.data, &words, name, None, request.privilege, request.priority)?;
        Ok(u64::try_from(endpoint.raw()).unwrap_or(0))
    }

    /// A process that does not run yet.
    pub fn create(
        &mut self,
        file: &[u8],
        words: &[&[u8]],
        name: &str,
        slot: Option<i32>,
        privilege: u32,
        priority: u32,
    ) -> Result<Endpoint> {
        let program = elf::parse(file).ok_or(Errno::ENOEXEC)?;
        let stack = arguments::layout(words.iter().copied())?;
        let endpoint = kernel::proc_create(slot, name, privilege, priority)?;
        let shared = self.shared_pages(endpoint, privilege);
        match load::build(
            &mut self.memory,
            endpoint,
            privilege,
            (&program, Source::Image(file)),
            &stack,
            &shared,
        ) {
            Ok(process) => {
                self.put(Slot { process, start: Some(Start { entry: program.entry, stack: stack.address }) });
                Ok(endpoint)
            }
            Err(error) => {
                // The slot was only reserved: giving it back cannot fail in a way that matters.
                let _ = kernel::proc_exit(endpoint);
                Err(error)
            }
        }
    }

    /// The kernel's pages a process gets to see: all the stub, servers, tests and INIT the information page, servers the counters,
    /// which tests can only read.
    pub fn shared_pages(&self, endpoint: Endpoint, privilege: u32) -> Vec<Shared> {
        let hidden = if self.info.no_execute != 0 { pte::NO_EXECUTE } else { 0 };
        let mut pages = Vec::from([Shared { address: STUB, gpa: self.info.stub, bits: 0 }]);
        if privilege != privilege::USER || endpoint == Endpoint::INIT {
            pages.push(Shared { address: INFO, gpa: self.info.info, bits: hidden });
        }
        match privilege {
            privilege::SERVER | privilege::DRIVER => {
                pages.push(Shared { address: STATS, gpa: self.info.stats, bits: pte::WRITABLE | hidden });
            }
            privilege::TEST => pages.push(Shared { address: STATS, gpa: self.info.stats, bits: hidden }),
            _ => {}
        }
        pages
    }

    /// FORK: the address space first, so that a failure has made nobody.
    pub fn fork(&mut self, request: &vm::Fork) -> Result<u64> {
        let parent = Endpoint::from_raw(request.parent);
        let slot = self.take(parent)?;
        let forked = self.memory.fork(&slot.process, &[STUB, INFO, STATS]);
        self.put(slot);
        // Also after a failure: pages may have become read-only.
        flush(parent, 0, 0);
        let mut forked = forked.map_err(|refusal| match refusal {
            Refusal::Invalid | Refusal::PastEnd | Refusal::Poisoned => Errno::EPERM,
            Refusal::NoMemory => Errno::ENOMEM,
        })?;
        match kernel::proc_fork(parent, forked.process.root) {
            Ok(child) => {
                info::count(Counter::VmForkShared, forked.shared);
                forked.process.endpoint = child;
                self.put(Slot { process: forked.process, start: None });
                u64::try_from(child.raw()).map_err(|_| Errno::EINVAL)
            }
            Err(error) => {
                let unmapped = self.memory.destroy(&mut forked.process);
                self.release(unmapped);
                Err(error)
            }
        }
    }

    /// EXIT: the kernel forgets the process first, so that nothing of it runs while its memory goes.
    pub fn exit(&mut self, target: &Target) -> Result<u64> {
        let endpoint = Endpoint::from_raw(target.endpoint);
        let mut slot = self.take(endpoint)?;
        if let Err(error) = kernel::proc_exit(endpoint) {
            self.put(slot);
            return Err(error);
        }
        if matches!(slot.process.privilege, privilege::SERVER | privilege::DRIVER) {
            self.bury_server(&slot.process);
        }
        if self.pending.brings_in_for(endpoint) {
            info::count(Counter::VmEndedMeanwhile, 1);
            if Bug::LeakFrameOnDeath.is(self.options.bug) {
                self.memory.frames.acquire(slot.process.root);
            }
        }
        let unmapped = self.memory.destroy(&mut slot.process);
        self.release(unmapped);
        self.forget_jobs(endpoint);
        Ok(0)
    }

    /// Tells VFS which files are no longer mapped.
    pub fn release(&mut self, unmapped: Unmapped) {
        for handle in unmapped.handles {
            self.release_handle(handle);
        }
    }

    /// Tells VFS that a pin is not needed any more.
    pub fn release_handle(&mut self, handle: u64) {
        let call = vfs::VmCall { operation: vfs::RELEASE, handle, ..vfs::VmCall::default() };
        self.call_vfs(&call);
    }
}
