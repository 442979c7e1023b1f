//! Stopping writes by UFFDIO_WRITEPROTECT: a bit in the page table, no mapping is split.
//!
//! Never chosen without being asked for by name: on the kernels known so far, KVM takes the failed access for a page that is being
//! brought in, and with interrupts switched on in the guest KVM_RUN does not come back. `refault doctor` tries it.

use std::io;
use std::sync::Arc;

use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::mechanism::{Mechanism, Notice, Stops, TrapPage};
use super::uffd::{Purpose, Uffd, UffdError};

/// See the [module documentation](self).
#[derive(Debug)]
pub struct WriteProtect {
    ram: Arc<GuestRam>,
    uffd: Uffd,
}

impl WriteProtect {
    /// Registers the vCPU view of `ram`.
    pub fn new(ram: Arc<GuestRam>) -> Result<Self, UffdError> {
        let uffd = Uffd::open(Purpose::WriteProtect)?;
        for piece in ram.pieces() {
            uffd.register(piece.vcpu_hva, piece.len)?;
        }
        Ok(Self { ram, uffd })
    }

    fn set(&self, page: u64, protected: bool) -> io::Result<()> {
        let hva = self.ram.vcpu_hva(page).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        self.uffd.write_protect(hva, PAGE_SIZE, protected)
    }
}

impl Mechanism for WriteProtect {
    fn name(&self) -> &'static str {
        "UFFDIO_WRITEPROTECT"
    }

    fn stops(&self) -> Stops {
        Stops::Writes
    }

    fn most(&self) -> usize {
        usize::MAX
    }

    fn arm(&self, page: u64) -> io::Result<()> {
        self.set(page, true)
    }

    fn disarm(&self, page: u64) -> io::Result<()> {
        self.set(page, false)
    }

    fn trapped(&self, notice: Notice) -> TrapPage {
        let gpa = match notice {
            Notice::BusError { hva } => self.ram.gpa_of_vcpu_hva(hva),
            Notice::RunFailed { gpa: None } => return TrapPage::Unknown,
            Notice::RunFailed { gpa } => gpa,
            Notice::Interpreted { gpa } => Some(gpa),
        };
        gpa.map_or(TrapPage::NotMine, |gpa| TrapPage::Known(gpa & !(PAGE_SIZE - 1)))
    }
}
