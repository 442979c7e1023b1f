//! Taking a page away by UFFDIO_POISON.
//!
//! Arm: drop the page from the vCPU view's page tables and put a poison mark there. Touch: the kernel sends SIGBUS
//! to the vCPU thread, with the page's address, and KVM_RUN returns with the guest still at the access. Disarm: drop
//! the mark; the next touch finds the page of the memory file, as any first touch does.

use std::io;
use std::sync::Arc;

use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::mechanism::{Mechanism, Notice, TrapPage};
use super::uffd::{Purpose, Uffd, UffdError};

/// Tries at arming a page that other vCPUs keep touching between the two steps.
const ARM_TRIES: usize = 1000;

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Poison {
    ram: Arc<GuestRam>,
    uffd: Uffd,
}

impl Poison {
    /// Registers the vCPU view of `ram`.
    pub fn new(ram: Arc<GuestRam>) -> Result<Self, UffdError> {
        let uffd = Uffd::open(Purpose::Poison)?;
        for piece in ram.pieces() {
            uffd.register(piece.vcpu_hva, piece.len)?;
        }
        Ok(Self { ram, uffd })
    }

    fn hva(&self, page: u64) -> io::Result<u64> {
        self.ram.vcpu_hva(page).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))
    }
}

impl Mechanism for Poison {
    fn name(&self) -> &'static str {
        "UFFDIO_POISON"
    }

    fn arm(&self, page: u64) -> io::Result<()> {
        let hva = self.hva(page)?;
        for _ in 0..ARM_TRIES {
            drop_page(hva)?;
            match self.uffd.poison(hva, PAGE_SIZE) {
                // Another vCPU brought the page back in between, or the address space was changing.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::EAGAIN)) => {}
                done => return done,
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    fn disarm(&self, page: u64) -> io::Result<()> {
        drop_page(self.hva(page)?)
    }

    /// A poisoned page is a mark in the page table and splits nothing.
    fn most(&self) -> usize {
        usize::MAX
    }

    fn trapped(&self, notice: Notice) -> TrapPage {
        let gpa = match notice {
            Notice::BusError { hva } => self.ram.gpa_of_vcpu_hva(hva),
            Notice::RunFailed { gpa } => gpa,
            Notice::Interpreted { gpa } => Some(gpa),
        };
        gpa.map_or(TrapPage::NotMine, |gpa| TrapPage::Known(gpa & !(PAGE_SIZE - 1)))
    }
}

/// Drops one page of the vCPU view from the page tables, contents and poison marks alike; the memory file keeps the
/// contents.
fn drop_page(hva: u64) -> io::Result<()> {
    // SAFETY: `hva` is a page of the vCPU view, a shared mapping of the memory file: dropping its page table entry
    // loses no data, and Rust holds no reference into that view.
    match unsafe { libc::madvise(hva as *mut libc::c_void, PAGE_SIZE as usize, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
