//! The strings of SPAWN and EXEC, out of the caller's memory.
//!
//! Hardened: a page that is not there makes the copy fail, VM brings the range in on PM's errand, and PM serves others
//! meanwhile. Faithful: the copy suspends PM on VM, which may be waiting for VFS, which may be waiting for PM
//! (specification 6.2, H8).

use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::message::Status;
use refault_abi::options::Mode;
use refault_abi::pm::Spawn;
use refault_abi::{Endpoint, Errno, Result, vm};
use refault_rt::kernel;

use super::{Caller, Errand, Pm, talk};

/// Longest strings, in bytes.
const BYTES_MAX: usize = 4096;
/// Copies of the same strings: after that they are taken away as fast as VM brings them in.
const ATTEMPTS: u32 = 8;

/// What the strings are for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// SPAWN.
    Spawn,
    /// EXEC.
    Exec,
}

/// Strings that are on their way.
#[derive(Clone, Copy, Debug)]
pub struct Strings {
    caller: Caller,
    purpose: Purpose,
    address: u64,
    bytes: usize,
    attempts: u32,
}

impl Strings {
    /// Whose they are.
    pub fn caller(&self) -> Endpoint {
        self.caller.endpoint
    }
}

impl Pm {
    /// Begins SPAWN or EXEC. An error is the answer.
    pub(super) fn fetch_strings(&mut self, caller: Caller, purpose: Purpose, request: &Spawn) -> Result<()> {
        self.family.may_spawn(caller.endpoint)?;
        let bytes = usize::try_from(request.bytes).map_err(|_| Errno::E2BIG)?;
        if bytes == 0 || bytes > BYTES_MAX {
            return Err(Errno::E2BIG);
        }
        self.copy_strings(Strings { caller, purpose, address: request.address, bytes, attempts: 0 })
    }

    fn copy_strings(&mut self, strings: Strings) -> Result<()> {
        let hardened = self.mode == Mode::Hardened;
        let in_page = strings.address % PAGE;
        let first = usize::try_from(PAGE.saturating_sub(in_page)).unwrap_or(strings.bytes);
        // The seed's exec finds its program by the name before it fetches the arguments.
        let only_first = !hardened && matches!(strings.purpose, Purpose::Exec);
        let bytes = if only_first { strings.bytes.min(first) } else { strings.bytes };
        let mut block = vec![0u8; bytes];
        let moved = kernel::copy_in(strings.caller.endpoint, strings.address, &mut block, hardened);
        match moved.result {
            Ok(()) => match strings.purpose {
                Purpose::Spawn => self.spawn(strings.caller, &block),
                Purpose::Exec => self.exec(strings.caller, block, strings.address, strings.bytes),
            },
            Err(Errno::EFAULT) if hardened && strings.attempts < ATTEMPTS => {
                let range = vm::HandleMem {
                    endpoint: strings.caller.endpoint.raw(),
                    write: 0,
                    address: strings.address,
                    length: strings.bytes as u64,
                };
                let again = Strings { attempts: strings.attempts + 1, ..strings };
                self.ask_later(Endpoint::VM, vm::PROCCTL, &range, Errand::Present(again));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// VM has brought the strings in, or could not.
    pub(super) fn strings_present(&mut self, strings: Strings, result: Result<u64>) {
        if let Err(error) = result.and_then(|_| self.copy_strings(strings)) {
            self.answer(strings.caller, &Status::of(Err(error)));
        }
    }
}

/// The seed's way to the part of the strings that is still missing: the copy waits for VM.
pub fn fetch_rest(caller: Endpoint, address: u64, bytes: usize, block: &mut Vec<u8>) -> Result<()> {
    let have = block.len();
    if have < bytes {
        block.resize(bytes, 0);
        let rest = block.get_mut(have..).unwrap_or_default();
        kernel::copy_in(caller, address.saturating_add(have as u64), rest, false).whole()?;
    }
    Ok(())
}

/// The address of bytes that another server reads.
pub fn address_of(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

/// Takes a child back that cannot live.
pub fn discard(pm: &mut Pm, child: Endpoint) {
    // Without the process there is nothing that could fail.
    let _ = pm.ask_vm(vm::EXIT, &talk::target(child));
}
