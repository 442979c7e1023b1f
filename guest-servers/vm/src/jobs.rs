//! Work that may have to wait for file pages, and the requests to VFS it waits for.
//!
//! The one thing to hold in mind: VM never blocks, so whatever it was doing has to be a value. A [`Job`] is "make
//! these pages present, then tell so-and-so"; while a page has to come from VFS, the job lies with the request.

use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::vm::Mmap;
use refault_abi::{Endpoint, Errno};

use crate::memory::Access;

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
    /// VFS: HANDLEMEM.
    HandleMem {
        /// VFS's transaction id.
        transaction: u16,
    },
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

/// The requests VFS has not answered.
#[derive(Debug, Default)]
pub struct Pending {
    list: Vec<(u64, Asked)>,
    last: u64,
}

impl Pending {
    /// None.
    pub const fn new() -> Pending {
        Pending { list: Vec::new(), last: 0 }
    }

    /// Remembers a request; answers its id, never 0.
    pub fn add(&mut self, asked: Asked) -> u64 {
        self.last = self.last.wrapping_add(1).max(1);
        self.list.push((self.last, asked));
        self.last
    }

    /// Lets `job` wait for a request that already covers the page; gives it back when there is none.
    pub fn join(&mut self, device: u64, inode: u64, offset: u64, job: Job) -> Option<Job> {
        for (_, asked) in &mut self.list {
            if let Asked::PageIn { device: d, inode: i, offset: start, length, jobs } = asked {
                let covered = offset.checked_sub(*start).is_some_and(|skip| skip < *length);
                if *d == device && *i == inode && covered {
                    jobs.push(job);
                    return None;
                }
            }
        }
        Some(job)
    }

    /// The request with this id, which is answered now.
    pub fn take(&mut self, id: u64) -> Option<Asked> {
        let index = self.list.iter().position(|(each, _)| *each == id)?;
        Some(self.list.swap_remove(index).1)
    }

    /// Forgets what was to be done for a process that is gone. The requests themselves stay: their answers come.
    pub fn forget(&mut self, gone: Endpoint) {
        for (_, asked) in &mut self.list {
            if let Asked::PageIn { jobs, .. } = asked {
                jobs.retain(|job| job.target != gone || matches!(job.purpose, Purpose::HandleMem { .. }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(target: Endpoint, purpose: Purpose) -> Job {
        Job {
            purpose,
            target,
            next: 0,
            end: PAGE,
            access: Access::default(),
            address: 0,
            away: false,
            asked: None,
        }
    }

    #[test]
    fn jobs_for_one_page_share_a_request_and_the_dead_are_forgotten() {
        let mut pending = Pending::new();
        let first = job(Endpoint::INIT, Purpose::Fault);
        assert_eq!(pending.join(1, 2, 0, first), Some(first));
        let id = pending.add(Asked::PageIn {
            device: 1,
            inode: 2,
            offset: 0,
            length: 2 * PAGE,
            jobs: alloc::vec![first],
        });
        let other = job(Endpoint::MFS, Purpose::HandleMem { transaction: 9 });
        assert_eq!(pending.join(1, 2, PAGE, other), None);
        assert_eq!(pending.join(1, 2, 2 * PAGE, other), Some(other));
        assert_eq!(pending.join(1, 3, 0, other), Some(other));
        pending.forget(Endpoint::INIT);
        pending.forget(Endpoint::MFS);
        // HANDLEMEM is answered also for a process that is gone: VFS waits.
        assert_eq!(
            pending.take(id),
            Some(Asked::PageIn {
                device: 1,
                inode: 2,
                offset: 0,
                length: 2 * PAGE,
                jobs: alloc::vec![other]
            })
        );
        assert_eq!(pending.take(id), None);
    }

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
