//! Pages that a processor needs to run at all: its page tables, its descriptor tables, the stacks they name.
//!
//! What this knows is what the registers lead to. It finds the page tables of processes that do not run at the moment by their
//! kernel half, which every kernel of the usual make has in common. Pages that *become* tables later are touched by whoever makes
//! them, and are back by then.

use std::collections::BTreeMap;

use kvm_bindings::{kvm_regs, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::rule::PageClass;
use super::walk;

const CR0_PAGING: u64 = 1 << 31;
/// Where a 64-bit task state keeps stack pointers: RSP0 to RSP2, then, after 8 bytes, IST1 to IST7.
const STACKS: [u64; 10] = [4, 12, 20, 36, 44, 52, 60, 68, 76, 84];
/// Pages of one descriptor table at most.
const TABLE_PAGES: u64 = 17;

/// The pages, each with its class. Nothing before paging is switched on: until then there are no tables.
pub fn of_processor(ram: &GuestRam, regs: &kvm_regs, sregs: &kvm_sregs) -> BTreeMap<u64, PageClass> {
    let mut found = BTreeMap::new();
    if sregs.cr0 & CR0_PAGING == 0 {
        return found;
    }
    let memory = ram.device_view();
    let page_of = |gva: u64| walk::translate(memory, sregs.cr3, gva).map(|gpa| gpa & !(PAGE_SIZE - 1));
    let tables = [
        (sregs.gdt.base, u64::from(sregs.gdt.limit)),
        (sregs.idt.base, u64::from(sregs.idt.limit)),
        (sregs.tr.base, u64::from(sregs.tr.limit)),
    ];
    for (base, limit) in tables {
        let first = base & !(PAGE_SIZE - 1);
        let pages = ((base & (PAGE_SIZE - 1)) + limit) / PAGE_SIZE + 1;
        for number in 0..pages.min(TABLE_PAGES) {
            let page = page_of(first.wrapping_add(number * PAGE_SIZE));
            found.extend(page.map(|page| (page, PageClass::Descriptors)));
        }
    }
    let stack = |at: u64| {
        let gpa = walk::translate(memory, sregs.cr3, sregs.tr.base.wrapping_add(at))?;
        memory.read_obj::<u64>(GuestAddress(gpa)).ok().filter(|top| *top != 0)
    };
    let in_kernel = (sregs.cs.selector & 3 == 0).then_some(regs.rsp);
    for top in STACKS.into_iter().filter_map(stack).chain(in_kernel) {
        // A stack grows down from its top, which may be the first byte of somebody else's page.
        found.extend(page_of(top.wrapping_sub(1)).map(|page| (page, PageClass::Descriptors)));
    }
    let all =
        ram.pieces().iter().flat_map(|piece| (0..piece.len / PAGE_SIZE).map(|n| piece.gpa + n * PAGE_SIZE));
    for root in walk::roots_like(memory, sregs.cr3, all).into_iter().chain([sregs.cr3]) {
        found.extend(walk::tables(memory, root).into_iter().map(|page| (page, PageClass::PageTables)));
    }
    found
}
