//! The doorbell: how a guest and a monitor that injects second-stage faults talk.
//!
//! A window of [`SIZE`] bytes of MMIO registers, announced as `refault.doorbell=4K@ADDRESS` on the
//! command line. Where it is absent (any other monitor) the guest works without it. `docs/fault-abi.md`
//! is the specification; this module is its machine-readable half.
//!
//! All registers are little endian, accessed at their own size and alignment. 64-bit registers may also
//! be written as two 32-bit halves, low half first; the write of the high half takes effect.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the window.
pub const SIZE: u64 = 4096;
/// I/O port that a kernel booted with `measure=on` writes as its first act at every system-call trap, so that the
/// monitor can step through the rest of the entry and count. The value means nothing.
pub const ENTRY_PORT: u16 = 0xe0;
/// Value of [`reg::MAGIC`]: "RFLT".
pub const MAGIC: u32 = u32::from_le_bytes(*b"RFLT");
/// Value of [`reg::VERSION`].
pub const VERSION: u32 = 1;
/// Value of [`reg::AWAY_TIMES`]: the page is poisoned, every access to it is a machine check, and it never comes back.
pub const TIMES_POISON: u32 = 0xffff_fffe;
/// Command-line key.
pub const CMDLINE_KEY: &str = "refault.doorbell";

/// Register offsets.
pub mod reg {
    /// R 32: [`super::MAGIC`].
    pub const MAGIC: u64 = 0x00;
    /// R 32: [`super::VERSION`].
    pub const VERSION: u64 = 0x04;
    /// R 32: feature bits ([`super::feature`]).
    pub const FEATURES: u64 = 0x08;
    /// W 64: GPA of the [`super::TrapRecord`] array, one per processor, 64-byte aligned. 0 withdraws it:
    /// then nothing is reflected.
    pub const TRAP_RECORDS: u64 = 0x10;
    /// W 64: GPA of the [`super::SitePage`], page aligned. 0 withdraws it.
    pub const SITE_PAGE: u64 = 0x18;
    /// W 64: GPA of the counters page ([`crate::counters`]).
    pub const COUNTERS: u64 = 0x20;
    /// W 64: GPA of a page for report texts.
    pub const REPORT_PAGE: u64 = 0x28;
    /// W 64: base of the guest kernel's direct map (GVA = base + GPA), a hint for naming GVAs.
    pub const DIRECT_MAP: u64 = 0x30;
    /// W 64: the GPA of a page the guest wants back. Harmless for a page that is not away. The page is
    /// there when the write retires, unless a rule keeps it away.
    pub const PAGE_BACK: u64 = 0x40;
    /// W 32: the site countdown reached zero; the processor number. The site page holds the descriptor.
    pub const SITE: u64 = 0x48;
    /// W 32: bytes of text in the report page.
    pub const REPORT: u64 = 0x50;
    /// W 64: the GPA of a page the guest wants to be taken away, as if a rule had named it; works only when a rule permits it
    /// ([`super::feature::AWAY`]). [`AWAY_TIMES`] first.
    pub const PAGE_AWAY: u64 = 0x60;
    /// W 32: how many accesses to the pages of the next PAGE_AWAY writes are reflected, from 1; 0xffff_ffff for ever;
    /// [`super::TIMES_POISON`]: the pages are poisoned.
    pub const AWAY_TIMES: u64 = 0x68;
    /// W 64: an event: code in the low half, value in the high half.
    pub const EVENT: u64 = 0x58;
    /// R 64 (or two 32-bit halves): a number for the guest's program, from whoever started the machine; another one each time
    /// it is put back to its ready mark ([`super::event::READY`]).
    pub const ARGUMENT: u64 = 0x70;
    /// W 64: the page at this GPA, page aligned, belongs to the class in the low 12 bits ([`super::class`]). Only where
    /// [`super::feature::CLASSES`] is set.
    pub const CLASS_PAGE: u64 = 0x78;
}

/// Bits of [`reg::FEATURES`].
pub mod feature {
    /// Traps can be reflected as #PF.
    pub const REFLECT: u32 = 1;
    /// Logical fault sites are used.
    pub const SITES: u32 = 2;
    /// Reports and events are taken.
    pub const REPORT: u32 = 4;
    /// The guest may have pages of its own taken away ([`super::reg::PAGE_AWAY`]).
    pub const AWAY: u32 = 8;
    /// [`super::reg::ARGUMENT`] can be read.
    pub const ARGUMENT: u32 = 16;
    /// The monitor wants to know of pages of certain classes ([`super::reg::CLASS_PAGE`]).
    pub const CLASSES: u32 = 32;
}

/// Classes of pages that only the kernel can name, for [`reg::CLASS_PAGE`].
pub mod class {
    /// The page belongs to none of them any more.
    pub const NONE: u64 = 0;
    /// It holds entries of a registered grant table.
    pub const GRANT_TABLE: u64 = 1;
    /// It holds entries of a registered table of asynchronous messages.
    pub const MESSAGE: u64 = 2;
}

/// Event codes of [`reg::EVENT`].
pub mod event {
    /// The kernel is about to run the first ring-3 instruction.
    pub const FIRST_RING3: u32 = 1;
    /// The first program (not a server) starts.
    pub const PROGRAM_START: u32 = 2;
    /// A test case begins; value: its number.
    pub const CASE_BEGIN: u32 = 3;
    /// A test case ends; value: its number.
    pub const CASE_END: u32 = 4;
    /// A program has prepared what it needs and nothing is in flight: the place for a snapshot. What the program does next it
    /// takes from [`reg::ARGUMENT`](super::reg::ARGUMENT), read after this.
    pub const READY: u32 = 5;
    /// The kernel panicked; the text is on the console.
    pub const PANIC: u32 = 6;
    /// The kernel found that nothing can go on: the report page holds who waits for whom, one edge per line; value: its bytes.
    pub const WEDGED: u32 = 9;
    /// From the kernel entry after this one on, count what ring 0 retires; value: the number of the measurement.
    pub const MEASURE_BEGIN: u32 = 7;
    /// The measurement ends with the instruction before this write.
    pub const MEASURE_END: u32 = 8;
}

/// The status with which a kernel ends the machine after [`event::WEDGED`], or without a monitor to tell.
pub const WEDGED_STATUS: u32 = 121;

macro_rules! measured {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $text:literal;)*) => {
        /// What can be measured between [`event::MEASURE_BEGIN`] and [`event::MEASURE_END`]: the events' value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Measured { $($(#[$doc])* $name = $index,)* }

        impl Measured {
            /// All of them with the names used in reports.
            pub const ALL: [(Measured, &str); [$($text),*].len()] = [$((Measured::$name, $text),)*];
        }
    };
}

measured! {
    /// Nothing: the cost of measuring, part of all others.
    Empty = 0, "measuring itself";
    /// The kernel call NULL.
    NullCall = 1, "null kernel call";
    /// SENDREC to a server that answers at once: there and back.
    RoundTrip = 2, "SENDREC round trip";
    /// SAFECOPYFROM of 4096 bytes, both sides page aligned and present.
    SafeCopy = 3, "safecopy of 4096 bytes";
    /// read() of 4096 bytes of a file that the file system has in its cache, into a page that is present: everybody's
    /// kernel entries. The clean read that the others are compared with.
    Read = 4, "read of 4096 cached bytes";
    /// The same read into an absent page: one of a mapped file that VM has in its cache.
    ReadFaultMapped = 5, "read, buffer page absent: file page in VM's cache";
    /// The same into an absent page of a mapped file that the file system has in its cache, but VM has not.
    ReadFaultFile = 6, "read, buffer page absent: file page in the file system's cache";
    /// The same into an untouched page of anonymous memory.
    ReadFaultAnonymous = 7, "read, buffer page absent: anonymous";
    /// write() of 4096 bytes over a block that the file system has in its cache, from a present page.
    Write = 8, "write of 4096 cached bytes";
    /// The same write from an absent page of a mapped file that VM has in its cache.
    WriteFaultMapped = 9, "write, buffer page absent: file page in VM's cache";
    /// stat() of a name in the root directory.
    Stat = 10, "stat";
    /// getdents() of the whole root directory.
    Getdents = 11, "getdents";
    /// readlink() of a name in the root directory.
    Readlink = 12, "readlink";
    /// symlink() of a new name in the root directory.
    Symlink = 13, "symlink";
    /// write() of 4096 bytes into an empty pipe.
    PipeWrite = 14, "write of 4096 bytes into a pipe";
    /// read() of 4096 bytes from a pipe that holds them.
    PipeRead = 15, "read of 4096 bytes from a pipe";
    /// read() of 4096 bytes of a block device: the driver is asked each time.
    BlockRead = 16, "read of 4096 bytes of a block device";
}

/// What the monitor says about a reflected trap; one per processor, 64 bytes.
///
/// Like the virtualization-exception area of Intel SDM volume 3, 27.5.7.2: the monitor fills it and sets
/// `busy`; the guest reads it in its #PF handler and clears `busy`. While `busy` is set nothing else is
/// reflected to that processor. A #PF is a reflected one exactly if `busy` is set and `gva` is CR2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct TrapRecord {
    /// [`TrapRecord::BUSY`] or 0.
    pub busy: u32,
    /// [`access`] bits.
    pub access: u32,
    /// Number of this reflected trap, from 1, over the whole machine.
    pub sequence: u64,
    /// Guest physical address of the access.
    pub gpa: u64,
    /// Guest virtual address of the access: the value in CR2.
    pub gva: u64,
    /// Instruction that was stopped.
    pub rip: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

const _: () = assert!(size_of::<TrapRecord>() == 64);

impl TrapRecord {
    /// Value of a busy record.
    pub const BUSY: u32 = 0xffff_ffff;
}

/// Bits of [`TrapRecord::access`].
pub mod access {
    /// The access was a write.
    pub const WRITE: u32 = 1;
    /// It came from ring 3.
    pub const USER: u32 = 2;
    /// It was an instruction fetch.
    pub const FETCH: u32 = 4;
    /// The page is poisoned: the record goes with a machine check (#MC), not with a page fault, and the page never comes back.
    pub const POISON: u32 = 8;
}

/// Processors a site page serves.
pub const SITE_PROCESSORS: usize = 16;

/// The shared page of logical fault sites. 4096 bytes.
///
/// The kernel, whenever it is about to touch a granted page: reads `countdown`; zero means nothing is
/// wanted. Otherwise it stores `countdown - 1`, and if that is zero fills its processor's descriptor and
/// writes [`reg::SITE`]. The monitor may arm exactly that page and sets the countdown anew before the
/// write retires.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct SitePage {
    /// Sites to go, 0 for none.
    pub countdown: u64,
    /// Sites passed in all, counted by the kernel only while `countdown` is not zero.
    pub passed: u64,
    /// Zero.
    pub reserved: [u64; 6],
    /// One descriptor per processor.
    pub sites: [Site; SITE_PROCESSORS],
}

const _: () = assert!(size_of::<SitePage>() <= 4096);

/// A logical fault site: which access of which copy is about to happen. 128 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Site {
    /// GPA of the first byte about to be touched.
    pub gpa: u64,
    /// The GVA at which the kernel is going to touch it.
    pub gva: u64,
    /// Its address in the process the page belongs to.
    pub address: u64,
    /// The granter's note ([`crate::grant::Tag`]): operation, attempt, request.
    pub tag: u64,
    /// Number of the copying kernel call since boot: pieces of one copy share it.
    pub copy: u64,
    /// Granter's endpoint.
    pub granter: i32,
    /// Grantee's endpoint.
    pub grantee: i32,
    /// Page within the granted range (granter's side) or within the grantee's buffer of this copy.
    pub page: u32,
    /// Pages of that range.
    pub pages: u32,
    /// 0: the granter's side, 1: the grantee's.
    pub side: u32,
    /// 0: read, 1: write.
    pub access: u32,
    /// Zero.
    pub reserved: [u64; 8],
}

const _: () = assert!(size_of::<Site>() == 128);
