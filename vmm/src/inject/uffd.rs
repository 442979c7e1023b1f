//! The few userfaultfd calls that poisoning needs.
//!
//! Numbers and layouts are those of `linux/userfaultfd.h`; each is pinned below. What this is not: a general
//! binding. No page-fault message is ever read, because nothing is registered for delivering any.
//!
//! # Why the form that every user may have is enough
//!
//! Without privileges a userfaultfd can only be had with `UFFD_USER_MODE_ONLY`, which limits what faults it delivers:
//! those that user code takes, not those that the kernel takes, and KVM touches guest memory in the kernel. But a
//! poisoned page delivers nothing. The poison is a mark in the page table; whoever faults on it, the kernel and its
//! get_user_pages included, is answered by the memory manager as for a page with a hardware error, before any
//! userfaultfd is looked for. The descriptor serves to put the mark there, and for that its form does not matter.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

const UFFD_API: u64 = 0xaa;
/// Linux 6.6 and later.
const FEATURE_POISON: u64 = 1 << 14;
/// Faults raise SIGBUS instead of being delivered.
const FEATURE_SIGBUS: u64 = 1 << 7;
/// Linux 5.19 and later: shared memory can be write-protected.
const FEATURE_WP_SHARED: u64 = 1 << 12;
const REGISTER_MODE_WP: u64 = 1 << 1;
/// Bit of UFFDIO_POISON in the set of calls that a registered range permits.
const PERMITS_POISON: u64 = 1 << 8;
/// Bit of UFFDIO_WRITEPROTECT there.
const PERMITS_WRITEPROTECT: u64 = 1 << 6;
/// Mode bit of UFFDIO_WRITEPROTECT: protect. Without it the protection goes.
const MODE_PROTECT: u64 = 1;
/// Flag of the system call: deliver no faults that the kernel takes.
const USER_MODE_ONLY: libc::c_int = 1;
const FLAGS: libc::c_int = libc::O_CLOEXEC | libc::O_NONBLOCK;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRange {
    start: u64,
    len: u64,
}

#[repr(C)]
struct UffdioRegister {
    range: UffdioRange,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioPoison {
    range: UffdioRange,
    mode: u64,
    updated: i64,
}

#[repr(C)]
struct UffdioWriteprotect {
    range: UffdioRange,
    mode: u64,
}

const IOC_NEW: u64 = 0xaa00;
const IOC_API: u64 = 0xc018_aa3f;
const IOC_REGISTER: u64 = 0xc020_aa00;
const IOC_POISON: u64 = 0xc020_aa08;
const IOC_WRITEPROTECT: u64 = 0xc018_aa06;

/// `_IOWR(0xaa, nr, size)`.
const fn iowr(nr: u64, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | 0xaa << 8 | nr
}
const _: () = assert!(IOC_API == iowr(0x3f, size_of::<UffdioApi>()));
const _: () = assert!(IOC_REGISTER == iowr(0x00, size_of::<UffdioRegister>()));
const _: () = assert!(IOC_POISON == iowr(0x08, size_of::<UffdioPoison>()));
const _: () = assert!(IOC_WRITEPROTECT == iowr(0x06, size_of::<UffdioWriteprotect>()));

/// Why userfaultfd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UffdError {
    /// Not allowed, not even the form that the kernel itself gives to every user.
    #[error(
        "userfaultfd is forbidden here even in the form that needs no privileges, so something filters system calls \
         (a container's seccomp profile, a service's SystemCallFilter, a security module). Permit `userfaultfd` there, \
         or give access to /dev/userfaultfd"
    )]
    NotPermitted,
    /// The kernel lacks it.
    #[error("this kernel has no userfaultfd (CONFIG_USERFAULTFD)")]
    Absent,
    /// Too old.
    #[error("this kernel's userfaultfd cannot poison pages (Linux 6.6 and later can)")]
    NoPoison,
    /// Too old, or built without it.
    #[error("this kernel's userfaultfd cannot write-protect shared memory (Linux 5.19 and later can)")]
    NoWriteProtect,
    /// Anything else.
    #[error("userfaultfd: {what}: {source}")]
    Failed {
        /// The call.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What a userfaultfd is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Poisoning pages.
    Poison,
    /// Write-protecting pages, with SIGBUS for whoever writes.
    WriteProtect,
}

impl Purpose {
    fn features(self) -> u64 {
        match self {
            Purpose::Poison => FEATURE_POISON,
            Purpose::WriteProtect => FEATURE_SIGBUS | FEATURE_WP_SHARED,
        }
    }

    /// The call that a registered range has to permit.
    fn permits(self) -> u64 {
        match self {
            Purpose::Poison => PERMITS_POISON,
            Purpose::WriteProtect => PERMITS_WRITEPROTECT,
        }
    }

    fn absent(self) -> UffdError {
        match self {
            Purpose::Poison => UffdError::NoPoison,
            Purpose::WriteProtect => UffdError::NoWriteProtect,
        }
    }
}

/// An open userfaultfd.
#[derive(Debug)]
pub struct Uffd {
    file: File,
    purpose: Purpose,
}

impl Uffd {
    /// Opens one: the form that every user may have, for every user, so that all of them take one path. Where
    /// system calls are filtered, the device may still be there.
    pub fn open(purpose: Purpose) -> Result<Self, UffdError> {
        let file = match by_syscall() {
            Err(UffdError::NotPermitted) => from_device().map_err(|_| UffdError::NotPermitted)?,
            done => done?,
        };
        Self::with(file, purpose)
    }

    fn with(file: File, purpose: Purpose) -> Result<Self, UffdError> {
        let uffd = Self { file, purpose };
        let mut api = UffdioApi { api: UFFD_API, features: purpose.features(), ioctls: 0 };
        uffd.call(IOC_API, &mut api).map_err(|e| match e.raw_os_error() {
            Some(libc::EINVAL) => purpose.absent(),
            _ => UffdError::Failed { what: "UFFDIO_API", source: e },
        })?;
        Ok(uffd)
    }

    /// Registers a mapping of shared memory so that its pages can be poisoned or write-protected.
    ///
    /// Write-protect mode in both cases: ordinary first touches stay the kernel's business.
    pub fn register(&self, start: u64, len: u64) -> Result<(), UffdError> {
        let mut register =
            UffdioRegister { range: UffdioRange { start, len }, mode: REGISTER_MODE_WP, ioctls: 0 };
        self.call(IOC_REGISTER, &mut register)
            .map_err(|source| UffdError::Failed { what: "UFFDIO_REGISTER", source })?;
        match register.ioctls & self.purpose.permits() {
            0 => Err(self.purpose.absent()),
            _ => Ok(()),
        }
    }

    /// Marks absent pages so that a touch raises SIGBUS. EEXIST: a page was there.
    pub fn poison(&self, start: u64, len: u64) -> io::Result<()> {
        let mut poison = UffdioPoison { range: UffdioRange { start, len }, mode: 0, updated: 0 };
        self.call(IOC_POISON, &mut poison)
    }

    /// Write-protects pages, or lets them be written again.
    pub fn write_protect(&self, start: u64, len: u64, protected: bool) -> io::Result<()> {
        let mode = if protected { MODE_PROTECT } else { 0 };
        let mut protect = UffdioWriteprotect { range: UffdioRange { start, len }, mode };
        self.call(IOC_WRITEPROTECT, &mut protect)
    }

    fn call<T>(&self, number: u64, argument: &mut T) -> io::Result<()> {
        // SAFETY: `number` encodes the size of T (asserted above), and the kernel writes only inside it.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), number as _, std::ptr::from_mut(argument)) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn from_device() -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/userfaultfd")?;
    // SAFETY: the call takes flags by value and returns a new descriptor.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), IOC_NEW as _, FLAGS) };
    owned(fd)
}

fn by_syscall() -> Result<File, UffdError> {
    // SAFETY: the call takes flags by value and returns a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, FLAGS | USER_MODE_ONLY) };
    owned(fd as i32).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => UffdError::NotPermitted,
        Some(libc::ENOSYS) => UffdError::Absent,
        _ => UffdError::Failed { what: "userfaultfd", source },
    })
}

fn owned(fd: i32) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor and nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
#[path = "uffd_tests.rs"]
mod tests;
