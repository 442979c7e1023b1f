//! Work that may have to wait for file pages, and the requests to VFS it waits for.
//!
//! The one thing to hold in mind: VM never blocks, so whatever it was doing has to be a value. A [`Job`] is "make
//! these pages present, then tell so-and-so"; while a page has to come from VFS, the job lies with the request.

use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::vm::Mmap;
use refault_abi::{Endpoint, Errno};

use crate::files::File;
use crate::memory::Access;

/// Who asked for something that is answered later, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Who.
    pub endpoint: Endpoint,
    /// The request's transaction id.
    pub transaction: u16,
    /// It does nothing but wait for the answer.
    pub waits: bool,
}

/// Who waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The process itself: a page fault.
    Fault,
    /// A suspended kernel call of this process.
    KernelCall {
        /// The caller of the kernel call.
        requestor: Endpoint,
    },
    /// HANDLEMEM.
    HandleMem(Asker),
}

/// Pages to make present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// For whom.
    pub purpose: Purpose,
    /// Whose memory.
    pub target: Endpoint,
    /// Next page.
    pub next: u64,
    /// Behind the last page.
    pub end: u64,
    /// For which access.
    pub access: Access,
    /// The address that was given, for messages.
    pub address: u64,
    /// Pages that are there may be away at the second stage and have not been asked back yet.
    pub away: bool,
    /// A page that VFS was already asked for: a second miss is a failure.
    pub asked: Option<u64>,
}

impl Job {
    /// Who does not go on before the job is done.
    pub fn waiter(&self) -> Endpoint {
        match self.purpose {
            Purpose::KernelCall { requestor } => requestor,
            Purpose::Fault | Purpose::HandleMem(_) => self.target,
        }
    }
}

/// An EXEC from a file, of which the beginning has to be read first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Who gets another program.
    pub process: Endpoint,
    /// Its class from then on.
    pub privilege: u32,
    /// The program.
    pub file: File,
    /// Its arguments, each ended by a NUL.
    pub strings: Vec<u8>,
    /// Who wants to know.
    pub asker: Asker,
}

/// What was asked of VFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Which file is behind a descriptor: for an MMAP.
    Lookup {
        /// Who maps.
        caller: Endpoint,
        /// What.
        mapping: FileMapping,
    },
    /// Bring pages in.
    PageIn {
        /// Device.
        device: u64,
        /// Inode.
        inode: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Who waits.
        jobs: Vec<Job>,
    },
    /// Bring in the beginning of a program.
    Program(Exec),
}

/// A checked MMAP of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMapping {
    /// Wanted address, 0 for any.
    pub address: u64,
    /// Bytes, a multiple of the page size.
    pub length: u64,
    /// PROT bits.
    pub protection: u32,
    /// Exactly at `address`.
    pub fixed: bool,
    /// Offset into the file.
    pub offset: u64,
}

impl FileMapping {
    /// Checks the numbers of a request. EINVAL for those that make no sense, ENOMEM for too large ones.
    pub fn check(mmap: &Mmap) -> refault_abi::Result<FileMapping> {
        let length = mmap.length.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
        if length == 0 || !mmap.offset.is_multiple_of(PAGE) || !mmap.address.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        mmap.offset.checked_add(length).ok_or(Errno::EINVAL)?;
        Ok(FileMapping {
            address: mmap.address,
            length,
            protection: mmap.protection & 7,
            fixed: mmap.flags & refault_abi::vm::MAP_FIXED != 0,
            offset: mmap.offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_numbers_are_refused() {
        let good = Mmap { length: 1, protection: 3, flags: 2, descriptor: 3, ..Mmap::default() };
        assert_eq!(FileMapping::check(&good).unwrap().length, PAGE);
        for bad in [
            Mmap { length: 0, ..good },
            Mmap { length: u64::MAX, ..good },
            Mmap { offset: 1, ..good },
            Mmap { address: 1, ..good },
            Mmap { offset: u64::MAX - 4095, ..good },
        ] {
            assert!(FileMapping::check(&bad).is_err(), "{bad:?}");
        }
    }
}
