//! The rest of the host: userfaultfd's permission, io_uring, memory, tools.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use io_uring::{IoUring, opcode, types};

use super::advice;
use super::device::Place;
use super::finding::{Fact, Finding};
use super::host;

const USERFAULTFD_DEVICE: &str = "/dev/userfaultfd";
/// `_IO(0xaa, 0)` on that device.
const NEW_USERFAULTFD: libc::c_ulong = 0xaa00;
/// The form that any user may have: no faults taken inside the kernel are reported. Poisoned pages report none.
const USER_MODE_ONLY: libc::c_int = 1;

/// Probe: ways of getting a userfaultfd.
pub fn userfaultfd() -> Finding {
    let sysctl = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd")
        .map_or("absent".to_owned(), |s| s.trim().to_owned());
    let by_call = userfaultfd_call(0);
    let by_device = userfaultfd_device();
    let restricted = userfaultfd_call(USER_MODE_ONLY);
    userfaultfd_finding([&by_call, &by_device, &restricted].map(|r| r.as_ref().err()), &sysctl)
}

/// `ways`: what went wrong with the system call, the device, and the restricted system call.
fn userfaultfd_finding(ways: [Option<&io::Error>; 3], sysctl: &str) -> Finding {
    let word = |way: Option<&io::Error>| match way.and_then(io::Error::raw_os_error) {
        _ if way.is_none() => "yes".to_owned(),
        Some(libc::EPERM | libc::EACCES) => "not permitted".to_owned(),
        Some(libc::ENOENT | libc::ENOSYS) => "absent".to_owned(),
        _ => way.map_or_else(String::new, io::Error::to_string),
    };
    let [call, device, restricted] = ways;
    let detail = format!(
        "system call: {}; {USERFAULTFD_DEVICE}: {}; restricted to user mode: {}; vm.unprivileged_userfaultfd={sysctl}",
        word(call),
        word(device),
        word(restricted)
    );
    match restricted {
        Some(why) if call.is_some() && device.is_some() => {
            Finding::missing(detail).advise(advice::userfaultfd(why.raw_os_error(), Place::here()))
        }
        _ => Finding::ok(detail),
    }
}

fn userfaultfd_call(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call takes flags by value and returns a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK | flags) };
    owned(fd)
}

fn userfaultfd_device() -> io::Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).open(USERFAULTFD_DEVICE)?;
    // SAFETY: the call takes flags by value and returns a new descriptor.
    let fd =
        unsafe { libc::ioctl(device.as_raw_fd(), NEW_USERFAULTFD as _, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    owned(fd.into())
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel just returned this descriptor and nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Probe: io_uring reads a file.
pub fn io_uring() -> Finding {
    match read_by_io_uring() {
        Ok(true) => Finding::ok("a read completed with the right bytes").knowing(Fact::IoUring),
        Ok(false) => Finding::missing("a read completed with wrong bytes").advise(advice::io_uring(None)),
        Err(error) => Finding::missing(error.to_string()).advise(advice::io_uring(error.raw_os_error())),
    }
}

fn read_by_io_uring() -> io::Result<bool> {
    const TEXT: &[u8] = b"refault";
    let name = CString::from(c"refault-doctor");
    // SAFETY: the name is a valid C string; the call has no other precondition.
    let file = owned(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }.into())?;
    // SAFETY: writes as many bytes as TEXT has to a descriptor that is open for writing.
    if unsafe { libc::write(file.as_raw_fd(), TEXT.as_ptr().cast(), TEXT.len()) } != TEXT.len() as isize {
        return Err(io::Error::last_os_error());
    }
    let mut ring = IoUring::new(2)?;
    let mut buffer = [0_u8; TEXT.len()];
    let read = opcode::Read::new(types::Fd(file.as_raw_fd()), buffer.as_mut_ptr(), TEXT.len() as u32)
        .offset(0)
        .build();
    // SAFETY: file and buffer outlive the request, which is waited for before this function returns; an error
    // before the completion means that the kernel did not take the request.
    unsafe { ring.submission().push(&read) }.map_err(|e| io::Error::other(e.to_string()))?;
    ring.submit_and_wait(1)?;
    let completed = ring.completion().next().ok_or_else(|| io::Error::other("no completion"))?;
    match completed.result() {
        errno if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
        got => Ok(got as usize == TEXT.len() && buffer == TEXT),
    }
}

/// Probe: kernel, processor, module.
pub fn kernel() -> Finding {
    let here = host::Host::with(&super::finding::Facts::default());
    let below = match host::hypervisor() {
        Some(name) => format!("nested in {name}"),
        None if here.nested => "nested".into(),
        None => "on hardware".into(),
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Finding::ok(format!("Linux {}, {}, {below}; {} ({cpus} CPUs)", here.kernel, here.kvm_module, here.cpu))
}

/// Probe: memory for guests.
pub fn memory() -> Finding {
    memory_finding(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// The demonstration's guest and disk fit in this much, in KiB.
const COMFORTABLE_KIB: u64 = 256 << 10;

fn memory_finding(meminfo: &str) -> Finding {
    let (total, available) = (meminfo_kib(meminfo, "MemTotal"), meminfo_kib(meminfo, "MemAvailable"));
    let (Some(total), Some(available)) = (total, available) else {
        return Finding::limited("unknown: /proc/meminfo does not say");
    };
    let detail = format!("{} MiB, {} MiB of it available", total >> 10, available >> 10);
    match available >= COMFORTABLE_KIB {
        true => Finding::ok(detail),
        false => Finding::limited(detail).advise("free some memory, or run guests with a small --mem"),
    }
}

fn meminfo_kib(meminfo: &str, key: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Probe: the setting of transparent huge pages; guest memory opts out whatever it is.
pub fn huge_pages() -> Finding {
    let read = |name| {
        fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{name}"))
            .ok()
            .and_then(|text| selected(&text).map(str::to_owned))
            .unwrap_or_else(|| "absent".into())
    };
    Finding::ok(format!(
        "{}, shared memory {}; switched off for guest memory",
        read("enabled"),
        read("shmem_enabled")
    ))
}

/// The word in brackets.
fn selected(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

/// Probe: the host's own MINIX file system tools, which only tests use.
pub fn minix_tools() -> Finding {
    let missing: Vec<&str> = ["mkfs.minix", "fsck.minix"].into_iter().filter(|tool| !runs(tool)).collect();
    match missing.is_empty() {
        true => Finding::ok("mkfs.minix and fsck.minix run"),
        false => Finding::limited(format!("without {} (optional)", missing.join(" and ")))
            .advise("install util-linux's MINIX tools to have images checked by a second program (Debian: util-linux-extra)"),
    }
}

fn runs(tool: &str) -> bool {
    ["", "/sbin/", "/usr/sbin/"].iter().any(|place| {
        Command::new(format!("{place}{tool}"))
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn userfaultfd_by_one_way_is_enough() {
        let denied = io::Error::from_raw_os_error(libc::EPERM);
        let absent = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(userfaultfd_finding([Some(&denied), None, None], "0").state, State::Ok);
        assert_eq!(userfaultfd_finding([None, Some(&absent), None], "1").state, State::Ok);
        let restricted = userfaultfd_finding([Some(&denied), Some(&absent), None], "0");
        assert_eq!((restricted.state, &restricted.advice), (State::Ok, &None));
        assert_eq!(
            restricted.detail,
            "system call: not permitted; /dev/userfaultfd: absent; restricted to user mode: yes; \
             vm.unprivileged_userfaultfd=0"
        );
        let none = userfaultfd_finding([Some(&denied); 3], "0");
        assert_eq!(none.state, State::Missing);
        assert!(none.advice.is_some_and(|a| a.contains("/dev/userfaultfd")));
    }

    #[test]
    fn memory_is_read_from_meminfo() {
        let plenty = memory_finding("MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:  4000000 kB\n");
        assert_eq!((plenty.state, plenty.detail.as_str()), (State::Ok, "7812 MiB, 3906 MiB of it available"));
        assert_eq!(memory_finding("MemTotal: 8000000 kB\nMemAvailable: 1000 kB").state, State::Limited);
        assert_eq!(memory_finding("").state, State::Limited);
    }

    #[test]
    fn the_selected_word_is_the_bracketed_one() {
        assert_eq!(selected("always [madvise] never\n"), Some("madvise"));
        assert_eq!(selected("always"), None);
    }
}
