//! Taking a page away by its protection: PROT_NONE, where userfaultfd is not allowed, and PROT_READ, which stops writes only.
//!
//! Needs no permission, but KVM_RUN then fails with a bare EFAULT: which page it was has to be found from the
//! stopped instruction, and each armed page splits the mapping in the host.

use std::io;
use std::sync::Arc;

use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::mechanism::{Mechanism, Notice, Stops, TrapPage};

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Protect {
    ram: Arc<GuestRam>,
    stops: Stops,
}

impl Protect {
    /// A mechanism for `ram`.
    pub fn new(ram: Arc<GuestRam>, stops: Stops) -> Self {
        Self { ram, stops }
    }

    fn protect(&self, page: u64, protection: libc::c_int) -> io::Result<()> {
        let hva = self.ram.vcpu_hva(page).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        // SAFETY: `hva` is a page of the vCPU view, into which Rust holds no reference; whoever touches it while it
        // is away is a vCPU, which is stopped by KVM.
        match unsafe { libc::mprotect(hva as *mut libc::c_void, PAGE_SIZE as usize, protection) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Mechanism for Protect {
    fn name(&self) -> &'static str {
        match self.stops {
            Stops::All => "PROT_NONE",
            Stops::Writes => "PROT_READ",
        }
    }

    fn stops(&self) -> Stops {
        self.stops
    }

    fn arm(&self, page: u64) -> io::Result<()> {
        self.protect(
            page,
            match self.stops {
                Stops::All => libc::PROT_NONE,
                Stops::Writes => libc::PROT_READ,
            },
        )
    }

    fn disarm(&self, page: u64) -> io::Result<()> {
        self.protect(page, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn trapped(&self, notice: Notice) -> TrapPage {
        match notice {
            Notice::RunFailed { gpa: None } => TrapPage::Unknown,
            Notice::RunFailed { gpa: Some(gpa) } | Notice::Interpreted { gpa } => {
                TrapPage::Known(gpa & !(PAGE_SIZE - 1))
            }
            Notice::BusError { .. } => TrapPage::NotMine,
        }
    }
}
