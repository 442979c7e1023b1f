//! EXEC: another program for a process.
//!
//! The one thing to hold in mind: until the new address space is complete the old one is untouched, so a failure leaves the caller
//! as it was. The program's first page says where everything is, and may have to come from the disk first; everything else comes
//! in as it is touched.

use alloc::vec::Vec;

use refault_abi::kcall::privilege;
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Errno, Result, vm};
use refault_rt::kernel;
use refault_vm::cache::Key;
use refault_vm::elf::Program;
use refault_vm::files::{File, FileId};
use refault_vm::jobs::{Asked, Asker, Exec};
use refault_vm::load::Source;
use refault_vm::memory::{Access, Outcome};
use refault_vm::process::Process;
use refault_vm::ram::Ram;
use refault_vm::{archive, arguments, elf, load};

use super::pages::PAGE_IN_MAX;
use super::spawn::Start;
use super::{Server, Slot};

impl Server {
    /// EXEC. Whatever comes of it, the handle is VM's from now on.
    pub fn exec(&mut self, asker: Asker, request: &vm::Exec) {
        let file =
            File { handle: request.handle, device: request.device, inode: request.inode, size: request.size };
        let process = Endpoint::from_raw(request.endpoint);
        let exec = self.check_exec(process, request.privilege).and_then(|()| {
            let strings = self.strings(request.address, u64::from(request.bytes))?;
            Ok(Exec { process, privilege: request.privilege, file, strings, asker })
        });
        let result = match exec {
            Ok(exec) if file.handle == 0 => self.exec_image(&exec),
            Ok(exec) => match self.head(&file) {
                Some(_) => return self.go_on_with_exec(&exec, Ok(())),
                None => {
                    let most = if self.faithful() { PAGE } else { PAGE_IN_MAX };
                    let length = file.size.min(most).next_multiple_of(PAGE).max(PAGE);
                    return self.ask_pages(Asked::Program(exec), &file, 0, length, process);
                }
            },
            Err(error) => Err(error),
        };
        if result.is_err() && file.handle != 0 {
            self.release_handle(file.handle);
        }
        self.answer_asker(asker, result.map(|()| 0));
    }

    /// Only programs become other programs, and none becomes a server.
    fn check_exec(&self, process: Endpoint, class: u32) -> Result<()> {
        let program = |class| matches!(class, privilege::USER | privilege::TEST);
        if program(self.slot(process)?.process.privilege) && program(class) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// The strings of a SPAWN or an EXEC, from PM's memory.
    pub fn strings(&mut self, address: u64, bytes: u64) -> Result<Vec<u8>> {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| (1..=arguments::MAX_BYTES).contains(bytes));
        let mut block = Vec::from([0; arguments::MAX_BYTES]);
        block.truncate(bytes.ok_or(Errno::E2BIG)?);
        match kernel::copy_in(Endpoint::PM, address, &mut block, true).whole() {
            // PM has just written them. If a page is away all the same, nobody but VM brings it back: PM may be waiting.
            Err(Errno::EFAULT) => {
                self.bring_back(Endpoint::PM, address, block.len() as u64)?;
                kernel::copy_in(Endpoint::PM, address, &mut block, true).whole()?;
            }
            result => drop(result?),
        }
        Ok(block)
    }

    /// Makes a range of a server's memory present at both stages.
    fn bring_back(&mut self, who: Endpoint, address: u64, bytes: u64) -> Result<()> {
        let slot = self.take(who)?;
        let mut result = Ok(());
        let end = address.saturating_add(bytes);
        let mut page = refault_abi::layout::page_floor(address);
        while page < end && result.is_ok() {
            match self.memory.resolve(&slot.process, page, Access::default(), false) {
                Outcome::Ready { frame, .. } => self.doorbell.page_back(frame),
                _ => result = Err(Errno::EFAULT),
            }
            page = page.saturating_add(PAGE);
        }
        self.put(slot);
        result
    }

    /// The frame of a file's first page, if the cache has it.
    fn head(&self, file: &File) -> Option<u64> {
        let key = Key { device: file.device, inode: file.inode, offset: 0 };
        self.memory.cache.get(key).filter(|page| !page.once).map(|page| page.frame)
    }

    /// The program's first page is there, or cannot be had.
    pub fn go_on_with_exec(&mut self, exec: &Exec, had: Result<()>) {
        let File { handle, device, inode, size } = exec.file;
        let result = match had.and_then(|()| self.program(&exec.file)) {
            Ok(program) => {
                let file = self.memory.files.add(handle, device, inode, size);
                let result = self.replace(exec, (&program, Source::File(file)));
                self.give_up(file);
                result
            }
            Err(error) => {
                self.release_handle(handle);
                Err(error)
            }
        };
        self.answer_asker(exec.asker, result.map(|()| 0));
    }

    /// What a file whose first page is in the cache says about itself.
    fn program(&self, file: &File) -> Result<Program> {
        let frame = self.head(file).ok_or(Errno::EIO)?;
        let mut head = [0; PAGE as usize];
        self.memory.ram.read(frame, &mut head);
        let valid = usize::try_from(file.size.min(PAGE)).unwrap_or(0);
        elf::parse_head(head.get(..valid).unwrap_or_default(), file.size).ok_or(Errno::ENOEXEC)
    }

    /// Gives up the use that VM itself had of a file.
    fn give_up(&mut self, file: FileId) {
        if let Some(handle) = self.memory.files.release(file) {
            self.release_handle(handle);
        }
    }

    /// A program of the boot image.
    fn exec_image(&mut self, exec: &Exec) -> Result<()> {
        let name = arguments::words(&exec.strings).next().unwrap_or_default();
        let mut members = archive::members(self.image);
        let wanted = |member: &archive::Member<'_>| {
            member.name.strip_prefix("bin/").is_some_and(|program| program.as_bytes() == name)
        };
        let file = members.find(wanted).ok_or(Errno::ENOENT)?.data;
        let program = elf::parse(file).ok_or(Errno::ENOEXEC)?;
        self.replace(exec, (&program, Source::Image(file)))
    }

    /// Builds the new address space and lets the process begin anew in it.
    fn replace(&mut self, exec: &Exec, program: (&Program, Source<'_>)) -> Result<()> {
        // It may have died since.
        self.slot(exec.process)?;
        let stack = arguments::layout(arguments::words(&exec.strings))?;
        let shared = self.shared_pages(exec.process, exec.privilege);
        let mut process =
            load::build(&mut self.memory, exec.process, exec.privilege, program, &stack, &shared)?;
        let start = Start { entry: program.0.entry, stack: stack.address };
        if let Err(error) = start.go(&process) {
            self.remove_space(&mut process);
            return Err(error);
        }
        let mut old = self.take(exec.process)?;
        self.remove_space(&mut old.process);
        self.put(Slot { process, start: None });
        Ok(())
    }

    /// Frees an address space that nobody runs in.
    fn remove_space(&mut self, process: &mut Process) {
        let unmapped = self.memory.destroy(process);
        self.release(unmapped);
    }
}
