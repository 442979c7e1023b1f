//! Register state of a vCPU at the PVH entry point.
//!
//! 32-bit protected mode, flat segments, paging off, interrupts off, EBX = start information. Pure
//! data: the caller reads the reset state from KVM, this file changes what PVH prescribes, the caller
//! writes it back.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const RFLAGS_FIXED: u64 = 1 << 1;
const TYPE_CODE: u8 = 0xb;
const TYPE_DATA: u8 = 0x3;
const TYPE_BUSY_TSS: u8 = 0xb;

/// Selectors that PVH leaves open; a kernel loads its own table before it reloads any of them.
const CODE_SELECTOR: u16 = 0x8;
const DATA_SELECTOR: u16 = 0x10;
const TSS_SELECTOR: u16 = 0x18;

/// General registers at the entry point.
pub fn entry_regs(entry: u64, start_info: u64) -> kvm_regs {
    kvm_regs { rip: entry, rbx: start_info, rflags: RFLAGS_FIXED, ..Default::default() }
}

/// `reset`, with what PVH prescribes changed.
pub fn entry_sregs(reset: kvm_sregs) -> kvm_sregs {
    let mut sregs = reset;
    let flat = |selector, type_, db| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db,
        s: 1,
        l: 0,
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    };
    sregs.cs = flat(CODE_SELECTOR, TYPE_CODE, 1);
    let data = flat(DATA_SELECTOR, TYPE_DATA, 1);
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = kvm_segment {
        limit: 0x67,
        selector: TSS_SELECTOR,
        type_: TYPE_BUSY_TSS,
        present: 1,
        ..Default::default()
    };
    sregs.gdt.base = 0;
    sregs.gdt.limit = 0;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr3 = 0;
    sregs.cr4 = 0;
    sregs.efer = 0;
    sregs
}
