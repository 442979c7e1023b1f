//! Requests whose buffer is given by address, because it may not be there.
//!
//! `refault_rt::user` takes slices; a slice over absent pages is no slice. The one thing to hold in mind: whoever passes an
//! address for an answer passes memory that may be overwritten, which every caller here takes from a [`super::buffer::Buffer`]
//! that nobody has borrowed.

use refault_abi::message::{Payload, Status};
use refault_abi::vfs::{self, Io, Path};
use refault_abi::{Endpoint, Message, Result, pm};
use refault_rt::ipc;
use refault_rt::user::Descriptor;

/// A request to a server that answers a status.
pub fn ask<T: Payload>(server: Endpoint, request: u16, payload: &T) -> Result<u64> {
    ipc::sendrec(server, &Message::new(request, payload))?.get::<Status>().check()
}

/// A request on a descriptor.
pub fn on_descriptor(request: u16, descriptor: Descriptor, address: u64, bytes: u64) -> Result<u64> {
    ask(Endpoint::VFS, request, &Io { descriptor, flags: 0, address, bytes, offset: 0 })
}

/// The address of bytes that are only read.
pub fn address_of(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

/// A request on a path with a second buffer.
pub fn on_path(request: u16, path: &str, buffer: u64, bytes: u64) -> Result<u64> {
    let request_on = Path {
        address: address_of(path.as_bytes()),
        length: path.len() as u64,
        buffer,
        bytes,
        flags: 0,
        mode: 0,
    };
    ask(Endpoint::VFS, request, &request_on)
}

/// A request on a path that is given by address.
pub fn on_path_at(request: u16, address: u64, length: u64, flags: u32) -> Result<u64> {
    ask(Endpoint::VFS, request, &Path { address, length, buffer: 0, bytes: 0, flags, mode: 0o644 })
}

/// FSTAT.
pub fn fstat(descriptor: Descriptor, address: u64) -> Result<u64> {
    on_descriptor(vfs::FSTAT, descriptor, address, size_of::<vfs::Stat>() as u64)
}

/// SPAWN with strings at an address.
pub fn spawn(address: u64, bytes: u64) -> Result<u64> {
    ask(Endpoint::PM, pm::SPAWN, &pm::Spawn { address, bytes })
}
