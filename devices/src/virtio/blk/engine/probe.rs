//! Does io_uring work here? Asked by using it.
//!
//! The kernel may lack it, a sandbox may forbid it at any of its three system calls, and an administrator may
//! have switched it off. So the trial does what a disk will do, with the code that a disk will use: it writes a
//! page to a file that is only in memory, flushes, reads it back elsewhere, and looks for the event.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use libc::iovec;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::uring::Uring;
use super::{Completion, Engine, GuestIov, Job, Op};
use crate::virtio::{DeviceMemory, GuestRam};

/// What failed in a trial of io_uring.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The trial itself could not be prepared.
    #[error("A trial of io_uring could not be set up")]
    Setup(#[source] io::Error),
    /// No ring: the kernel is too old (before 5.6), or a sandbox or `kernel.io_uring_disabled` forbids it.
    #[error("io_uring cannot be set up (kernel before 5.6, a sandbox, or kernel.io_uring_disabled)")]
    Ring(#[source] io::Error),
    /// A ring, but an operation on it failed.
    #[error("io_uring cannot {what}")]
    Operation {
        /// "write", "flush" or "read".
        what: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Operations worked but gave wrong bytes.
    #[error("io_uring read back other bytes than it wrote")]
    Data,
    /// Operations worked but the event descriptor stayed silent.
    #[error("io_uring does not signal its completions")]
    Event,
}

const PAGE: usize = 4096;

/// Tries io_uring with real operations. Cheap enough to be done for each disk.
pub fn probe_uring() -> Result<(), ProbeError> {
    let setup = |e| ProbeError::Setup(io::Error::other(e));
    let ram: GuestRam = Arc::new(
        DeviceMemory::from_ranges(&[(GuestAddress(0), 2 * PAGE)])
            .map_err(|e| ProbeError::Setup(io::Error::other(e)))?,
    );
    let sent: Vec<u8> = (0..=u8::MAX).cycle().take(PAGE).collect();
    ram.write_slice(&sent, GuestAddress(0)).map_err(setup)?;
    let file = Arc::new(memory_file(c"refault-probe").map_err(ProbeError::Setup)?);
    let mut engine = Uring::new(file, 4).map_err(ProbeError::Ring)?;

    let jobs = [
        ("write", Op::Write { durable: false }, Some(0)),
        ("flush", Op::Flush, None),
        ("read", Op::Read, Some(PAGE as u64)),
    ];
    for (token, (what, op, page)) in (0u16..).zip(jobs) {
        let data = match page {
            Some(at) => page_of(&ram, GuestAddress(at)).map_err(setup)?,
            None => GuestIov::none(ram.clone()),
        };
        engine.submit(Job { token, op, offset: 0, data });
        engine.push();
        let mut done: Vec<Completion> = Vec::new();
        engine.drain(&mut done);
        match done.pop() {
            Some(Completion { result: Ok(()), .. }) => {}
            Some(Completion { result: Err(source), .. }) => {
                return Err(ProbeError::Operation { what, source });
            }
            None => return Err(ProbeError::Operation { what, source: io::ErrorKind::NotFound.into() }),
        }
    }
    let mut got = vec![0; PAGE];
    ram.read_slice(&mut got, GuestAddress(PAGE as u64)).map_err(setup)?;
    if got != sent {
        return Err(ProbeError::Data);
    }
    engine.completion_event().read().map(drop).map_err(|_| ProbeError::Event)
}

fn page_of(ram: &GuestRam, at: GuestAddress) -> Result<GuestIov, vm_memory::GuestMemoryError> {
    let mut iov = Vec::new();
    for slice in GuestMemory::get_slices(&**ram, at, PAGE, Permissions::ReadWrite)? {
        let slice = slice?;
        iov.push(iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() });
    }
    Ok(GuestIov::new(iov, ram.clone()))
}

fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: `name` is a terminated string; the call has no other requirement.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
