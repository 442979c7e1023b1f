//! The kernel's own mappings, and VM's address space, which the kernel builds because nobody else can.
//!
//! The one thing to hold in mind: tables that map the image are constants (`boot.s`); at run time only large-page
//! entries for the RAM there is, for devices, and VM's few pages are added, all before the first process runs.
//! What is not here: any other address space; VM builds those through its window on RAM.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use refault_abi::kcall::PhysRange;
use refault_abi::layout::{self, LARGE_PAGE, PAGE, pte};
use refault_kernel::elf::Program;
use refault_kernel::pvh::{MAX_PHYSICAL, Physical};

use super::cpu::Cpu;
use crate::kernel::USER_TABLE;

const GIGABYTES: usize = (MAX_PHYSICAL >> 30) as usize;
/// Kernel address of the device window: the last gigabyte.
const DEVICES: u64 = 0xffff_ffff_c000_0000;
const TABLE_BITS: u64 = pte::PRESENT | pte::WRITABLE;

/// A page table in the image. Written only before the first process runs, except through physical addresses.
#[repr(C, align(4096))]
pub struct PageTable(UnsafeCell<[u64; 512]>);

// SAFETY: written by the first processor before another one or any process runs.
unsafe impl Sync for PageTable {}

impl PageTable {
    const fn empty() -> PageTable {
        PageTable(UnsafeCell::new([0; 512]))
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.pages")]
static direct_pdpt: PageTable = PageTable::empty();
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.pages")]
static device_pd: PageTable = PageTable::empty();
#[unsafe(link_section = ".bss.pages")]
static DIRECT_PDS: [PageTable; GIGABYTES] = [const { PageTable::empty() }; GIGABYTES];
#[unsafe(link_section = ".bss.pages")]
static VM_PDPT: PageTable = PageTable::empty();
#[unsafe(link_section = ".bss.pages")]
static VM_RAM_PDS: [PageTable; GIGABYTES] = [const { PageTable::empty() }; GIGABYTES];
#[unsafe(link_section = ".bss.pages")]
static VM_PD: PageTable = PageTable::empty();

unsafe extern "C" {
    static boot_pml4: PageTable;
    static boot_pdpt: PageTable;
    static boot_pd: PageTable;
    static pool_start: u8;
    static pool_end: u8;
}

/// Physical address of something in the image.
pub fn physical_of<T>(item: *const T) -> u64 {
    item as u64 - layout::KERNEL
}

impl PageTable {
    fn get(&self, index: usize) -> u64 {
        // SAFETY: see the `Sync` implementation; the index is checked by the slice.
        unsafe { (&*self.0.get())[index & 511] }
    }

    fn set(&self, index: usize, entry: u64) {
        // SAFETY: see the `Sync` implementation; nobody holds a reference into the table.
        unsafe { (&mut *self.0.get())[index & 511] = entry }
    }
}

/// Drops every translation that is not in the tables any more.
fn flush() {
    // SAFETY: the same address space again.
    unsafe {
        core::arch::asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
    }
}

/// The first pages mapped on demand, before it is known where RAM is.
pub struct EarlyPhysical {
    /// No-execute bit, or 0.
    pub no_execute: u64,
}

impl Physical for EarlyPhysical {
    fn read(&mut self, address: u64, buffer: &mut [u8]) {
        map_direct(address, buffer.len() as u64, self.no_execute);
        let from = core::ptr::with_exposed_provenance::<u8>((layout::DIRECT_MAP + address) as usize);
        // SAFETY: just mapped; the loader's data is not changed by anybody now.
        unsafe { core::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len()) }
    }
}

/// Adds the large pages that contain `[address, address + bytes)`, below [`MAX_PHYSICAL`], to the direct map.
pub fn map_direct(address: u64, bytes: u64, no_execute: u64) {
    let flags = pte::PRESENT | pte::WRITABLE | pte::LARGE | no_execute;
    fill(&direct_pdpt, 0, &DIRECT_PDS, address, bytes, TABLE_BITS, flags);
}

fn fill(
    pdpt: &PageTable,
    pdpt_base: usize,
    pds: &[PageTable; GIGABYTES],
    address: u64,
    bytes: u64,
    table_bits: u64,
    flags: u64,
) {
    let end = address.saturating_add(bytes).min(MAX_PHYSICAL);
    let mut page = address & !(LARGE_PAGE - 1);
    while page < end {
        let gigabyte = (page >> 30) as usize;
        let pd = &pds[gigabyte];
        if pdpt.get(pdpt_base + gigabyte) == 0 {
            pdpt.set(pdpt_base + gigabyte, physical_of(pd) | table_bits);
        }
        pd.set((page >> 21) as usize, page | flags);
        page += LARGE_PAGE;
    }
}

/// Maps device registers, uncached, and returns their kernel address. `None` when the window is full.
pub fn map_device(physical: u64, no_execute: u64) -> Option<u64> {
    let page = physical & !(LARGE_PAGE - 1);
    let flags = TABLE_BITS | pte::LARGE | pte::NO_CACHE | pte::WRITE_THROUGH | no_execute;
    for slot in 0..512 {
        let entry = device_pd.get(slot);
        if entry == 0 {
            device_pd.set(slot, page | flags);
        }
        if entry == 0 || entry & pte::ADDRESS == page {
            return Some(DEVICES + slot as u64 * LARGE_PAGE + (physical - page));
        }
    }
    None
}

/// Pages for VM's beginnings, zeroed by whoever loaded the image.
static POOL_NEXT: AtomicU64 = AtomicU64::new(0);

/// Takes a zeroed page; its physical address.
fn pool_page() -> Option<u64> {
    let bytes = &raw const pool_end as u64 - &raw const pool_start as u64;
    let offset = POOL_NEXT.fetch_add(PAGE, Ordering::Relaxed);
    (offset < bytes).then(|| physical_of(&raw const pool_start) + offset)
}

/// The part of the pool in use.
pub fn pool_used() -> PhysRange {
    PhysRange { address: physical_of(&raw const pool_start), bytes: POOL_NEXT.load(Ordering::Relaxed) }
}

/// Physical address of VM's (and the boot) top-level table.
pub fn system_root() -> u64 {
    physical_of(&raw const boot_pml4)
}

/// Why VM's address space could not be built.
#[derive(Debug)]
pub struct PoolEmpty;

/// Maps one 4 KiB page for VM.
fn map_user(address: u64, physical: u64, flags: u64) -> Result<(), PoolEmpty> {
    let slot = (address >> 21) as usize;
    let mut table = VM_PD.get(slot);
    if table == 0 {
        table = pool_page().ok_or(PoolEmpty)? | USER_TABLE;
        VM_PD.set(slot, table);
    }
    let place = layout::KERNEL + (table & pte::ADDRESS) + ((address >> 12) & 511) * 8;
    // SAFETY: a table from the pool, mapped with the image, written by nobody else.
    unsafe { core::ptr::with_exposed_provenance_mut::<u64>(place as usize).write(physical | flags) };
    Ok(())
}

/// Pages of VM's stack.
const VM_STACK_PAGES: u64 = 32;

/// Pages every server gets, by physical address.
pub struct SharedPages {
    /// The trap stub.
    pub stub: u64,
    /// The information page.
    pub info: u64,
    /// The counters page.
    pub stats: u64,
}

/// Takes away the mappings that only the way to the upper half needed.
pub fn remove_low_mappings(no_execute: u64) {
    // SAFETY: tables of the image, see the `Sync` implementation.
    let (pml4, pdpt, pd) = unsafe { (&boot_pml4, &boot_pdpt, &boot_pd) };
    pml4.set(0, 0);
    pdpt.set(0, 0);
    for large in 1..4 {
        pd.set(large, pd.get(large) | no_execute);
    }
    flush();
}

/// Builds VM's address space around its program at `file` in the boot image; what VM does not write stays there.
pub fn build_vm(
    program: &Program,
    file: u64,
    shared: &SharedPages,
    ram: &[PhysRange],
    doorbell: u64,
    no_execute: u64,
) -> Result<(), PoolEmpty> {
    // SAFETY: a table of the image, see the `Sync` implementation.
    let pml4 = unsafe { &boot_pml4 };
    VM_PDPT.set(0, physical_of(&VM_PD) | USER_TABLE);
    let user = pte::PRESENT | pte::USER;
    for segment in program.segments.iter().take(program.count) {
        let flags = user
            | if segment.writable { pte::WRITABLE } else { 0 }
            | if segment.executable { 0 } else { no_execute };
        let mut offset = 0;
        while offset < segment.memory_bytes {
            let left = segment.file_bytes.saturating_sub(offset).min(PAGE);
            let in_image = file + segment.offset + offset;
            // What is written needs pages of its own: the last one of a file also holds the next file's header.
            let physical = if left > 0 && !segment.writable {
                in_image
            } else {
                let page = pool_page().ok_or(PoolEmpty)?;
                copy_physical(in_image, page, left);
                page
            };
            map_user(segment.address + offset, physical, flags)?;
            offset += PAGE;
        }
    }
    for page in 1..=VM_STACK_PAGES {
        let physical = pool_page().ok_or(PoolEmpty)?;
        map_user(layout::STACK_TOP - page * PAGE, physical, user | pte::WRITABLE | no_execute)?;
    }
    map_user(layout::STUB, shared.stub, user)?;
    map_user(layout::INFO, shared.info, user | no_execute)?;
    map_user(layout::STATS, shared.stats, user | pte::WRITABLE | no_execute)?;
    let window = (layout::VM_RAM >> 30) as usize;
    let flags = user | pte::WRITABLE | pte::LARGE | no_execute;
    for range in ram {
        let start = range.address.max(layout::KERNEL_END);
        let bytes = (range.address + range.bytes).saturating_sub(start);
        fill(&VM_PDPT, window, &VM_RAM_PDS, start, bytes, USER_TABLE, flags);
    }
    if doorbell != 0 {
        let flags = flags | pte::NO_CACHE | pte::WRITE_THROUGH;
        fill(&VM_PDPT, window, &VM_RAM_PDS, doorbell, PAGE, USER_TABLE, flags);
    }
    pml4.set(0, physical_of(&VM_PDPT) | USER_TABLE);
    flush();
    Ok(())
}

/// Puts another stub page into VM's address space.
pub fn replace_stub(physical: u64) {
    // The table exists since `build_vm`, so there is no page to run out of.
    let _ = map_user(layout::STUB, physical, pte::PRESENT | pte::USER);
    flush();
}

/// Copies from the boot image to a page of the pool.
fn copy_physical(from: u64, to: u64, bytes: u64) {
    let from = core::ptr::with_exposed_provenance::<u8>((layout::DIRECT_MAP + from) as usize);
    let to = core::ptr::with_exposed_provenance_mut::<u8>((layout::KERNEL + to) as usize);
    // SAFETY: `bytes` of the boot image, which is mapped by `map_direct`, and at most a page of the pool, which is
    // mapped with the image and belongs to nobody else.
    unsafe { core::ptr::copy_nonoverlapping(from, to, bytes as usize) }
}

/// Makes the address space `root` (a page of RAM) usable: gives it the kernel's half. It may then be loaded.
pub fn adopt_root(direct: u64) {
    // SAFETY: tables of the image; the caller has checked that `direct` is a page of RAM in the direct map.
    let pml4 = unsafe { &boot_pml4 };
    for index in [256, 511] {
        let place = core::ptr::with_exposed_provenance_mut::<u64>((direct + index as u64 * 8) as usize);
        // SAFETY: see above; a page table is 512 words.
        unsafe { place.write_volatile(pml4.get(index)) }
    }
}

/// Drops translations of `[address, address + bytes)` (all, when `bytes` is 0) from this processor, if it
/// is using the address space `root`. Others are loaded afresh whenever they are switched to.
pub fn flush_range(root: u64, address: u64, bytes: u64) {
    const ONE_BY_ONE: u64 = 16;
    if Cpu::this().root() != root {
        return;
    }
    let first = address & !(PAGE - 1);
    if bytes == 0 || bytes > ONE_BY_ONE * PAGE {
        flush();
        return;
    }
    let mut page = first;
    while page < address.saturating_add(bytes) {
        // SAFETY: INVLPG only forgets.
        unsafe { core::arch::asm!("invlpg [{}]", in(reg) page, options(nostack, preserves_flags)) }
        page = page.saturating_add(PAGE);
    }
}
