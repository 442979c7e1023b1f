//! Workloads 0 to 8: the eight requests that VFS repeats, once each and in one order, on buffers of several pages.
//!
//! Everything that takes long is done before the ready mark, once for practice: files, caches and the program's own pages are then as
//! they are in each later round, so that each run from the mark passes the same fault sites in the same order. The one thing to
//! hold in mind: the requests are few because ring 0 may be slow; what they leave is looked at byte by byte in ring 3, which is not.
//!
//! BREAD and BWRITE use the last pages of the disk, which nothing else may: what was there is lost.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::pattern;
use refault_abi::vfs::{self, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, SEEK_CUR, SEEK_END, SEEK_SET, Stat};
use refault_rt::Errno;
use refault_rt::user::{self, Descriptor};
use zerocopy::IntoBytes;

use super::gauges::Gauges;
use super::trouble::{Defined, Step, Trouble, same, same_bytes, whole};
use super::window::Window;
use crate::check::raw;
use crate::check::suite::Explain;
use crate::check::text::text_byte;

/// Where everything of these workloads is.
pub const DIRECTORY: &str = "/exercise";
/// The disk that is read and written as such.
const DISK: &str = "/dev/disk0";
/// Where a transfer begins, odd, so that pages of the file and of the buffer never meet.
const START: u64 = 1001;
/// How far into a page a buffer begins: what is moved lies on three pages of either side.
const OFFSET: u64 = 3000;
/// Bytes of a transfer.
const BYTES: u64 = 2 * PAGE + 333;
/// Pages of a file, and of either part of the disk.
const PAGES: u64 = 4;
/// Bytes looked at on either side of what was written.
const AROUND: u64 = 64;
/// Patterns: what is read, what is there before it is written, and the first of those written.
const SOURCE: u32 = 0x61;
const BEFORE: u32 = 0x62;
const WRITTEN: u32 = 0x100;
/// Links in the directory that is listed, with the longest names there can be.
const NAMES: u32 = 36;
/// Bytes of a symbolic link's target.
const TARGET: u64 = 900;

/// One of the eight.
pub trait Request {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Makes everything ready for the request of a round.
    fn ready(&mut self, round: u32) -> Result<(), String>;
    /// Makes the request and looks at all it has done.
    fn perform(&mut self, since: &Gauges) -> Step;
}

/// All of them, in their order.
pub fn all() -> Result<Vec<Box<dyn Request>>, String> {
    let path = |name: &str| format!("{DIRECTORY}/{name}");
    directory(DIRECTORY).explain(DIRECTORY)?;
    // Two, because each has its position.
    let (disk, other) =
        (user::open(DISK, O_RDWR, 0).explain(DISK)?, user::open(DISK, O_RDWR, 0).explain(DISK)?);
    let end = user::lseek(disk, 0, SEEK_END).explain("lseek to the end of the disk")?;
    crate::ensure!(end >= 64 * PAGE, "{DISK} has only {end} bytes");
    let file = |name| user::open(&path(name), O_RDWR | O_CREAT | O_TRUNC, 0o644).explain(name);
    let (source, target) = (file("source")?, file("target")?);
    Ok(vec![
        Box::new(Read::new("READ", source, 0)?),
        Box::new(Write::new("WRITE", target, 0)?),
        Box::new(Read::new("BREAD", disk, end - PAGES * PAGE)?),
        Box::new(Write::new("BWRITE", other, end - 2 * PAGES * PAGE)?),
        Box::new(Getdents::new(&path("many"))?),
        Box::new(Rdlink::new(path("link"))?),
        Box::new(Slink::new(path("made"))?),
        Box::new(Status::new(file("status")?)?),
    ])
}

/// Makes a directory, unless it is there.
pub fn directory(path: &str) -> refault_abi::Result<()> {
    match user::mkdir(path, 0o755) {
        Err(Errno::EEXIST) => Ok(()),
        made => made,
    }
}

/// A descriptor whose position and size have to be right.
#[derive(Debug)]
struct Open {
    descriptor: Descriptor,
    start: u64,
    size: u64,
}

impl Open {
    /// A file or part of a disk that holds the pattern `id` from `base` on.
    fn new(descriptor: Descriptor, base: u64, id: u32) -> Result<Open, String> {
        let mut bytes = vec![0; (PAGES * PAGE) as usize];
        pattern::fill(id, 0, &mut bytes);
        let count = user::pwrite(descriptor, &bytes, base).explain("preparing")?;
        crate::ensure!(count == bytes.len(), "preparing: {count} bytes of {}", bytes.len());
        let size = user::lseek(descriptor, 0, SEEK_END).explain("lseek")?;
        Ok(Open { descriptor, start: base + START, size })
    }

    fn rewind(&self) -> Result<(), String> {
        user::lseek(self.descriptor, self.start as i64, SEEK_SET).explain("lseek").map(drop)
    }

    /// Whether the position is `moved` behind the start, and the size what it was.
    fn stands(&self, since: &Gauges, moved: u64) -> Step {
        let position = user::lseek(self.descriptor, 0, SEEK_CUR).defined(since, "lseek")?;
        same("the file position", position, self.start + moved)?;
        let size = user::lseek(self.descriptor, 0, SEEK_END).defined(since, "lseek to the end")?;
        same("the size", size, self.size)
    }
}

/// READ and BREAD.
struct Read {
    name: &'static str,
    open: Open,
    window: Window,
    wanted: Vec<u8>,
}

impl Read {
    fn new(name: &'static str, descriptor: Descriptor, base: u64) -> Result<Read, String> {
        let open = Open::new(descriptor, base, SOURCE)?;
        let mut wanted = vec![0; BYTES as usize];
        pattern::fill(SOURCE, START, &mut wanted);
        Ok(Read { name, open, window: Window::new(OFFSET, BYTES)?, wanted })
    }
}

impl Request for Read {
    fn name(&self) -> &'static str {
        self.name
    }
    fn ready(&mut self, round: u32) -> Result<(), String> {
        self.window.fill(WRITTEN.wrapping_add(round));
        self.open.rewind()
    }
    fn perform(&mut self, since: &Gauges) -> Step {
        // SAFETY: the range is the window's, which nobody has borrowed.
        let answer = unsafe { user::read_raw(self.open.descriptor, self.window.address(), BYTES) };
        let answer = match answer.defined(since, "the request") {
            Ok(answer) => answer,
            Err(trouble) => {
                self.window.holds_either("what was read", &self.wanted)?;
                self.open.stands(since, 0)?;
                return Err(trouble);
            }
        };
        whole("bytes read", answer, BYTES)?;
        self.window.holds("what was read", &self.wanted)?;
        self.open.stands(since, BYTES)
    }
}

/// WRITE and BWRITE.
struct Write {
    name: &'static str,
    open: Open,
    window: Window,
    /// What is there, around what is written.
    before: Vec<u8>,
    seen: Vec<u8>,
}

impl Write {
    fn new(name: &'static str, descriptor: Descriptor, base: u64) -> Result<Write, String> {
        let open = Open::new(descriptor, base, BEFORE)?;
        let length = (BYTES + 2 * AROUND) as usize;
        Ok(Write {
            name,
            open,
            window: Window::new(OFFSET, BYTES)?,
            before: vec![0; length],
            seen: vec![0; length],
        })
    }

    fn look(&mut self) -> refault_abi::Result<usize> {
        user::pread(self.open.descriptor, &mut self.seen, self.open.start - AROUND)
    }
}

impl Request for Write {
    fn name(&self) -> &'static str {
        self.name
    }
    fn ready(&mut self, round: u32) -> Result<(), String> {
        if round == 0 {
            let count = self.look().explain("looking at what is there")?;
            crate::ensure!(count == self.seen.len(), "looking at what is there: {count} bytes");
        }
        self.before.clone_from(&self.seen);
        self.window.fill(WRITTEN.wrapping_add(round));
        self.open.rewind()
    }
    fn perform(&mut self, since: &Gauges) -> Step {
        let answer = user::write_raw(self.open.descriptor, self.window.address(), BYTES);
        let answer = answer.defined(since, "the request");
        if let Ok(answer) = answer {
            whole("bytes written", answer, BYTES)?;
        }
        self.window.holds("what was written from", &[])?;
        self.open.stands(since, if answer.is_ok() { BYTES } else { 0 })?;
        let count = self.look().defined(since, "looking at what was written")?;
        whole("bytes around what was written", count as u64, self.seen.len() as u64)?;
        let range = AROUND as usize..(AROUND + BYTES) as usize;
        let new = self.window.given();
        if let Err(trouble) = answer {
            let moved = |index: usize| index.checked_sub(AROUND as usize).and_then(|index| new.get(index));
            let both = self.seen.iter().zip(&self.before).enumerate();
            for (index, (seen, old)) in both {
                if seen != old && moved(index) != Some(seen) {
                    return Err(Trouble::corrupt(format!("byte {index} is neither old nor new")));
                }
            }
            return Err(trouble);
        }
        self.before.get_mut(range).unwrap_or_default().copy_from_slice(new);
        same_bytes("what was written", &self.seen, &self.before)
    }
}

/// GETDENTS.
struct Getdents {
    descriptor: Descriptor,
    window: Window,
    wanted: Vec<u8>,
    next: u64,
}

impl Getdents {
    fn new(path: &str) -> Result<Getdents, String> {
        directory(path).explain(path)?;
        // Links to one file: they cost a name each and nothing else.
        let one = format!("{path}/one");
        let file = user::open(&one, O_RDWR | O_CREAT, 0o644).explain(&one)?;
        user::close(file).explain("close")?;
        for number in 0..NAMES {
            match user::link(&one, &format!("{path}/{number:060}")) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(format!("link {number} in {path}: {error}")),
            }
        }
        let descriptor = user::open(path, O_RDONLY, 0).explain(path)?;
        let window = Window::new(OFFSET, BYTES)?;
        let mut wanted = vec![0; BYTES as usize];
        let count = user::getdents(descriptor, &mut wanted).explain("getdents")?;
        wanted.truncate(count);
        crate::ensure!(count as u64 > PAGE / 2, "{path} has only {count} bytes of entries");
        let next = user::lseek(descriptor, 0, SEEK_CUR).explain("lseek")?;
        Ok(Getdents { descriptor, window, wanted, next })
    }
}

impl Request for Getdents {
    fn name(&self) -> &'static str {
        "GETDENTS"
    }
    fn ready(&mut self, round: u32) -> Result<(), String> {
        self.window.fill(WRITTEN.wrapping_add(round));
        user::lseek(self.descriptor, 0, SEEK_SET).explain("lseek").map(drop)
    }
    fn perform(&mut self, since: &Gauges) -> Step {
        let answer = raw::on_descriptor(vfs::GETDENTS, self.descriptor, self.window.address(), BYTES);
        let answer = answer.defined(since, "the request");
        let position = user::lseek(self.descriptor, 0, SEEK_CUR).defined(since, "lseek")?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(trouble) => {
                same("the position", position, 0)?;
                self.window.holds_either("the entries", &self.wanted)?;
                return Err(trouble);
            }
        };
        whole("bytes of entries", answer, self.wanted.len() as u64)?;
        same("the position", position, self.next)?;
        self.window.holds("the entries", &self.wanted)
    }
}

/// The letters of a target.
fn letters(round: u32) -> impl Iterator<Item = u8> {
    (0..TARGET).map(move |index| text_byte(index.wrapping_add(u64::from(round))))
}

/// RDLINK.
struct Rdlink {
    path: String,
    window: Window,
    wanted: Vec<u8>,
}

impl Rdlink {
    fn new(path: String) -> Result<Rdlink, String> {
        let wanted: Vec<u8> = letters(0).collect();
        let target = core::str::from_utf8(&wanted).unwrap_or_default();
        match user::symlink(target, &path) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("{path}: {error}")),
        }
        Ok(Rdlink { path, window: Window::new(PAGE - 96, TARGET + 100)?, wanted })
    }
}

impl Request for Rdlink {
    fn name(&self) -> &'static str {
        "RDLINK"
    }
    fn ready(&mut self, round: u32) -> Result<(), String> {
        self.window.fill(WRITTEN.wrapping_add(round));
        Ok(())
    }
    fn perform(&mut self, since: &Gauges) -> Step {
        let answer = raw::on_path(vfs::READLINK, &self.path, self.window.address(), self.window.len());
        match answer.defined(since, "the request") {
            Ok(answer) => whole("bytes of the target", answer, TARGET)?,
            Err(trouble) => {
                self.window.holds_either("the target", &self.wanted)?;
                return Err(trouble);
            }
        }
        self.window.holds("the target", &self.wanted)
    }
}

/// SLINK.
struct Slink {
    path: String,
    window: Window,
    seen: Vec<u8>,
}

impl Slink {
    fn new(path: String) -> Result<Slink, String> {
        Ok(Slink { path, window: Window::new(PAGE - 96, TARGET)?, seen: vec![0; TARGET as usize + 1] })
    }
}

impl Request for Slink {
    fn name(&self) -> &'static str {
        "SLINK"
    }
    fn ready(&mut self, round: u32) -> Result<(), String> {
        self.window.fill(WRITTEN.wrapping_add(round));
        self.window.put(letters(round));
        match user::unlink(&self.path) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(format!("{}: {error}", self.path)),
        }
    }
    fn perform(&mut self, since: &Gauges) -> Step {
        let answer = raw::on_path(vfs::SYMLINK, &self.path, self.window.address(), TARGET);
        let answer = answer.defined(since, "the request");
        self.window.holds("the target's memory", &[])?;
        let seen = user::readlink(&self.path, &mut self.seen);
        if let Err(trouble) = answer {
            // A link appears behind its last copy, or not at all.
            return match seen {
                Err(Errno::ENOENT) => Err(trouble),
                // The look itself may have met what lasts.
                Err(error) if since.defined(error) => Err(trouble),
                other => Err(format!("a failed request left a link: {other:?}").into()),
            };
        }
        let count = seen.defined(since, "reading the link")?;
        same_bytes("the link", self.seen.get(..count).unwrap_or_default(), self.window.given())
    }
}

/// STAT.
struct Status {
    descriptor: Descriptor,
    window: Window,
    wanted: Stat,
}

impl Status {
    fn new(descriptor: Descriptor) -> Result<Status, String> {
        let count = user::pwrite(descriptor, b"status", 0).explain("preparing")?;
        crate::ensure!(count == 6, "preparing: {count} bytes");
        let wanted = user::fstat(descriptor).explain("fstat")?;
        let bytes = size_of::<Stat>() as u64;
        Ok(Status { descriptor, window: Window::new(PAGE - bytes / 2, bytes)?, wanted })
    }
}

impl Request for Status {
    fn name(&self) -> &'static str {
        "STAT"
    }
    fn ready(&mut self, round: u32) -> Result<(), String> {
        self.window.fill(WRITTEN.wrapping_add(round));
        Ok(())
    }
    fn perform(&mut self, since: &Gauges) -> Step {
        match raw::fstat(self.descriptor, self.window.address()).defined(since, "the request") {
            Ok(answer) => same("the answer", answer, 0)?,
            Err(trouble) => {
                self.window.holds_either("the status", self.wanted.as_bytes())?;
                return Err(trouble);
            }
        }
        self.window.holds("the status", self.wanted.as_bytes())
    }
}
