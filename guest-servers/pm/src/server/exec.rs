//! EXEC: VFS looks at the file and pins it, VM replaces the address space. Nobody is answered when it works: the
//! process runs another program.

use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::kcall::privilege;
use refault_abi::message::Status;
use refault_abi::options::Mode;
use refault_abi::{Endpoint, Errno, Result, vfs, vm};
use refault_pm::words::Program;
use refault_rt::kernel;

use super::{Caller, Errand, Pm, copy};

/// A process on its way to another program.
#[derive(Debug)]
pub struct Exec {
    caller: Caller,
    /// The strings; VM reads them here, VFS the path at their beginning.
    block: Vec<u8>,
    /// Where they are in the process, and their bytes: faithful mode has not fetched all of them yet.
    address: u64,
    bytes: usize,
    name: String,
    class: u32,
}

impl Exec {
    /// Which process.
    pub fn caller(&self) -> Endpoint {
        self.caller.endpoint
    }
}

impl Pm {
    /// EXEC, once the strings are here.
    pub(super) fn exec(
        &mut self,
        caller: Caller,
        mut block: Vec<u8>,
        address: u64,
        bytes: usize,
    ) -> Result<()> {
        if !block.contains(&0) {
            copy::fetch_rest(caller.endpoint, address, bytes, &mut block)?;
        }
        let program = Program::of(&block)?;
        let (is_path, length) = (program.is_path(), program.name.len());
        let (name, class) = (String::from(program.process_name()), program.class());
        let exec = Exec { caller, block, address, bytes, name, class };
        if !is_path {
            self.replace(exec, &vfs::Program::default());
            return Ok(());
        }
        let faithful = self.mode == Mode::Faithful;
        let request = vfs::PmExec {
            endpoint: caller.endpoint.raw(),
            length: u32::try_from(length).map_err(|_| Errno::E2BIG)?,
            address: copy::address_of(&exec.block),
            strings: if faithful { address } else { 0 },
            bytes: if faithful { bytes as u64 } else { 0 },
        };
        self.ask_later(Endpoint::VFS, vfs::PM_EXEC, &request, Errand::Checked(exec));
        Ok(())
    }

    /// VFS has looked at the file.
    pub(super) fn checked(&mut self, exec: Exec, program: &vfs::Program) {
        match Errno::check(program.result) {
            Ok(_) => self.replace(exec, program),
            Err(error) => self.answer(exec.caller, &Status::of(Err(error))),
        }
    }

    /// Has VM replace the program. VM is asked even if the process has died meanwhile, because it gives the handle back.
    fn replace(&mut self, mut exec: Exec, program: &vfs::Program) {
        let endpoint = exec.caller.endpoint;
        // What cannot be had is missing: VM takes the words that are there, and the process is gone anyway.
        let _ = copy::fetch_rest(endpoint, exec.address, exec.bytes, &mut exec.block);
        // The process waits, so the class of its new program does not serve its old one. Fails only for a process that is gone.
        let _ = kernel::proc_set(endpoint, exec.class, &exec.name);
        let request = vm::Exec {
            endpoint: endpoint.raw(),
            // At most a page of strings.
            bytes: exec.block.len() as u32,
            address: copy::address_of(&exec.block),
            handle: program.handle,
            device: program.device,
            inode: program.inode,
            size: program.size,
            privilege: exec.class,
            reserved: 0,
        };
        self.ask_later(Endpoint::VM, vm::EXEC, &request, Errand::Became(exec));
    }

    /// VM is done.
    pub(super) fn became(&mut self, exec: Exec, result: Result<u64>) {
        let endpoint = exec.caller.endpoint;
        match result {
            Ok(_) => self.family.became(endpoint, &exec.name, exec.class),
            Err(error) => {
                // It stays what it was.
                let class = self.family.class(endpoint).unwrap_or(privilege::USER);
                let _ = kernel::proc_set(endpoint, class, self.family.name(endpoint));
                self.answer(exec.caller, &Status::of(Err(error)));
            }
        }
    }
}
