//! A buffer some of whose pages are absent: a private mapping of a file, between two pages that nobody may touch.
//!
//! First stage: the absent pages were never touched, and neither VM nor the file system has them. Second stage: every page
//! is there, and the monitor takes the chosen ones away. The one thing to hold in mind: reading the buffer makes its pages
//! present, so look at it only afterwards. All of its bytes are known (the file's), so a byte that a copy should not have
//! changed is seen.

use alloc::format;
use alloc::string::String;

use refault_abi::layout::PAGE;
use refault_abi::vm::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use refault_abi::{Errno, pattern, vfs};
use refault_rt::kernel;
use refault_rt::user::{self, Descriptor};

use super::schedule::Layout;
use super::suite::Explain;
use super::text::text_byte;

/// At which stage of translation pages are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Never touched: the guest's own page tables have nothing.
    First,
    /// Taken away underneath, for this many accesses.
    Second(u64),
}

impl Stage {
    /// Its name in cases.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::First => "first-stage",
            Stage::Second(_) => "second-stage",
        }
    }
}

/// What a mapped file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// The pattern with this id.
    Pattern(u32),
    /// [`text_byte`].
    Text,
    /// Nothing: anonymous memory.
    Zeros,
}

impl Contents {
    /// Byte `offset`.
    pub fn byte(self, offset: u64) -> u8 {
        match self {
            Contents::Pattern(id) => pattern::pattern_byte(id, offset),
            Contents::Text => text_byte(offset),
            Contents::Zeros => 0,
        }
    }
}

/// A file that buffers are mappings of.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// An open descriptor; -1 for anonymous memory.
    pub descriptor: Descriptor,
    /// What the file holds.
    pub contents: Contents,
}

impl Mapped {
    /// Anonymous memory.
    pub const ANONYMOUS: Mapped = Mapped { descriptor: -1, contents: Contents::Zeros };

    /// Opens a file that holds a pattern.
    pub fn pattern(path: &str, id: u32) -> Result<Mapped, String> {
        let descriptor = user::open(path, vfs::O_RDONLY, 0).explain(path)?;
        Ok(Mapped { descriptor, contents: Contents::Pattern(id) })
    }
}

/// The buffer; its mapping is gone when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    base: u64,
    length: u64,
    layout: Layout,
    mapped: Mapped,
}

impl Buffer {
    /// Maps `file` and makes everything present but the layout's absent pages. `write` says whether the buffer is going to
    /// be written: then the present pages are already private.
    pub fn new(mapped: Mapped, layout: Layout, stage: Stage, write: bool) -> Result<Buffer, String> {
        let length = (layout.pages + 2) * PAGE;
        let flags = if mapped.descriptor < 0 { MAP_ANONYMOUS } else { MAP_PRIVATE };
        let base = user::mmap(length, PROT_READ | PROT_WRITE, flags, mapped.descriptor, 0).explain("mmap")?;
        let buffer = Buffer { base, length, layout, mapped };
        for page in 0..layout.pages + 2 {
            let absent =
                stage == Stage::First && page.checked_sub(1).is_some_and(|page| layout.is_absent(page));
            if !absent {
                buffer.touch(page, write);
            }
        }
        match stage {
            Stage::First => {
                user::flush_caches().explain("flushing the caches")?;
            }
            Stage::Second(times) => {
                for page in (0..layout.pages).filter(|page| layout.is_absent(*page)) {
                    kernel::away(base + (page + 1) * PAGE, times).explain("AWAY")?;
                }
            }
        }
        Ok(buffer)
    }

    /// Address of the buffer's first byte.
    pub fn address(&self) -> u64 {
        self.base + PAGE + self.layout.offset
    }

    /// Address of the buffer's first page.
    pub fn first_page(&self) -> u64 {
        self.base + PAGE
    }

    /// How it lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes a page of the mapping present, private if it is going to be written.
    fn touch(&self, page: u64, write: bool) {
        let byte = core::ptr::with_exposed_provenance_mut::<u8>((self.base + page * PAGE) as usize);
        // SAFETY: the address is in this mapping, which is readable and writable and has no other user.
        unsafe {
            let value = byte.read_volatile();
            if write {
                byte.write_volatile(value);
            }
        }
    }

    /// What byte `index` of the buffer was before anybody wrote it; negative indices lie before the buffer.
    pub fn original(&self, index: u64) -> u8 {
        self.mapped.contents.byte(PAGE + self.layout.offset + index)
    }

    /// The buffer as it is now; absent pages become present.
    pub fn bytes(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance::<u8>(self.address() as usize);
        // SAFETY: the range is in this mapping, which is readable; nothing writes it while it is borrowed, because requests
        // that do take an address of a buffer nobody has borrowed, and end before they are looked at.
        unsafe { core::slice::from_raw_parts(start, self.layout.bytes as usize) }
    }

    /// Whether everything of the mapping but the first `moved` bytes of the buffer is still what it was.
    pub fn untouched_but(&self, moved: u64) -> Result<(), String> {
        let start = core::ptr::with_exposed_provenance::<u8>(self.base as usize);
        // SAFETY: as in `bytes`.
        let all = unsafe { core::slice::from_raw_parts(start, self.length as usize) };
        let from = PAGE + self.layout.offset;
        let written = from..from.saturating_add(moved);
        for (offset, byte) in all.iter().enumerate() {
            let offset = offset as u64;
            if !written.contains(&offset) && *byte != self.mapped.contents.byte(offset) {
                return Err(format!(
                    "byte {} of the buffer's mapping was changed to {byte:#04x}",
                    offset.cast_signed() - from.cast_signed()
                ));
            }
        }
        Ok(())
    }

    /// Takes a page of the buffer out of the address space.
    pub fn punch(&self, page: u64) -> Result<(), String> {
        // SAFETY: nothing refers to the page; the buffer's owner does not look at its bytes afterwards.
        unsafe { user::munmap(self.base + (page + 1) * PAGE, PAGE) }.explain("munmap of a page")
    }

    /// Ends a buffer that has a hole: its pages are not looked at again.
    pub fn abandon(self) -> Result<(), String> {
        let (base, length) = (self.base, self.length);
        core::mem::forget(self);
        // SAFETY: the only references to the range were borrows of the buffer.
        match unsafe { user::munmap(base, length) } {
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(error) => Err(format!("munmap: {error}")),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // A page that is still away must not be given back to VM so: whoever got it next would have the fault.
        for page in 0..self.layout.pages + 2 {
            self.touch(page, false);
        }
        // SAFETY: the only references to the range are borrows of this value.
        // An error leaves address space taken, which the end of the program gives back.
        let _ = unsafe { user::munmap(self.base, self.length) };
    }
}

/// Whether the machine has a monitor that takes pages away on request.
pub fn has_monitor() -> bool {
    let layout = Layout::plain(0, PAGE).without(1);
    Buffer::new(Mapped::ANONYMOUS, layout, Stage::Second(1), true).is_ok()
}
