//! Poisoned pages: whose page it was ends, and nobody else notices more than an error.
//!
//! Each case has one page of a known owner poisoned, has it touched in a known way, and counts: machine checks in ring 3 and in
//! copies, frames out of use, restarts. The one thing to hold in mind: a poisoned page never comes back, so it must be a page
//! of a child that is going to end, or one of a file that the file system can read again; no page of the parent's own.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::doorbell::TIMES_POISON;
use refault_abi::layout::PAGE;
use refault_abi::vfs::{self, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC};
use refault_abi::vm::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use refault_abi::{Errno, pattern, pm};
use refault_rt::kernel;
use refault_rt::user::{self, Descriptor};

use super::case::{Complaint, Outcome, Verdict};
use super::family::Child;
use super::raw;
use super::retry::data::check_pattern;
use super::suite::{Explain, Suite, expect};

/// Status of a program that ended by SIGBUS.
const BUS_ERROR: i64 = 128 + pm::SIGBUS as i64;
/// The file whose page in the cache is poisoned, and what it holds.
const FILE: &str = "/poison.bin";
const CONTENTS: u32 = 0x70;
/// Pages of it, and of each child's buffer.
const PAGES: u64 = 3;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Books {
    /// Machine checks in ring 3.
    user: u64,
    /// Machine checks in copies.
    copy: u64,
    /// Frames out of use.
    frames: u64,
    /// Servers made again.
    restarts: u64,
}

impl Books {
    fn now() -> Result<Books, String> {
        let counter = |which| kernel::counter(which).explain("COUNTER");
        let usage = user::memory_usage().explain("memory usage")?;
        expect("pages that nobody holds, and miscounted ones", (usage.unclaimed, usage.miscounted), (0, 0))?;
        Ok(Books {
            user: counter(Counter::PoisonedUser)?,
            copy: counter(Counter::PoisonedCopy)?,
            frames: u64::from(usage.poisoned),
            restarts: counter(Counter::RsRestarts)?,
        })
    }

    /// Checks what has been added since.
    fn expect(self, wanted: Books) -> Result<(), String> {
        let now = Books::now()?;
        let added = Books {
            user: now.user.wrapping_sub(self.user),
            copy: now.copy.wrapping_sub(self.copy),
            frames: now.frames.wrapping_sub(self.frames),
            restarts: now.restarts.wrapping_sub(self.restarts),
        };
        expect("machine checks, frames and restarts", added, wanted)
    }
}

/// One machine check in ring 3.
const TOUCHED: Books = Books { user: 1, copy: 0, frames: 1, restarts: 0 };
/// One in a copy.
const COPIED: Books = Books { user: 0, copy: 1, frames: 1, restarts: 0 };

/// All cases.
pub fn run(suite: &mut Suite) {
    for (name, write) in [("read", false), ("write", true)] {
        suite.case(&format!("poison.touch.{name}"), |_| {
            dies(TOUCHED, |address| {
                touch(address + PAGE, write);
                Ok(())
            })
        });
    }
    suite.case("poison.touch.forked", |_| dies(TOUCHED, forked));
    for page in 0..PAGES {
        suite.case(&format!("poison.READ.page-{page}"), |_| {
            dies_at(COPIED, page, |address| operation(vfs::PREAD, "/a.bin", address))
        });
        suite.case(&format!("poison.WRITE.page-{page}"), |_| {
            dies_at(COPIED, page, |address| operation(vfs::PWRITE, "/poison.out", address))
        });
    }
    suite.case("poison.STAT", |_| {
        dies(COPIED, |address| {
            raw::on_path(vfs::STAT, "/a.bin", address + PAGE, 96).map(drop).explain("stat")
        })
    });
    suite.case("poison.a-path", |_| {
        dies(COPIED, |address| raw::on_path_at(vfs::OPEN, address + PAGE, 8, 0).map(drop).explain("open"))
    });
    suite.case("poison.pipe", |_| pipe());
    suite.case("poison.cache.READ", |_| cached(|file, bytes| user::pread(file, bytes, 0)));
    suite.case("poison.cache.WRITE", |_| {
        cached(|file, bytes| {
            pattern::fill(CONTENTS, 0, bytes);
            user::pwrite(file, bytes, 0)
        })
    });
    suite.case("poison.cache.touch", |_| touched_in_the_cache());
}

/// Touches a byte.
fn touch(address: u64, write: bool) {
    let byte = core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: callers pass addresses of mappings of their own that nothing refers to, writable if `write` is set.
    unsafe {
        if write {
            byte.write_volatile(1);
        } else {
            core::hint::black_box(byte.read_volatile());
        }
    }
}

/// A buffer of which page `page` is poisoned, everything present and private.
fn buffer(page: u64) -> Result<u64, String> {
    let flags = MAP_ANONYMOUS | MAP_PRIVATE;
    let address = user::mmap(PAGES * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0).explain("mmap")?;
    (0..PAGES).for_each(|page| touch(address + page * PAGE, true));
    kernel::away(address + page * PAGE, u64::from(TIMES_POISON)).explain("AWAY")?;
    Ok(address)
}

/// A child with a poisoned page in the middle of its buffer does something, and ends by SIGBUS.
fn dies(wanted: Books, body: impl FnOnce(u64) -> Result<(), String>) -> Outcome {
    dies_at(wanted, 1, body)
}

fn dies_at(wanted: Books, page: u64, body: impl FnOnce(u64) -> Result<(), String>) -> Outcome {
    let before = Books::now()?;
    let child = Child::run(|| body(buffer(page)?))?;
    expect("the child's status", child.status()?, BUS_ERROR)?;
    before.expect(wanted)?;
    // Whoever served the child goes on.
    let file = user::open("/hello.txt", O_RDONLY, 0).explain("opening afterwards")?;
    let mut bytes = [0; 5];
    expect("reading afterwards", user::read(file, &mut bytes).explain("read")?, 5)?;
    expect("what was read", bytes, *b"Hello")?;
    user::close(file).explain("close")?;
    Ok(Some(Verdict::Rejected))
}

/// The whole buffer in one request.
fn operation(request: u16, path: &str, address: u64) -> Result<(), String> {
    let file = user::open(path, O_RDWR | O_CREAT, 0o644).explain(path)?;
    raw::on_descriptor(request, file, address, PAGES * PAGE).map(drop).explain("the request")
}

/// Parent and child share the page. The child, who reads it first, ends. Nobody can write to it now without a copy being made, and VM,
/// who would make it, knows better: a request hears EFAULT, and an access is SIGBUS, both without another machine check.
fn forked(address: u64) -> Result<(), String> {
    let child = Child::run(|| {
        touch(address + PAGE, false);
        Ok(())
    })?;
    expect("the grandchild's status", child.status()?, BUS_ERROR)?;
    touch(address, true);
    expect("stat", raw::on_path(vfs::STAT, "/a.bin", address + PAGE, 96), Err(Errno::EFAULT))?;
    touch(address + PAGE, true);
    Ok(())
}

/// A writer whose bytes are lost ends; the reader gets what came before, and then the end.
fn pipe() -> Outcome {
    let before = Books::now()?;
    let (input, output) = user::pipe().explain("pipe")?;
    let child = Child::run(|| {
        user::write(output, b"good").explain("the good bytes")?;
        let address = buffer(1)?;
        raw::on_descriptor(vfs::WRITE, output, address + PAGE - 4, 8).map(drop).explain("the bad ones")
    })?;
    expect("the child's status", child.status()?, BUS_ERROR)?;
    user::close(output).explain("close")?;
    let mut bytes = [0; 16];
    let count = user::read(input, &mut bytes).explain("read")?;
    expect("what was read", bytes.get(..count), Some(&b"good"[..]))?;
    expect("the end", user::read(input, &mut bytes).explain("read")?, 0)?;
    user::close(input).explain("close")?;
    before.expect(COPIED)?;
    Ok(Some(Verdict::Rejected))
}

/// A file on the disk, and the address of a page of it that VM and the file system have in their caches, poisoned.
fn file_with_a_poisoned_page() -> Result<(Descriptor, u64), String> {
    let file = user::open(FILE, O_RDWR | O_CREAT | O_TRUNC, 0o644).explain(FILE)?;
    let mut bytes = vec![0; (PAGES * PAGE) as usize];
    pattern::fill(CONTENTS, 0, &mut bytes);
    expect("preparing", user::pwrite(file, &bytes, 0).explain("pwrite")?, bytes.len())?;
    user::fsync(file).explain("fsync")?;
    user::sync().explain("sync")?;
    let address = user::mmap(PAGES * PAGE, PROT_READ, MAP_PRIVATE, file, 0).explain("mmap")?;
    touch(address + PAGE, false);
    kernel::away(address + PAGE, u64::from(TIMES_POISON)).explain("AWAY")?;
    Ok((file, address))
}

/// The file as it is, and as it has to be; then it goes.
fn sound(file: Descriptor, address: u64) -> Result<(), Complaint> {
    let mut seen: Vec<u8> = vec![0; (PAGES * PAGE) as usize + 1];
    let count = user::pread(file, &mut seen, 0).explain("reading again")?;
    expect("bytes of the file", count as u64, PAGES * PAGE)?;
    check_pattern("the file", CONTENTS, 0, seen.get(..count).unwrap_or_default())?;
    // SAFETY: nothing refers to the mapping.
    unsafe { user::munmap(address, PAGES * PAGE) }.explain("munmap")?;
    user::close(file).explain("close")?;
    user::unlink(FILE).explain("unlink")?;
    Ok(())
}

/// The file system meets its own page in a copy: it is made again, the request ends with EIO, and the next one finds the disk.
fn cached(request: impl FnOnce(Descriptor, &mut [u8]) -> Result<usize, Errno>) -> Outcome {
    let before = Books::now()?;
    let (file, address) = file_with_a_poisoned_page()?;
    let mut bytes = vec![0; (PAGES * PAGE) as usize];
    expect("the request", request(file, &mut bytes), Err(Errno::EIO))?;
    sound(file, address)?;
    before.expect(Books { restarts: 1, ..COPIED })?;
    Ok(Some(Verdict::Rejected))
}

/// A program meets a page of the cache in its mapping, and ends; then the file system meets it.
fn touched_in_the_cache() -> Outcome {
    let before = Books::now()?;
    let (file, address) = file_with_a_poisoned_page()?;
    let child = Child::run(|| {
        touch(address + PAGE, false);
        Ok(())
    })?;
    expect("the child's status", child.status()?, BUS_ERROR)?;
    before.expect(TOUCHED)?;
    let mut bytes = vec![0; (PAGES * PAGE) as usize];
    expect("the request", user::pread(file, &mut bytes, 0), Err(Errno::EIO))?;
    sound(file, address)?;
    before.expect(Books { user: 1, copy: 1, frames: 1, restarts: 1 })?;
    Ok(Some(Verdict::Rejected))
}
