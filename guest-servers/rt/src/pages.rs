//! Memory from VM, in whole pages.

use refault_abi::message::Status;
use refault_abi::vm::{self, MAP_ANONYMOUS, MAP_FIXED, MAP_GRANTS, PROT_READ, PROT_WRITE};
use refault_abi::{Endpoint, Message, Result, layout};

/// A request to VM that answers a plain status.
pub(crate) fn ask<T: refault_abi::message::Payload>(request: u16, payload: &T) -> Result<u64> {
    let answer = crate::ipc::sendrec(Endpoint::VM, &Message::new(request, payload))?;
    answer.get::<Status>().check()
}

/// Zero-filled memory of `bytes` (rounded up to pages) at a page-aligned address. `extra` adds MAP flags,
/// [`vm::MAP_POPULATE`] for one.
pub fn map(bytes: u64, extra: u32) -> Result<u64> {
    let request = vm::Mmap {
        address: 0,
        length: bytes,
        protection: PROT_READ | PROT_WRITE,
        flags: MAP_ANONYMOUS | extra,
        descriptor: -1,
        reserved: 0,
        offset: 0,
    };
    ask(vm::MMAP, &request)
}

/// Gives `[address, address + bytes)` back.
///
/// # Safety
/// Nothing may refer to the range any more.
pub unsafe fn unmap(address: u64, bytes: u64) -> Result<()> {
    ask(vm::MUNMAP, &vm::Range { address, length: bytes }).map(drop)
}

/// Maps device registers; the address has the same offset into its page as `physical`. Drivers only.
pub fn map_phys(physical: u64, bytes: u64) -> Result<u64> {
    ask(vm::MAP_PHYS, &vm::MapPhys { physical, length: bytes })
}

/// Extends the grant table's reserved space from `from` to `to` bytes, both page aligned.
pub(crate) fn map_grants(from: u64, to: u64) -> Result<()> {
    let request = vm::Mmap {
        address: layout::GRANT_TABLE.saturating_add(from),
        length: to.saturating_sub(from),
        protection: PROT_READ | PROT_WRITE,
        flags: MAP_ANONYMOUS | MAP_GRANTS | MAP_FIXED | vm::MAP_POPULATE,
        descriptor: -1,
        reserved: 0,
        offset: 0,
    };
    ask(vm::MMAP, &request).map(drop)
}
