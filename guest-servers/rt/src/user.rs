//! What a program asks of PM, VFS and VM: one typed function per request.

use refault_abi::kcall::{ProcInfo, rts};
use refault_abi::message::{Payload, Status};
use refault_abi::vfs::{self, Io, Path, Stat};
use refault_abi::{Endpoint, Errno, Message, Result, pm, vm};
use zerocopy::{FromBytes, IntoBytes};

pub use crate::start::exit;

/// A descriptor number.
pub type Descriptor = i32;

/// Sends a request and checks the plain status of its answer.
fn ask<T: Payload>(server: Endpoint, request: u16, payload: &T) -> Result<u64> {
    crate::ipc::sendrec(server, &Message::new(request, payload))?.get::<Status>().check()
}

/// The address and length of bytes that the server only reads.
fn bytes_of(bytes: &[u8]) -> (u64, u64) {
    (bytes.as_ptr().expose_provenance() as u64, bytes.len() as u64)
}

/// A request on one path.
fn on_path(request: u16, path: &str, flags: u32, mode: u32) -> Result<u64> {
    let (address, length) = bytes_of(path.as_bytes());
    ask(Endpoint::VFS, request, &Path { address, length, buffer: 0, bytes: 0, flags, mode })
}

/// A request on two paths.
fn on_paths(request: u16, path: &str, other: &str) -> Result<()> {
    let (address, length) = bytes_of(path.as_bytes());
    let (buffer, bytes) = bytes_of(other.as_bytes());
    ask(Endpoint::VFS, request, &Path { address, length, buffer, bytes, flags: 0, mode: 0 }).map(drop)
}

/// A request on a descriptor.
fn on_descriptor(
    request: u16,
    descriptor: Descriptor,
    flags: u32,
    address: u64,
    bytes: u64,
    offset: i64,
) -> Result<u64> {
    ask(Endpoint::VFS, request, &Io { descriptor, flags, address, bytes, offset })
}

/// A count as a length.
fn length(count: u64) -> Result<usize> {
    usize::try_from(count).map_err(|_| Errno::EINVAL)
}

/// Opens `path` with `vfs::O_*` flags; `mode` is for a file that is created.
pub fn open(path: &str, flags: u32, mode: u32) -> Result<Descriptor> {
    on_path(vfs::OPEN, path, flags, mode).and_then(|fd| i32::try_from(fd).map_err(|_| Errno::EINVAL))
}

/// Closes a descriptor.
pub fn close(descriptor: Descriptor) -> Result<()> {
    on_descriptor(vfs::CLOSE, descriptor, 0, 0, 0, 0).map(drop)
}

/// Reads at the file position.
pub fn read(descriptor: Descriptor, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer may be overwritten.
    unsafe { read_raw(descriptor, buffer.as_mut_ptr().expose_provenance() as u64, buffer.len() as u64) }
        .and_then(length)
}

/// [`read`] by address: the range may be unmapped or a file mapping, as the tests want it.
///
/// # Safety
/// Whatever of the range is mapped may be overwritten.
pub unsafe fn read_raw(descriptor: Descriptor, address: u64, bytes: u64) -> Result<u64> {
    on_descriptor(vfs::READ, descriptor, 0, address, bytes, 0)
}

/// Writes at the file position.
pub fn write(descriptor: Descriptor, buffer: &[u8]) -> Result<usize> {
    let (address, bytes) = bytes_of(buffer);
    write_raw(descriptor, address, bytes).and_then(length)
}

/// [`write`] by address. The memory is only read.
pub fn write_raw(descriptor: Descriptor, address: u64, bytes: u64) -> Result<u64> {
    on_descriptor(vfs::WRITE, descriptor, 0, address, bytes, 0)
}

/// Reads at `offset`; the file position stays.
pub fn pread(descriptor: Descriptor, buffer: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: the buffer may be overwritten.
    unsafe {
        pread_raw(descriptor, buffer.as_mut_ptr().expose_provenance() as u64, buffer.len() as u64, offset)
    }
    .and_then(length)
}

/// [`pread`] by address.
///
/// # Safety
/// Whatever of the range is mapped may be overwritten.
pub unsafe fn pread_raw(descriptor: Descriptor, address: u64, bytes: u64, offset: u64) -> Result<u64> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    on_descriptor(vfs::PREAD, descriptor, 0, address, bytes, offset)
}

/// Writes at `offset`; the file position stays.
pub fn pwrite(descriptor: Descriptor, buffer: &[u8], offset: u64) -> Result<usize> {
    let (address, bytes) = bytes_of(buffer);
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    on_descriptor(vfs::PWRITE, descriptor, 0, address, bytes, offset).and_then(length)
}

/// Moves the file position; `whence` is one of `vfs::SEEK_*`.
pub fn lseek(descriptor: Descriptor, offset: i64, whence: u32) -> Result<u64> {
    on_descriptor(vfs::LSEEK, descriptor, whence, 0, 0, offset)
}

/// Status of a path.
pub fn stat(path: &str) -> Result<Stat> {
    stat_with(path, 0)
}

/// Status of a path; a symbolic link at its end is not followed.
pub fn lstat(path: &str) -> Result<Stat> {
    stat_with(path, vfs::O_NOFOLLOW)
}

/// STAT with its flags.
fn stat_with(path: &str, flags: u32) -> Result<Stat> {
    let mut stat = Stat::default();
    let (address, length) = bytes_of(path.as_bytes());
    let buffer = stat.as_mut_bytes().as_mut_ptr().expose_provenance() as u64;
    let request = Path { address, length, buffer, bytes: size_of::<Stat>() as u64, flags, mode: 0 };
    ask(Endpoint::VFS, vfs::STAT, &request)?;
    Ok(stored(&stat))
}

/// Status of a descriptor.
pub fn fstat(descriptor: Descriptor) -> Result<Stat> {
    let mut stat = Stat::default();
    let address = stat.as_mut_bytes().as_mut_ptr().expose_provenance() as u64;
    on_descriptor(vfs::FSTAT, descriptor, 0, address, size_of::<Stat>() as u64, 0)?;
    Ok(stored(&stat))
}

/// Reads a value that another process stored behind the compiler's back.
fn stored<T: FromBytes + Copy>(place: &T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::read_volatile(place) }
}

/// Directory entries from the position on; answers the bytes stored, 0 at the end. Walk them with [`Entries`].
pub fn getdents(descriptor: Descriptor, buffer: &mut [u8]) -> Result<usize> {
    let address = buffer.as_mut_ptr().expose_provenance() as u64;
    on_descriptor(vfs::GETDENTS, descriptor, 0, address, buffer.len() as u64, 0).and_then(length)
}

/// Walks what [`getdents`] stored: inode and name of each entry. Stops at an entry that makes no sense.
#[derive(Clone, Debug)]
pub struct Entries<'a>(pub &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = (u64, &'a str);

    fn next(&mut self) -> Option<(u64, &'a str)> {
        let (header, after) = vfs::Dirent::read_from_prefix(self.0).ok()?;
        let record = usize::from(header.record);
        if record < size_of::<vfs::Dirent>() {
            return None;
        }
        let name = after.get(..usize::from(header.name))?;
        self.0 = self.0.get(record..)?;
        Some((header.inode, core::str::from_utf8(name).unwrap_or("?")))
    }
}

/// Makes a directory.
pub fn mkdir(path: &str, mode: u32) -> Result<()> {
    on_path(vfs::MKDIR, path, 0, mode).map(drop)
}

/// Removes a name.
pub fn unlink(path: &str) -> Result<()> {
    on_path(vfs::UNLINK, path, 0, 0).map(drop)
}

/// Removes a directory.
pub fn rmdir(path: &str) -> Result<()> {
    on_path(vfs::RMDIR, path, 0, 0).map(drop)
}

/// Changes the directory.
pub fn chdir(path: &str) -> Result<()> {
    on_path(vfs::CHDIR, path, 0, 0).map(drop)
}

/// Renames `old` to `new`.
pub fn rename(old: &str, new: &str) -> Result<()> {
    on_paths(vfs::RENAME, old, new)
}

/// Gives the file `old` the further name `new`.
pub fn link(old: &str, new: &str) -> Result<()> {
    on_paths(vfs::LINK, old, new)
}

/// Makes the symbolic link `name` that says `target`.
pub fn symlink(target: &str, name: &str) -> Result<()> {
    on_paths(vfs::SYMLINK, name, target)
}

/// Reads a symbolic link's target; answers its length.
pub fn readlink(path: &str, target: &mut [u8]) -> Result<usize> {
    let (address, path_length) = bytes_of(path.as_bytes());
    let buffer = target.as_mut_ptr().expose_provenance() as u64;
    let request =
        Path { address, length: path_length, buffer, bytes: target.len() as u64, flags: 0, mode: 0 };
    ask(Endpoint::VFS, vfs::READLINK, &request).and_then(length)
}

/// Sets a file's size.
pub fn ftruncate(descriptor: Descriptor, size: u64) -> Result<()> {
    let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
    on_descriptor(vfs::FTRUNCATE, descriptor, 0, 0, 0, size).map(drop)
}

/// Writes a file and its disk back.
pub fn fsync(descriptor: Descriptor) -> Result<()> {
    on_descriptor(vfs::FSYNC, descriptor, 0, 0, 0, 0).map(drop)
}

/// Writes everything back.
pub fn sync() -> Result<()> {
    ask(Endpoint::VFS, vfs::SYNC, &Status::default()).map(drop)
}

/// Writes everything back and forgets every clean cached block and file page.
pub fn flush_caches() -> Result<u64> {
    ask(Endpoint::VFS, vfs::FLUSH_CACHES, &Status::default())
}

/// Maps memory: `vm::PROT_*`, `vm::MAP_*`, a descriptor or -1.
pub fn mmap(length: u64, protection: u32, flags: u32, descriptor: Descriptor, offset: u64) -> Result<u64> {
    let request = vm::Mmap { address: 0, length, protection, flags, descriptor, reserved: 0, offset };
    ask(Endpoint::VM, vm::MMAP, &request)
}

/// Unmaps a range.
///
/// # Safety
/// Nothing may refer to the range any more.
pub unsafe fn munmap(address: u64, length: u64) -> Result<()> {
    ask(Endpoint::VM, vm::MUNMAP, &vm::Range { address, length }).map(drop)
}

/// Memory figures.
pub fn memory_usage() -> Result<vm::Usage> {
    Ok(crate::ipc::sendrec(Endpoint::VM, &Message::new(vm::USAGE, &Status::default()))?.get())
}

/// Longest SPAWN strings, in bytes.
const SPAWN_MAX: usize = 4096;

/// Sends words in the form of [`pm::Spawn`].
fn with_words<'a>(request: u16, words: impl IntoIterator<Item = &'a str>) -> Result<u64> {
    let mut strings = [0u8; SPAWN_MAX];
    let mut used = 0usize;
    for word in words {
        let end = used.checked_add(word.len()).ok_or(Errno::E2BIG)?;
        strings.get_mut(used..end).ok_or(Errno::E2BIG)?.copy_from_slice(word.as_bytes());
        // Behind each word stays a NUL.
        used = end.checked_add(1).filter(|used| *used <= SPAWN_MAX).ok_or(Errno::E2BIG)?;
    }
    let (address, bytes) = bytes_of(strings.get(..used).unwrap_or_default());
    ask(Endpoint::PM, request, &pm::Spawn { address, bytes })
}

/// An endpoint out of a plain status.
fn endpoint(status: u64) -> Result<Endpoint> {
    i32::try_from(status).map(Endpoint::from_raw).map_err(|_| Errno::EINVAL)
}

/// Runs a program of the boot image: its name, then its arguments. Answers the child.
pub fn spawn<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Endpoint> {
    with_words(pm::SPAWN, words).and_then(endpoint)
}

/// [`spawn`], [`exec`] with strings anywhere: the memory is only read, by PM.
pub fn spawn_raw(address: u64, bytes: u64) -> Result<Endpoint> {
    ask(Endpoint::PM, pm::SPAWN, &pm::Spawn { address, bytes }).and_then(endpoint)
}

/// Becomes another program: its name (with a slash a path, without one a program of the boot image), then its
/// arguments. Returns only on failure.
pub fn exec<'a>(words: impl IntoIterator<Item = &'a str>) -> Errno {
    match with_words(pm::EXEC, words) {
        // PM does not answer a process that runs another program.
        Ok(_) => Errno::EINVAL,
        Err(error) => error,
    }
}

/// Who [`fork`] returned in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The caller; this is the child.
    Parent(Endpoint),
    /// The copy.
    Child,
}

/// A copy of this process, descriptors and directory included. What was asked of others asynchronously stays the
/// parent's; grants exist in both, each over its own memory.
pub fn fork() -> Result<Forked> {
    match ask(Endpoint::PM, pm::FORK, &Status::default())? {
        0 => {
            crate::asyncsend::forget();
            crate::grants::reload()?;
            Ok(Forked::Child)
        }
        child => {
            crate::grants::reload()?;
            endpoint(child).map(Forked::Parent)
        }
    }
}

/// Ends a process by a signal; 0 only asks whether it exists.
pub fn kill(endpoint: Endpoint, signal: u32) -> Result<()> {
    ask(Endpoint::PM, pm::KILL, &pm::Kill { endpoint: endpoint.raw(), signal }).map(drop)
}

/// What the kernel knows about a slot; ESRCH for a free one.
pub fn process_info(slot: i32) -> Result<ProcInfo> {
    let request = Message::new(pm::INFO, &Status { result: i64::from(slot) });
    let info: ProcInfo = crate::ipc::sendrec(Endpoint::PM, &request)?.get();
    if info.flags & rts::FREE != 0 { Err(Errno::ESRCH) } else { Ok(info) }
}

/// The parent.
pub fn getppid() -> Result<Endpoint> {
    ask(Endpoint::PM, pm::GETPPID, &Status::default()).and_then(endpoint)
}

/// From now on the interrupt character ends this process's descendants, and not this process.
pub fn foreground() -> Result<()> {
    ask(Endpoint::PM, pm::FOREGROUND, &Status::default()).map(drop)
}

/// Another descriptor for the same open file: `wanted`, which is closed first, or the lowest free one.
pub fn dup(descriptor: Descriptor, wanted: Option<Descriptor>) -> Result<Descriptor> {
    let request = vfs::Dup { descriptor, wanted: wanted.unwrap_or(-1) };
    ask(Endpoint::VFS, vfs::DUP, &request).and_then(|fd| i32::try_from(fd).map_err(|_| Errno::EINVAL))
}

/// A pipe: the descriptor to read from, and the one to write to.
pub fn pipe() -> Result<(Descriptor, Descriptor)> {
    // Two descriptors in one word: the sign bit of neither can be set, so neither can that of the word.
    let both = ask(Endpoint::VFS, vfs::PIPE, &Status::default())?;
    let half = |value: u64| i32::try_from(value & 0xffff_ffff).map_err(|_| Errno::EINVAL);
    Ok((half(both)?, half(both >> 32)?))
}

/// Waits for a child to end; answers it and its status (128 + signal when it was killed).
pub fn wait() -> Result<(Endpoint, i64)> {
    let answer = crate::ipc::sendrec(Endpoint::PM, &Message::new(pm::WAIT, &Status::default()))?;
    let waited: pm::Waited = answer.get();
    let child = Errno::check(waited.result)?;
    let child = i32::try_from(child).map_err(|_| Errno::EINVAL)?;
    Ok((Endpoint::from_raw(child), waited.status))
}

/// The caller's own endpoint.
pub fn getpid() -> Result<Endpoint> {
    ask(Endpoint::PM, pm::GETPID, &Status::default()).and_then(endpoint)
}

pub use crate::kernel::{event, report};

/// Ends the machine with a status. INIT only; returns only on failure.
pub fn shutdown(status: i64) -> Result<()> {
    ask(Endpoint::PM, pm::SHUTDOWN, &Status { result: status }).map(drop)
}
