//! Single instructions, as functions.
//!
//! The one thing to hold in mind: none of these is wrong by itself for the kernel to execute; what makes a
//! write to a control or model-specific register right is said where it is called.

use core::arch::asm;

/// Model-specific registers used here (Intel SDM volume 4).
pub mod msr {
    /// Local APIC base and mode.
    pub const APIC_BASE: u32 = 0x1b;
    /// First x2APIC register; register n is at this + (n >> 4).
    pub const X2APIC: u32 = 0x800;
    /// Extended features: SYSCALL, long mode, no-execute.
    pub const EFER: u32 = 0xc000_0080;
    /// Segment selectors of SYSCALL.
    pub const STAR: u32 = 0xc000_0081;
    /// Entry point of SYSCALL.
    pub const LSTAR: u32 = 0xc000_0082;
    /// Flags SYSCALL clears.
    pub const SFMASK: u32 = 0xc000_0084;
    /// GS base in use.
    pub const GS_BASE: u32 = 0xc000_0101;
    /// GS base that SWAPGS brings.
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// Result of CPUID.
#[derive(Clone, Copy)]
pub struct Cpuid {
    /// Register.
    pub eax: u32,
    /// Register.
    pub ebx: u32,
    /// Register.
    pub ecx: u32,
}

/// CPUID.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let (eax, ebx, ecx);
    // SAFETY: CPUID reads and writes only these registers; rbx is saved around it because the compiler owns it.
    unsafe {
        asm!("mov {saved:r}, rbx", "cpuid", "xchg {saved:r}, rbx", saved = out(reg) ebx,
             inout("eax") leaf => eax, inout("ecx") subleaf => ecx, out("edx") _,
             options(nostack, preserves_flags));
    }
    let ebx: u64 = ebx;
    Cpuid { eax, ebx: ebx as u32, ecx }
}

/// Reads a model-specific register that exists.
pub fn read_msr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the registers named in `msr` has no side effect.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nostack, preserves_flags))
    }
    u64::from(low) | u64::from(high) << 32
}

/// Writes a model-specific register.
///
/// # Safety
/// The value has to keep the kernel's world intact: its segments, entry points and per-processor block.
pub unsafe fn write_msr(number: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

/// The address of the last page fault.
pub fn fault_address() -> u64 {
    let address;
    // SAFETY: reading CR2 has no side effect.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) }
    address
}

/// The address space in use.
pub fn address_space() -> u64 {
    let root;
    // SAFETY: reading CR3 has no side effect.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) }
    root
}

/// Time stamp.
#[inline(always)]
pub fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the time stamp has no side effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) }
    u64::from(low) | u64::from(high) << 32
}

/// Writes a byte to a port.
pub fn out8(port: u16, value: u8) {
    // SAFETY: the kernel drives the serial console and the legacy interrupt controller with it; neither touches memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Writes 32 bits to a port.
pub fn out32(port: u16, value: u32) {
    // SAFETY: only the exit port is written so.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte from a port.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: only the serial console's status is read so.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Stops with interrupts off.
pub fn halt() {
    // SAFETY: the caller has nothing left to do.
    unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
}

/// A short wait inside a loop.
pub fn pause() {
    core::hint::spin_loop();
}
