//! Poison through each form of userfaultfd, met by the kernel itself as KVM would meet it.

use std::os::fd::{FromRawFd, OwnedFd};

use super::*;

const PAGE: usize = 4096;
const TEXT: &[u8] = b"refault";

/// A shared mapping of one page of a memory file, which begins with [`TEXT`].
struct Shared {
    address: *mut libc::c_void,
    _file: File,
}

impl Shared {
    fn new() -> Self {
        // SAFETY: the name is a valid C string; the result is checked before it is owned.
        let fd = unsafe { libc::memfd_create(c"uffd-test".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the kernel just returned this descriptor and nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(PAGE as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, TEXT, 0).unwrap();
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, kind, fd, 0) };
        assert_ne!(address, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self { address, _file: file }
    }

    fn drop_page(&self) {
        // SAFETY: a page of this shared mapping, whose bytes stay in the file; nothing refers into it.
        assert_eq!(unsafe { libc::madvise(self.address, PAGE, libc::MADV_DONTNEED) }, 0);
    }

    /// Has the kernel read the page.
    fn read_by_kernel(&self) -> io::Result<Vec<u8>> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the kernel just returned these descriptors and nobody else owns them.
        let [from, to] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: the address is mapped for a page; if the page cannot be read the call fails.
        let written = unsafe { libc::write(to.as_raw_fd(), self.address, TEXT.len()) };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut bytes = vec![0; TEXT.len()];
        io::Read::read_exact(&mut File::from(from), &mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, used by nobody any more.
        unsafe { libc::munmap(self.address, PAGE) };
    }
}

/// Arms and disarms a page by `uffd`; a touch by the kernel fails at once while it is away.
fn poison_stops_the_kernel(uffd: &Uffd) {
    let shared = Shared::new();
    let start = shared.address as u64;
    uffd.register(start, PAGE as u64).unwrap();
    assert_eq!(shared.read_by_kernel().unwrap(), TEXT);
    assert_eq!(uffd.poison(start, PAGE as u64).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    for _ in 0..100 {
        shared.drop_page();
        uffd.poison(start, PAGE as u64).unwrap();
        assert_eq!(shared.read_by_kernel().unwrap_err().raw_os_error(), Some(libc::EFAULT));
        shared.drop_page();
        assert_eq!(shared.read_by_kernel().unwrap(), TEXT);
    }
}

/// Whether `opened` can be tested with; says so loudly if not.
fn usable(what: &str, opened: Result<Uffd, UffdError>) -> Option<Uffd> {
    opened.inspect_err(|why| eprintln!("SKIPPED {what}: {why}")).ok()
}

#[test]
fn the_form_for_every_user_stops_the_kernel() {
    if let Some(uffd) = usable("the_form_for_every_user_stops_the_kernel", Uffd::open(Purpose::Poison)) {
        poison_stops_the_kernel(&uffd);
    }
}

#[test]
fn the_form_of_the_device_stops_the_kernel_too() {
    let opened =
        from_device().map_err(|_| UffdError::NotPermitted).and_then(|file| Uffd::with(file, Purpose::Poison));
    if let Some(uffd) = usable("the_form_of_the_device_stops_the_kernel_too", opened) {
        poison_stops_the_kernel(&uffd);
    }
}
