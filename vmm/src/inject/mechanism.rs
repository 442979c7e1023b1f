//! The way a page is made to go away, and what a touch of it looks like.
//!
//! One trait, and four ways: [`super::poison`] where userfaultfd is allowed, [`super::protect`] elsewhere and for what stops writes
//! only, [`super::writeprotect`] for those who ask for it. None is believed: each is tried on a page before it is used.
//! The one thing to hold in mind: a mechanism works on the vCPU view and keeps no book; which pages are away and
//! why is the injector's knowledge.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestRam;

use super::poison::Poison;
use super::protect::Protect;
use super::writeprotect::WriteProtect;

/// What a vCPU thread noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// SIGBUS with this host virtual address.
    BusError {
        /// Address in the vCPU view.
        hva: u64,
    },
    /// KVM_RUN failed to reach guest memory; some kernels say where.
    RunFailed {
        /// Guest physical address.
        gpa: Option<u64>,
    },
    /// An access of code that the host interprets failed and was handed over as MMIO.
    Interpreted {
        /// Guest physical address.
        gpa: u64,
    },
}

/// Where a noticed touch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapPage {
    /// In the page at this guest physical address.
    Known(u64),
    /// In one of the pages that are away; the stopped instruction has to tell which.
    Unknown,
    /// Not this mechanism's doing.
    NotMine,
}

/// Pages away at once, where nothing else is said.
pub const AWAY_LIMIT: usize = 16_384;

/// Which touches of a page that is away stop a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// Any.
    All,
    /// Writes; reads go on as if it were there.
    Writes,
}

/// A way to take pages away.
pub trait Mechanism: Debug + Send + Sync {
    /// Name in reports.
    fn name(&self) -> &'static str;

    /// Which touches stop a vCPU.
    fn stops(&self) -> Stops {
        Stops::All
    }

    /// Takes away the page at guest physical address `page`. From the return on, each touch through the vCPU view
    /// stops its vCPU.
    fn arm(&self, page: u64) -> io::Result<()>;

    /// Lets it come back, with the bytes that the device view shows.
    fn disarm(&self, page: u64) -> io::Result<()>;

    /// How many pages may be away at once. Where pages are taken away by protection, each may split a mapping in two, and a process
    /// may have 65530 of them (`vm.max_map_count`): without a limit a guest could leave none for the monitor itself.
    fn most(&self) -> usize {
        AWAY_LIMIT
    }

    /// Which page a notice is about.
    fn trapped(&self, notice: Notice) -> TrapPage;
}

/// The mechanism that was asked for, by its name in the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// The best one that works.
    #[default]
    Best,
    /// UFFDIO_POISON or nothing.
    Poison,
    /// PROT_NONE.
    ProtNone,
    /// PROT_READ: only writes stop.
    ProtRead,
    /// UFFDIO_WRITEPROTECT: only writes stop.
    WriteProtect,
}

/// No mechanism works.
#[derive(Debug, thiserror::Error)]
pub enum MechanismError {
    /// Poisoning was asked for and does not work.
    #[error("pages cannot be taken away by UFFDIO_POISON: {0}")]
    Poison(super::uffd::UffdError),
    /// Write protection was asked for and does not work.
    #[error("pages cannot be taken away by UFFDIO_WRITEPROTECT: {0}")]
    WriteProtect(super::uffd::UffdError),
    /// A page was armed on trial, and a touch went through.
    #[error("{name} does not stop anybody here: a page that was taken away on trial could be touched")]
    NoTrap {
        /// The mechanism.
        name: &'static str,
    },
    /// A page was armed on trial and the host refused.
    #[error("a page could not be taken away on trial by {name}: {source}")]
    Trial {
        /// The mechanism.
        name: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

/// Sets up a mechanism for `ram`, having seen it stop a touch of a page.
pub fn choose(ram: &Arc<GuestRam>, wanted: Wanted) -> Result<Box<dyn Mechanism>, MechanismError> {
    let poison = || {
        let poison = Poison::new(ram.clone()).map_err(MechanismError::Poison)?;
        trial(ram, Box::new(poison))
    };
    let protect = |stops| trial(ram, Box::new(Protect::new(ram.clone(), stops)));
    match wanted {
        Wanted::Poison => poison(),
        Wanted::ProtNone => protect(Stops::All),
        Wanted::ProtRead => protect(Stops::Writes),
        Wanted::WriteProtect => {
            let way = WriteProtect::new(ram.clone()).map_err(MechanismError::WriteProtect)?;
            trial(ram, Box::new(way))
        }
        Wanted::Best => poison().or_else(|why| {
            tracing::warn!("falling back to PROT_NONE: {why}");
            protect(Stops::All)
        }),
    }
}

/// A second way beside `main`, that stops writes only, for rules that want reads to go on; `None` if `main` is one.
pub fn for_writes(ram: &Arc<GuestRam>, main: &dyn Mechanism) -> Option<Box<dyn Mechanism>> {
    (main.stops() == Stops::All)
        .then(|| Box::new(Protect::new(ram.clone(), Stops::Writes)) as Box<dyn Mechanism>)
}

/// Takes a page away, has the host's kernel touch it as KVM would, and gives it back.
fn trial(ram: &Arc<GuestRam>, way: Box<dyn Mechanism>) -> Result<Box<dyn Mechanism>, MechanismError> {
    let (page, name) = (0, way.name());
    let failed = |source| MechanismError::Trial { name, source };
    let hva = ram.vcpu_hva(page).ok_or_else(|| failed(io::Error::from_raw_os_error(libc::EFAULT)))?;
    // Brought in first, so that the host has something to take away.
    touch(hva, None).map_err(failed)?;
    // A write puts back what is there.
    let byte: u8 = ram.device_view().read_obj(GuestAddress(page)).unwrap_or(0);
    let byte = (way.stops() == Stops::Writes).then_some(byte);
    way.arm(page).map_err(failed)?;
    let touched = touch(hva, byte);
    way.disarm(page).map_err(failed)?;
    match touched {
        Err(why) if why.raw_os_error() == Some(libc::EFAULT) => {}
        Err(why) => return Err(failed(why)),
        Ok(()) => return Err(MechanismError::NoTrap { name }),
    }
    touch(hva, byte).map_err(failed)?;
    Ok(way)
}

/// Has the kernel read the byte at `hva`, or write this one there.
fn touch(hva: u64, write: Option<u8>) -> io::Result<()> {
    let (mut reader, mut writer) = io::pipe()?;
    if let Some(byte) = write {
        writer.write_all(&[byte])?;
        // SAFETY: the address is one byte of the vCPU view, into which Rust holds no reference; if it cannot be written the
        // call fails.
        let read = unsafe { libc::read(reader.as_raw_fd(), hva as *mut libc::c_void, 1) };
        return if read == 1 { Ok(()) } else { Err(io::Error::last_os_error()) };
    }
    // SAFETY: the address is one byte of the vCPU view; if it cannot be read the call fails.
    let written = unsafe { libc::write(writer.as_raw_fd(), hva as *const libc::c_void, 1) };
    if written != 1 {
        return Err(io::Error::last_os_error());
    }
    reader.read_exact(&mut [0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MIN_RAM;

    #[test]
    fn each_way_is_seen_to_stop_somebody_or_says_why_not() {
        let ram = Arc::new(GuestRam::new(MIN_RAM).unwrap());
        for (wanted, name, stops) in
            [(Wanted::ProtNone, "PROT_NONE", Stops::All), (Wanted::ProtRead, "PROT_READ", Stops::Writes)]
        {
            let way = choose(&ram, wanted).unwrap();
            assert_eq!((way.name(), way.stops()), (name, stops));
            assert_eq!(for_writes(&ram, way.as_ref()).is_some(), stops == Stops::All);
        }
        for wanted in [Wanted::Poison, Wanted::WriteProtect] {
            match choose(&ram, wanted) {
                Ok(way) => assert!(way.name().starts_with("UFFDIO_")),
                Err(why) => eprintln!("SKIPPED {wanted:?}: {why}"),
            }
        }
    }

    #[derive(Debug)]
    struct Idle;

    impl Mechanism for Idle {
        fn name(&self) -> &'static str {
            "idle"
        }
        fn arm(&self, _page: u64) -> io::Result<()> {
            Ok(())
        }
        fn disarm(&self, _page: u64) -> io::Result<()> {
            Ok(())
        }
        fn trapped(&self, _notice: Notice) -> TrapPage {
            TrapPage::NotMine
        }
    }

    #[test]
    fn one_that_stops_nobody_is_not_used() {
        let ram = Arc::new(GuestRam::new(MIN_RAM).unwrap());
        assert!(matches!(trial(&ram, Box::new(Idle)), Err(MechanismError::NoTrap { name: "idle" })));
    }
}
