//! Kernel calls: requests of trusted processes to the kernel, by [`crate::ipc::Call::Kernel`].
//!
//! The message's type is the call number, its payload the request; the result comes back in `rax` and
//! whatever else the call answers in the payload. A call runs to its end on the caller's own kernel
//! entry. A copy that meets an absent page without CPF_TRY suspends the caller (VMREQUEST), and the call
//! starts again from its beginning when VM has answered (specification 3.4).
//!
//! Numbers are those of specification 3.2 where it gives one.

mod copies;

pub use copies::{
    COPY_TRY, Copy, PhysRange, SafeCopy, SafeMemset, SetGrant, VSAFECOPY_MAX, VSafeCopy, VSafeCopyElement,
    VuMap,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Base of the kernel call numbers.
pub const BASE: u16 = 0x600;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: u16 = BASE + $number;)*
        /// The call's name, for traces.
        pub const fn name(number: u16) -> &'static str {
            match number.wrapping_sub(BASE) { $($number => stringify!($name),)* _ => "?" }
        }
    };
}

calls! {
    /// [`ProcCreate`]: reserve a process slot. PM, VM.
    PROC_CREATE = 0;
    /// [`ProcStart`]: set registers and make it runnable for the first time (or again, after exec). PM, VM.
    PROC_START = 1;
    /// [`Target`]: remove a process; its slot gets a new generation. PM, VM.
    PROC_EXIT = 2;
    /// [`ProcInfo`]: name and state of a slot. Servers.
    PROC_INFO = 3;
    /// [`ProcFork`]: a copy of a process that waits for an answer, waiting for the same answer. VM.
    PROC_FORK = 4;
    /// [`ProcSet`]: another class and name for a process that waits for PM, at EXEC. PM.
    PROC_SET = 5;
    /// [`Target`]: the process runs no more, and what it was about to send is never received. Ended by PROC_EXIT only. PM.
    PROC_STOP = 6;
    /// [`Copy`] between two processes without a grant. VFS, PM, VM, TTY.
    VIRCOPY = 15;
    /// [`Irq`]: interrupt line to notification. Drivers.
    IRQCTL = 19;
    /// [`DevIn`]: what the serial console has received. TTY.
    DEVIO_IN = 21;
    /// [`DevIo`]: write bytes of the caller's memory to an I/O port. TTY.
    DEVIO_OUT = 22;
    /// [`Alarm`]: a CLOCK notification after a time. Servers.
    SETALARM = 24;
    /// [`Status`](crate::message::Status): end of the guest with this status. Servers.
    SHUTDOWN = 27;
    /// [`SafeCopy`]: copy from a grant into the caller's memory.
    SAFECOPYFROM = 31;
    /// [`SafeCopy`]: copy from the caller's memory into a grant.
    SAFECOPYTO = 32;
    /// [`VSafeCopy`]: up to 64 safecopies, each like one of the above.
    VSAFECOPY = 33;
    /// [`SetGrant`]: where the caller's grant table is.
    SETGRANT = 34;
    /// [`VmCtl`]: VM's side of page faults and suspended calls. VM.
    VMCTL = 43;
    /// [`Diag`]: a line for the kernel's log. Everybody trusted.
    DIAG = 44;
    /// [`VuMap`]: physical addresses behind memory or a grant, for device transfers. Drivers.
    VUMAP = 46;
    /// [`SafeMemset`]: fill a grant with one byte.
    SAFEMEMSET = 56;
    /// [`Report`]: hand a text record to the monitor; succeeds and does nothing where there is none. Everybody.
    REPORT = 60;
    /// [`Event`]: tell the monitor that a point was reached. Everybody.
    EVENT = 61;
    /// [`GrantInfo`]: look at an entry of any process's grant table. Servers, tests.
    GRANT_INFO = 57;
    /// [`CounterValue`]: read a counter of the guest. Servers, tests.
    COUNTER = 58;
    /// [`Away`]: have a page of the caller's own memory taken away at the second stage. ENXIO where there is no monitor
    /// that does it. Tests.
    AWAY = 59;
    /// [`SetGrant`] with the owner in `owner`: a table that answers for another process for a while (ENOTREADY for everybody but the
    /// owner). Servers, tests.
    SETGRANT_TEMPORARY = 35;
    /// [`WaitTable`]: where the caller keeps its list of what its unfinished requests wait for, so that the kernel can name
    /// them when nothing goes on. Servers, tests.
    WAITS = 62;
    /// [`Argument`]: the number that whoever started the machine left at the doorbell. ENXIO where there is none. Everybody.
    ARGUMENT = 55;
    /// Does nothing: the null kernel call of the benchmarks. Everybody.
    NULL = 63;
}

/// WAITS. The kernel reads the table only when it looks for whoever waits for whom; 0 entries withdraw it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitTable {
    /// Address of an array of [`Wait`] in the caller's memory, 64-byte aligned.
    pub address: u64,
    /// Entries, 0 to [`WAITS_MAX`].
    pub entries: u64,
}

/// Most entries of a [`WaitTable`].
pub const WAITS_MAX: usize = 64;

/// One thing that the caller's request waits for. 64 bytes, 64-byte aligned. [`Wait::serial`] is written last when an entry is
/// taken and first when it is freed.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Wait {
    /// 0 for a free entry; otherwise a number that no other wait of this process ever had.
    pub serial: u64,
    /// For whom the request is done; the caller's own endpoint when it is for nobody in particular.
    pub subject: i32,
    /// Whom it waits for; the caller's own endpoint when it waits for another of its own requests (a lock).
    pub target: i32,
    /// For whom the awaited request is done (whoever holds the lock); NONE for the same subject as the waiting one's.
    pub target_subject: i32,
    /// Zero.
    pub reserved: u32,
    /// Why, in a word or two: UTF-8, NUL padded.
    pub reason: [u8; 40],
}

const _: () = assert!(size_of::<Wait>() == 64);

/// A call that names only a process.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Target {
    /// Endpoint.
    pub endpoint: i32,
    /// Zero.
    pub reserved: u32,
}

/// PROC_CREATE. On return `endpoint` is the new process, which cannot run yet.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcCreate {
    /// Wanted slot, or -1 for the first free dynamic one.
    pub slot: i32,
    /// The new endpoint, on return.
    pub endpoint: i32,
    /// [`privilege`] class.
    pub privilege: u32,
    /// Scheduling priority, 0 (first) to 15.
    pub priority: u32,
    /// Name, NUL padded.
    pub name: [u8; 16],
}

/// What a process may do: classes of [`ProcCreate::privilege`].
pub mod privilege {
    /// A user process: SENDREC to PM, VFS and VM only, kernel calls REPORT, EVENT, ARGUMENT and NULL only, no grants.
    pub const USER: u32 = 0;
    /// A server: every primitive, grants, copies.
    pub const SERVER: u32 = 1;
    /// A server that may also use interrupts, ports and physical addresses.
    pub const DRIVER: u32 = 2;
    /// A system process of the test programs: grants and all primitives, but no raw copies and no process control.
    pub const TEST: u32 = 3;
}

/// PROC_START.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcStart {
    /// The process.
    pub endpoint: i32,
    /// Zero.
    pub reserved: u32,
    /// First instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Value of `rdi` at the start: the address of [`crate::info::StartInfo`].
    pub argument: u64,
    /// Physical address of its top-level page table (its kernel half is filled in by the kernel).
    pub root: u64,
}

/// PROC_FORK. The parent is blocked receiving from PM. The child has its registers, class and priority, no grants and no
/// pending anything, and is blocked receiving from PM as well: PM's answers are what makes the two differ.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcFork {
    /// Whose copy.
    pub parent: i32,
    /// The child, on return.
    pub child: i32,
    /// Physical address of the child's top-level page table.
    pub root: u64,
}

/// PROC_SET.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcSet {
    /// The process: one of class USER or TEST.
    pub endpoint: i32,
    /// Its [`privilege`] class from now on: USER or TEST.
    pub privilege: u32,
    /// Name, NUL padded.
    pub name: [u8; 16],
}

/// GRANT_INFO: `endpoint` and `index` in, the rest out. EPERM without such an entry or when it cannot be read.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantInfo {
    /// Whose table.
    pub endpoint: i32,
    /// Which entry.
    pub index: u32,
    /// Entries of the table.
    pub entries: u64,
    /// [`crate::grant::Entry::state`].
    pub state: u64,
    /// [`crate::grant::Entry::grantee`].
    pub grantee: i32,
    /// [`crate::grant::Entry::other`].
    pub other: i32,
    /// [`crate::grant::Entry::start`].
    pub start: u64,
    /// [`crate::grant::Entry::length`].
    pub length: u64,
    /// [`crate::grant::Entry::tag`].
    pub tag: u64,
}

/// COUNTER: `index` of [`crate::counters::Counter`] in, `value` out. EINVAL for an index that is none.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CounterValue {
    /// Which.
    pub index: u64,
    /// Its value.
    pub value: u64,
}

/// ARGUMENT: nothing in.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Argument {
    /// What [`crate::doorbell::reg::ARGUMENT`] says.
    pub value: u64,
}

/// AWAY. EFAULT when the caller has no such page; those before it have been taken away.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Away {
    /// An address in the page.
    pub address: u64,
    /// How many times an access is to be reflected, from 1; [`AWAY_FOREVER`].
    pub times: u64,
    /// Pages from there on, at most [`AWAY_PAGES`]; 0 is taken for 1.
    pub pages: u64,
}

/// Pages of one AWAY at most: a kernel call is not interrupted.
pub const AWAY_PAGES: u64 = 256;

/// [`Away::times`]: the page never comes back.
pub const AWAY_FOREVER: u64 = 0xffff_ffff;

/// PROC_INFO: `slot` in; the rest out. ESRCH for an empty slot.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcInfo {
    /// Slot number.
    pub slot: i32,
    /// Its endpoint.
    pub endpoint: i32,
    /// Run-time flags ([`rts`]); 0 is runnable.
    pub flags: u32,
    /// Whom it waits for (sending or receiving), or NONE.
    pub waits_for: i32,
    /// Priority.
    pub priority: u32,
    /// Zero.
    pub reserved: u32,
    /// Name, NUL padded.
    pub name: [u8; 16],
}

/// Why a process cannot run.
pub mod rts {
    /// The slot is free.
    pub const FREE: u32 = 1;
    /// Created, not started.
    pub const INHIBITED: u32 = 2;
    /// Blocked sending.
    pub const SENDING: u32 = 4;
    /// Blocked receiving.
    pub const RECEIVING: u32 = 8;
    /// A kernel call waits for VM.
    pub const VMREQUEST: u32 = 16;
    /// A page fault waits for VM.
    pub const PAGEFAULT: u32 = 32;
    /// Stopped by an exception it cannot continue from; PM has been told.
    pub const STOPPED: u32 = 64;
}

/// VMCTL.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VmCtl {
    /// [`vmctl`] operation.
    pub operation: u32,
    /// The process it is about; filled in by MEMREQ_GET.
    pub endpoint: i32,
    /// Address (MEMREQ_GET out, FLUSH in).
    pub address: u64,
    /// Bytes (MEMREQ_GET out, FLUSH in; 0 is everything).
    pub bytes: u64,
    /// MEMREQ_GET out: 1 when write access is needed. MEMREQ_REPLY in: result, 0 or negative. POISON_GET out: a GPA.
    pub value: i64,
    /// MEMREQ_GET out: the suspended requestor (the caller of the kernel call). MEMREQ_REPLY in: the same.
    pub requestor: i32,
    /// MEMREQ_GET out: [`crate::vm::FAULT_SECOND_STAGE`] or 0.
    pub flags: u32,
}

/// Operations of VMCTL.
pub mod vmctl {
    /// Ends a page fault: the process runs again.
    pub const CLEAR_PAGEFAULT: u32 = 12;
    /// Fetches one suspended kernel call's request, ENOENT when none is left.
    pub const MEMREQ_GET: u32 = 14;
    /// Answers it; the kernel call starts again (or fails with the answer).
    pub const MEMREQ_REPLY: u32 = 15;
    /// Drops translations of a process from the TLB.
    pub const FLUSH: u32 = 16;
    /// Fetches one poisoned page that was touched, ENOENT when none is left: `endpoint` is the process whose memory it was,
    /// which runs no more and is to be ended (NONE: its end had begun before), `address` its address there, `value` the GPA of the page.
    pub const POISON_GET: u32 = 17;
}

/// IRQCTL: `operation` 1 = route `line` to a HARDWARE notification of the caller, 2 = unmask, 3 = mask, 4 = release.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Irq {
    /// Operation, see above.
    pub operation: u32,
    /// Global system interrupt number. The notification's word 1 has bit (line mod 64) set.
    pub line: u32,
}

/// DEVIO_OUT.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DevIo {
    /// Port: only the serial console's data port (0x3f8) and its interrupt-enable port (0x3f9) are allowed.
    pub port: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of the bytes in the caller's memory.
    pub address: u64,
    /// Bytes, at most 4096.
    pub bytes: u64,
}

/// DEVIO_IN: nothing in. Empties the receiver as far as there is room.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DevIn {
    /// Bytes received; fewer than [`DEVIO_IN_MAX`] when there are no more.
    pub length: u64,
    /// They.
    pub bytes: [u8; DEVIO_IN_MAX],
}

/// Most bytes of one DEVIO_IN.
pub const DEVIO_IN_MAX: usize = 32;

/// SETALARM: one alarm per process; a new one replaces it, 0 cancels it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Alarm {
    /// Microseconds from now. On return, those that were left of the alarm that was replaced, 0 for none.
    pub microseconds: u64,
}

/// DIAG: up to 48 bytes of text in the message itself.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Diag {
    /// Bytes used.
    pub length: u64,
    /// Text.
    pub text: [u8; 48],
}

/// REPORT: `bytes` (at most [`REPORT_MAX`]) of UTF-8 text at `address`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Report {
    /// Address in the caller's memory.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Bytes of the longest report: the page it is handed over in.
pub const REPORT_MAX: u64 = 4096;

/// EVENT: the doorbell's [`crate::doorbell::event`] code and a value.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// Event code.
    pub code: u32,
    /// Its value.
    pub value: u32,
}
