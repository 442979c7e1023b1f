//! What each processor has for itself: stacks, task state, descriptor table, and who runs on it.
//!
//! The one thing to hold in mind: `entry.s` reaches this block through GS and knows the first four words.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use refault_abi::doorbell::ENTRY_PORT;
use refault_abi::layout::{DIRECT_MAP, KERNEL};
use refault_kernel::frame::{FRAME_BYTES, Frame};
use refault_kernel::process::NIL;
use refault_kernel::transfer::Lost;

use super::registers::{cpuid, msr, read_msr, write_msr};

/// Processors there is room for. Only the first is started.
pub const PROCESSORS: usize = 4;
const STACK_BYTES: usize = 16384;
const FATAL_STACK_BYTES: usize = 8192;

/// Selectors, see the table in `boot.s`.
pub const USER_CODE: u64 = 0x2b;
/// Selector of user data and stack.
pub const USER_DATA: u64 = 0x23;
const KERNEL_CODE: u64 = 0x08;
const TASK: u16 = 0x30;

/// Task state segment: the stacks the processor switches to (Intel SDM volume 3, figure 8-11).
#[repr(C, packed(4))]
struct TaskState {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}

/// Memory for stacks.
#[repr(C, align(16))]
struct Stack<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

/// The per-processor block.
#[repr(C)]
pub struct Cpu {
    address: AtomicU64,
    stack: AtomicU64,
    frame_end: AtomicU64,
    scratch: AtomicU64,
    /// Slot of the process that runs here, NIL when idle.
    current: AtomicU8,
    /// Address space loaded.
    root: AtomicU64,
    /// Kernel address at which the last copy could not go on, two bits up, and how ([`Lost`]); 0 for none.
    copy_fault: AtomicU64,
    /// Consecutive reflected traps the kernel met at one page outside copies, and that page's address.
    stubborn: AtomicU64,
    stubborn_page: AtomicU64,
    number: AtomicU64,
    gdt: UnsafeCell<[u64; 8]>,
    task: UnsafeCell<TaskState>,
    kernel_stack: Stack<STACK_BYTES>,
    fatal_stacks: [Stack<FATAL_STACK_BYTES>; 3],
}

// SAFETY: the atomics are atomics; the cells are written only by their own processor, during start and with
// the lock held.
unsafe impl Sync for Cpu {}

#[unsafe(link_section = ".bss.pages")]
static CPUS: [Cpu; PROCESSORS] = [const {
    Cpu {
        address: AtomicU64::new(0),
        stack: AtomicU64::new(0),
        frame_end: AtomicU64::new(0),
        scratch: AtomicU64::new(0),
        current: AtomicU8::new(0),
        root: AtomicU64::new(0),
        copy_fault: AtomicU64::new(0),
        stubborn: AtomicU64::new(0),
        stubborn_page: AtomicU64::new(0),
        number: AtomicU64::new(0),
        gdt: UnsafeCell::new([0; 8]),
        task: UnsafeCell::new(TaskState {
            reserved0: 0,
            rsp: [0; 3],
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            io_map: 0,
        }),
        kernel_stack: Stack(UnsafeCell::new([0; STACK_BYTES])),
        fatal_stacks: [const { Stack(UnsafeCell::new([0; FATAL_STACK_BYTES])) }; 3],
    }
}; PROCESSORS];

#[repr(C, packed(2))]
struct TablePointer {
    limit: u16,
    base: u64,
}

unsafe extern "C" {
    static boot_gdt: [u64; 8];
    static interrupt_table: [u64; 512];
    fn entry_syscall();
    fn entry_syscall_measured();
    fn entry_trap_measured();
}

const _: () = assert!(ENTRY_PORT == 0xe0, "entry.s has this number too");

/// Loads an interrupt table of `bytes` bytes at `address`.
///
/// # Safety
/// Its gates must lead to code that can take what may come.
pub unsafe fn load_interrupt_table(address: u64, bytes: u64) {
    let pointer = TablePointer { limit: (bytes - 1) as u16, base: address };
    // SAFETY: the caller's promise.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) }
}

/// Loads the kernel's own interrupt table and the SYSCALL entry.
pub fn load_entries() {
    // SAFETY: the table's gates lead to `entry.s`.
    unsafe { load_interrupt_table(&raw const interrupt_table as u64, 4096) };
    // SAFETY: entry_syscall is the kernel's entry for SYSCALL.
    unsafe { write_msr(msr::LSTAR, entry_syscall as *const () as u64) };
}

/// Has every system-call trap announced at [`ENTRY_PORT`] before anything else. Before the first process runs.
pub fn announce_traps() {
    /// Vector of INT3.
    const TRAP: u64 = 3;
    let handler = entry_trap_measured as *const () as u64;
    let gate = DIRECT_MAP + (&raw const interrupt_table as u64 - KERNEL) + TRAP * 16;
    // A gate's lowest word is the handler's low half; the rest is the same for all of the kernel's text.
    let low = ptr::with_exposed_provenance_mut::<u16>(gate as usize);
    // SAFETY: the direct map maps the whole kernel image writable, and no trap can happen yet.
    unsafe { low.write_volatile(handler as u16) };
    // SAFETY: the entry goes on to entry_syscall.
    unsafe { write_msr(msr::LSTAR, entry_syscall_measured as *const () as u64) };
}

/// Keeps ring 0 from executing user pages, where the processor can.
fn forbid_user_code() {
    const FEATURES: u32 = 7;
    const SMEP_FEATURE: u32 = 1 << 7;
    const SMEP: u64 = 1 << 20;
    if cpuid(0, 0).eax >= FEATURES && cpuid(FEATURES, 0).ebx & SMEP_FEATURE != 0 {
        // SAFETY: the kernel's text is in supervisor pages.
        unsafe {
            asm!("mov {0}, cr4", "or {0}, {1}", "mov cr4, {0}", out(reg) _, const SMEP, options(nostack));
        }
    }
}

/// Offsets into the block that the entry code uses.
pub mod offset {
    use core::mem::offset_of;

    use super::{Cpu, TaskState};

    /// [`Cpu::current`].
    pub const CURRENT: usize = offset_of!(Cpu, current);
    /// [`Cpu::root`].
    pub const ROOT: usize = offset_of!(Cpu, root);
    /// The stack the processor switches to.
    pub const RSP0: usize = offset_of!(Cpu, task) + offset_of!(TaskState, rsp);
}

impl Cpu {
    /// Prepares processor `number` and makes its block reachable through GS. Once per processor.
    pub fn start(number: usize) -> &'static Cpu {
        let cpu = &CPUS[number];
        let top = |stack: *mut u8, bytes: usize| stack as u64 + bytes as u64;
        let stack = top(cpu.kernel_stack.0.get().cast(), STACK_BYTES);
        cpu.address.store(&raw const *cpu as u64, Ordering::Relaxed);
        cpu.number.store(number as u64, Ordering::Relaxed);
        cpu.stack.store(stack, Ordering::Relaxed);
        cpu.current.store(NIL, Ordering::Relaxed);
        cpu.root.store(super::registers::address_space(), Ordering::Relaxed);
        // SAFETY: nobody else uses this processor's task state and table yet.
        let (task, gdt) = unsafe { (&mut *cpu.task.get(), &mut *cpu.gdt.get()) };
        let mut ist = [0; 7];
        for (place, stack) in ist.iter_mut().zip(&cpu.fatal_stacks) {
            *place = top(stack.0.get().cast(), FATAL_STACK_BYTES);
        }
        task.ist = ist;
        task.rsp = [stack, 0, 0];
        task.io_map = size_of::<TaskState>() as u16;
        // SAFETY: a constant table of the image.
        *gdt = unsafe { boot_gdt };
        let base = cpu.task.get() as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        // An available 64-bit task state, present (Intel SDM volume 3, 8.2.3).
        gdt[6] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        gdt[7] = base >> 32;
        let pointer = TablePointer { limit: 63, base: cpu.gdt.get() as u64 };
        // SAFETY: the copy has the same descriptors as the table in use, plus the task state, which is never freed.
        unsafe {
            asm!("lgdt [{}]", "ltr {:x}", in(reg) &raw const pointer, in(reg) TASK, options(nostack, preserves_flags));
        }
        // SAFETY: GS is not used before this; the SYSCALL selectors are those of the table; EFER only gains SYSCALL.
        unsafe {
            write_msr(msr::GS_BASE, cpu.address.load(Ordering::Relaxed));
            write_msr(msr::KERNEL_GS_BASE, 0);
            write_msr(msr::EFER, read_msr(msr::EFER) | 1);
            write_msr(msr::STAR, KERNEL_CODE << 32 | 0x18 << 48);
            // TF, IF, DF, IOPL, NT, AC.
            write_msr(msr::SFMASK, 0x4_7700);
        }
        load_entries();
        forbid_user_code();
        cpu
    }

    /// This processor's block.
    pub fn this() -> &'static Cpu {
        let address: u64;
        // SAFETY: in ring 0 GS points to the block of this processor, whose first word is its own address.
        unsafe { asm!("mov {}, gs:[0]", out(reg) address, options(nostack, readonly, preserves_flags)) }
        // SAFETY: blocks are static.
        unsafe { &*core::ptr::with_exposed_provenance(address as usize) }
    }

    /// Number of this processor.
    pub fn number(&self) -> usize {
        self.number.load(Ordering::Relaxed) as usize
    }

    /// Slot of the process that runs here, or NIL.
    #[inline(always)]
    pub fn current(&self) -> u8 {
        self.current.load(Ordering::Relaxed)
    }

    /// Notes that nobody runs here.
    pub fn set_idle(&self) {
        self.current.store(NIL, Ordering::Relaxed);
    }

    /// Makes traps from ring 3 save into `frame`, which belongs to the process in `slot`.
    #[inline(always)]
    pub fn set_current(&self, slot: usize, frame: *mut Frame) {
        let end = frame as u64 + FRAME_BYTES as u64;
        self.current.store(slot as u8, Ordering::Relaxed);
        self.frame_end.store(end, Ordering::Relaxed);
        // SAFETY: only this processor touches its task state, and not while it changes stacks.
        unsafe { (&raw mut (*self.task.get()).rsp).cast::<u64>().write_unaligned(end) };
    }

    /// Loads an address space unless it is the one in use.
    #[inline(always)]
    pub fn load_root(&self, root: u64) {
        if self.root.load(Ordering::Relaxed) != root {
            self.root.store(root, Ordering::Relaxed);
            // SAFETY: every root the table holds maps the kernel's half (PROC_START puts it there).
            unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) }
        }
    }

    /// The address space in use.
    pub fn root(&self) -> u64 {
        self.root.load(Ordering::Relaxed)
    }

    /// Notes a fault of a copy, for [`Cpu::take_copy_fault`].
    pub fn set_copy_fault(&self, address: u64, lost: Lost) {
        let how = match lost {
            Lost::Absent => 0,
            Lost::Away => 1,
            Lost::Poisoned => 2,
        };
        // The top bits of an address all say the same, so there is room for two more at the bottom.
        self.copy_fault.store(address << 2 | how, Ordering::Relaxed);
    }

    /// The fault of the last copy, if there was one: kernel address, and how it was met.
    #[inline(always)]
    pub fn take_copy_fault(&self) -> Option<(u64, Lost)> {
        let fault = self.copy_fault.load(Ordering::Relaxed);
        if fault == 0 {
            return None;
        }
        self.copy_fault.store(0, Ordering::Relaxed);
        let lost = match fault & 3 {
            0 => Lost::Absent,
            1 => Lost::Away,
            _ => Lost::Poisoned,
        };
        Some(((fault.cast_signed() >> 2).cast_unsigned(), lost))
    }

    /// Counts another reflected trap outside copies at `page` and answers how many there were in a row; an honest one
    /// is cured by the first PAGE_BACK.
    pub fn count_stubborn(&self, page: u64) -> u64 {
        let before = if self.stubborn_page.swap(page, Ordering::Relaxed) == page {
            self.stubborn.load(Ordering::Relaxed)
        } else {
            0
        };
        self.stubborn.store(before + 1, Ordering::Relaxed);
        before
    }
}
