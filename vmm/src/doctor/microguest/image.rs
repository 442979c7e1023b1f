//! What a micro-guest's memory holds, and the processor state that goes with it.
//!
//! Long mode from the first instruction: 2 MiB mapped one to one by 4 KiB pages, Linux's segment selectors
//! (a host that runs ring 3 inside a process of its own may take no others), one handler per vector. Pure
//! data; [`super::Lab`] puts it in place.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};

use super::programs::{HANDLER, HANDLER_WITH_ERROR, SYSCALL_ENTRY};

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const PT: u64 = 0x4000;
const GDT: u64 = 0x5000;
const TSS: u64 = 0x5800;
/// The interrupt table.
pub const IDT: u64 = 0x6000;
/// One handler of [`HANDLER_SIZE`] bytes per vector.
pub const HANDLERS: u64 = 0x7000;
/// Room for one handler, in bytes.
pub const HANDLER_SIZE: u64 = 16;
/// Where SYSCALL goes.
pub const SYSCALL_TARGET: u64 = 0x8000;
const KERNEL_STACK_TOP: u64 = 0xa000;
/// Where the program is.
pub const PROGRAM: u64 = 0x1_0000;
const USER_STACK_TOP: u64 = 0x1_3000;
/// The page under test.
pub const TARGET: u64 = 0x10_0000;
/// An address with no RAM behind it: maps to [`MMIO_GPA`].
pub const MMIO_WINDOW: u64 = 0x1f_f000;
/// Guest physical address behind [`MMIO_WINDOW`].
pub const MMIO_GPA: u64 = 0xd000_0000;

const PAGE: u64 = 4096;
/// Present, writable, accessed, dirty.
const KERNEL_PAGE: u64 = 0x63;
const USER: u64 = 0x4;
const NO_EXECUTE: u64 = 1 << 63;

const KERNEL_CODE: u16 = 0x10;
const KERNEL_DATA: u16 = 0x18;
const USER_32: u16 = 0x20;
const USER_DATA: u16 = 0x28;
const USER_CODE: u16 = 0x30;
const TASK: u16 = 0x40;

/// What IA32_STAR gets: SYSCALL loads kernel code and data, SYSRET user data and 64-bit user code.
pub const STAR: u64 = (KERNEL_CODE as u64) << 32 | (USER_32 as u64 | 3) << 48;

const CR0: u64 = 0x8005_0033;
const CR4_PAE: u64 = 1 << 5;
const EFER_SYSCALL: u64 = 1 << 0;
const EFER_LONG: u64 = 1 << 8 | 1 << 10;
const EFER_NX: u64 = 1 << 11;

/// Which privilege level a program runs at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The kernel's.
    Zero,
    /// The application's, with port access.
    Three,
}

/// Everything that is written to guest memory before the start: (address, bytes).
pub fn contents(ring: Ring, program: &[u8]) -> Vec<(u64, Vec<u8>)> {
    vec![
        (PML4, (PDPT | KERNEL_PAGE | USER).to_le_bytes().into()),
        (PDPT, (PD | KERNEL_PAGE | USER).to_le_bytes().into()),
        (PD, (PT | KERNEL_PAGE | USER).to_le_bytes().into()),
        (PT, (0..512).flat_map(|n| page_entry(ring, n * PAGE).to_le_bytes()).collect()),
        (GDT, descriptors().iter().flat_map(|d| d.to_le_bytes()).collect()),
        (TSS + 4, KERNEL_STACK_TOP.to_le_bytes().into()),
        (IDT, (0..=255).flat_map(gate).collect()),
        (HANDLERS, (0..=255).flat_map(handler).collect()),
        (SYSCALL_TARGET, SYSCALL_ENTRY.into()),
        (PROGRAM, program.into()),
    ]
}

/// Where the page table entry of the page under test is.
pub fn target_entry() -> u64 {
    PT + TARGET / PAGE * 8
}

/// What that entry would be for another page, usable from both rings.
pub fn entry_for(page: u64) -> u64 {
    page | KERNEL_PAGE | USER
}

/// The page under test with execution forbidden.
pub fn no_execute_entry() -> u64 {
    entry_for(TARGET) | NO_EXECUTE
}

fn page_entry(ring: Ring, address: u64) -> u64 {
    match address {
        MMIO_WINDOW => MMIO_GPA | KERNEL_PAGE | USER,
        PROGRAM if ring == Ring::Zero => address | KERNEL_PAGE,
        PROGRAM.. => address | KERNEL_PAGE | USER,
        _ => address | KERNEL_PAGE,
    }
}

fn descriptors() -> [u64; 10] {
    let task = 0x67 | (TSS & 0xff_ffff) << 16 | 0x8b << 40;
    let [null, unused, task_high] = [0; 3];
    let code = 0x00af_9b00_0000_ffff;
    let data = 0x00cf_9300_0000_ffff;
    let user_32 = 0x00cf_fb00_0000_ffff;
    let user_data = 0x00cf_f300_0000_ffff;
    let user_code = 0x00af_fb00_0000_ffff;
    [null, unused, code, data, user_32, user_data, user_code, unused, task, task_high]
}

/// An interrupt gate that ring 3 may use by instruction; the guest has nothing to protect.
fn gate(vector: u8) -> [u8; 16] {
    let handler = HANDLERS + u64::from(vector) * HANDLER_SIZE;
    let low = handler & 0xffff | u64::from(KERNEL_CODE) << 16 | 0xee00 << 32;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes
}

/// Whether the processor pushes an error code for this vector.
pub fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

fn handler(vector: u8) -> [u8; HANDLER_SIZE as usize] {
    let code = if has_error_code(vector) { HANDLER_WITH_ERROR } else { HANDLER };
    let mut bytes = [0xf4; HANDLER_SIZE as usize];
    bytes[..code.len()].copy_from_slice(code);
    bytes
}

/// Stack pointer at the start.
pub fn stack_top(ring: Ring) -> u64 {
    match ring {
        Ring::Zero => KERNEL_STACK_TOP,
        Ring::Three => USER_STACK_TOP,
    }
}

/// `reset` with the micro-guest's control registers, tables and segments.
pub fn system_registers(reset: kvm_sregs, ring: Ring, no_execute: bool) -> kvm_sregs {
    let mut sregs = reset;
    let dpl = if ring == Ring::Three { 3 } else { 0 };
    let (code, data) = match ring {
        Ring::Zero => (KERNEL_CODE, KERNEL_DATA),
        Ring::Three => (USER_CODE | 3, USER_DATA | 3),
    };
    let flat = kvm_segment { limit: 0xffff_ffff, present: 1, dpl, s: 1, g: 1, ..Default::default() };
    sregs.cs = kvm_segment { selector: code, type_: 0xb, l: 1, ..flat };
    let data = kvm_segment { selector: data, type_: 3, db: 1, ..flat };
    [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
    sregs.tr =
        kvm_segment { base: TSS, limit: 0x67, selector: TASK, type_: 0xb, present: 1, ..Default::default() };
    sregs.gdt = kvm_dtable { base: GDT, limit: 10 * 8 - 1, ..Default::default() };
    sregs.idt = kvm_dtable { base: IDT, limit: 256 * 16 - 1, ..Default::default() };
    sregs.cr0 = CR0;
    sregs.cr3 = PML4;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LONG | EFER_SYSCALL | if no_execute { EFER_NX } else { 0 };
    sregs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps() {
        let mut ranges: Vec<_> = contents(Ring::Three, &[0x90; 64])
            .into_iter()
            .map(|(at, bytes)| (at, at + bytes.len() as u64))
            .collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:x?}");
    }

    #[test]
    fn only_the_program_and_what_follows_belongs_to_ring_3() {
        assert_eq!(page_entry(Ring::Three, SYSCALL_TARGET) & USER, 0);
        assert_eq!(page_entry(Ring::Three, PROGRAM) & USER, USER);
        assert_eq!(page_entry(Ring::Zero, PROGRAM) & USER, 0);
        assert_eq!(page_entry(Ring::Three, MMIO_WINDOW) & !0xfff, MMIO_GPA);
    }

    #[test]
    fn sysret_selectors_lead_to_user_segments() {
        let base = (STAR >> 48) as u16;
        assert_eq!((base + 8, base + 16), (USER_DATA | 3, USER_CODE | 3));
    }
}
