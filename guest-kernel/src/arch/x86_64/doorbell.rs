//! The monitor's doorbell, if there is one: trap records, fault sites, counters, reports, events.
//!
//! The one thing to hold in mind: without a doorbell everything here is a no-op and the kernel works. What the
//! registers mean is in `refault_abi::doorbell`. The shared pages are the kernel's own memory; the monitor
//! writes the trap records and the site countdown, so both are read afresh each time.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use refault_abi::counters::{Counter, WORDS};
use refault_abi::doorbell::event as event_code;
use refault_abi::doorbell::{
    MAGIC, SITE_PROCESSORS, Site, SitePage, TrapRecord, VERSION, access, feature, reg,
};
use refault_abi::layout::{DIRECT_MAP, PAGE};

use super::cpu::{Cpu, PROCESSORS};
use super::pages::{map_device, physical_of};

/// A page shared with the monitor or with servers.
#[repr(C, align(4096))]
pub(super) struct Shared<T>(UnsafeCell<T>);

// SAFETY: every access is volatile or atomic and word by word.
unsafe impl<T> Sync for Shared<T> {}

const NO_RECORD: TrapRecord =
    TrapRecord { busy: 0, access: 0, sequence: 0, gpa: 0, gva: 0, rip: 0, reserved: [0; 3] };
const NO_SITE: Site = Site {
    gpa: 0,
    gva: 0,
    address: 0,
    tag: 0,
    copy: 0,
    granter: 0,
    grantee: 0,
    page: 0,
    pages: 0,
    side: 0,
    access: 0,
    reserved: [0; 8],
};

#[unsafe(link_section = ".bss.pages")]
static RECORDS: Shared<[TrapRecord; PROCESSORS]> = Shared(UnsafeCell::new([NO_RECORD; PROCESSORS]));
#[unsafe(link_section = ".bss.pages")]
static SITES: Shared<SitePage> = Shared(UnsafeCell::new(SitePage {
    countdown: 0,
    passed: 0,
    reserved: [0; 6],
    sites: [NO_SITE; SITE_PROCESSORS],
}));
#[unsafe(link_section = ".bss.pages")]
pub(super) static COUNTERS: Shared<[u64; WORDS]> = Shared(UnsafeCell::new([0; WORDS]));
#[unsafe(link_section = ".bss.pages")]
static REPORT: Shared<[u8; 4096]> = Shared(UnsafeCell::new([0; 4096]));

/// Kernel address of the registers, 0 when there are none.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
/// Whether the monitor wants to know of pages of certain classes.
static CLASSES: AtomicBool = AtomicBool::new(false);

fn write64(register: u64, value: u64) {
    let base = REGISTERS.load(Ordering::Relaxed);
    if base != 0 {
        fence(Ordering::SeqCst);
        // SAFETY: `start` mapped the window, and registers are aligned.
        unsafe { ptr::with_exposed_provenance_mut::<u64>((base + register) as usize).write_volatile(value) }
    }
}

fn write32(register: u64, value: u32) {
    let base = REGISTERS.load(Ordering::Relaxed);
    if base != 0 {
        fence(Ordering::SeqCst);
        // SAFETY: as in `write64`.
        unsafe { ptr::with_exposed_provenance_mut::<u32>((base + register) as usize).write_volatile(value) }
    }
}

/// Looks for a doorbell at `physical` and tells it where the shared pages are. Whether there is one.
pub fn start(physical: u64, no_execute: u64) -> bool {
    let Some(base) = map_device(physical, no_execute) else { return false };
    let read = |register: u64| {
        // SAFETY: just mapped; a window without a device reads as ones.
        unsafe { ptr::with_exposed_provenance::<u32>((base + register) as usize).read_volatile() }
    };
    if read(reg::MAGIC) != MAGIC || read(reg::VERSION) != VERSION {
        return false;
    }
    REGISTERS.store(base, Ordering::Relaxed);
    CLASSES.store(read(reg::FEATURES) & feature::CLASSES != 0, Ordering::Relaxed);
    write64(reg::DIRECT_MAP, DIRECT_MAP);
    write64(reg::COUNTERS, counters_page());
    write64(reg::REPORT_PAGE, physical_of(&REPORT));
    write64(reg::SITE_PAGE, physical_of(&SITES));
    write64(reg::TRAP_RECORDS, physical_of(&RECORDS));
    true
}

/// Physical address of the counters page.
pub fn counters_page() -> u64 {
    physical_of(&COUNTERS)
}

/// Adds to a counter. Kernel counters change under the lock only.
#[inline(always)]
pub fn count(counter: Counter, amount: u64) {
    // SAFETY: the counter is below the page's length; servers write other words of it. Not volatile, so that it is one
    // instruction: whoever looks from outside may see it a little later, but it is stored before the kernel is left.
    unsafe {
        let place = COUNTERS.0.get().cast::<u64>().add(counter as usize);
        *place = (*place).wrapping_add(amount);
    }
}

/// The value of the word `index` of the counters page; 0 beyond its end.
pub fn counter(index: usize) -> u64 {
    if index >= WORDS {
        return 0;
    }
    // SAFETY: inside the page; servers write their own words of it.
    unsafe { COUNTERS.0.get().cast::<u64>().add(index).read_volatile() }
}

/// If the page fault at `address` is a trap reflected by the monitor, ends the record and says where the page is.
pub fn take_reflected(cpu: &Cpu, address: u64) -> Option<u64> {
    // SAFETY: there is a record for each processor that runs.
    let record = unsafe { RECORDS.0.get().cast::<TrapRecord>().add(cpu.number()) };
    // SAFETY: the fields are in the image; the monitor fills them before `busy`.
    unsafe {
        let busy = AtomicU32::from_ptr(&raw mut (*record).busy);
        if busy.load(Ordering::Acquire) != TrapRecord::BUSY
            || (&raw const (*record).gva).read_volatile() != address
            || (&raw const (*record).access).read_volatile() & access::POISON != 0
        {
            return None;
        }
        let page = (&raw const (*record).gpa).read_volatile();
        busy.store(0, Ordering::Release);
        Some(page)
    }
}

/// Which poisoned page a machine check at `rip` is about.
#[derive(Clone, Copy, Debug)]
pub struct PoisonRecord {
    /// Physical address of the access.
    pub gpa: u64,
    /// Virtual address of the access.
    pub gva: u64,
}

/// If the machine check at `rip` is the monitor's, ends the record on `processor` and says what is poisoned.
pub fn take_poisoned(processor: usize, rip: u64) -> Option<PoisonRecord> {
    if processor >= PROCESSORS {
        return None;
    }
    // SAFETY: there is a record for each processor.
    let record = unsafe { RECORDS.0.get().cast::<TrapRecord>().add(processor) };
    // SAFETY: as in `take_reflected`.
    unsafe {
        let busy = AtomicU32::from_ptr(&raw mut (*record).busy);
        if busy.load(Ordering::Acquire) != TrapRecord::BUSY
            || (&raw const (*record).rip).read_volatile() != rip
            || (&raw const (*record).access).read_volatile() & access::POISON == 0
        {
            return None;
        }
        let found = PoisonRecord {
            gpa: (&raw const (*record).gpa).read_volatile(),
            gva: (&raw const (*record).gva).read_volatile(),
        };
        busy.store(0, Ordering::Release);
        Some(found)
    }
}

/// Asks for a page back.
pub fn page_back(physical: u64) {
    write64(reg::PAGE_BACK, physical);
}

/// The monitor's feature bits, 0 without one.
fn features() -> u32 {
    let base = REGISTERS.load(Ordering::Relaxed);
    if base == 0 {
        return 0;
    }
    // SAFETY: `start` mapped the window, and registers are aligned.
    unsafe { ptr::with_exposed_provenance::<u32>((base + reg::FEATURES) as usize).read_volatile() }
}

/// The number that was left for the guest's program, if the monitor has such a register.
pub fn argument() -> Option<u64> {
    if features() & feature::ARGUMENT == 0 {
        return None;
    }
    let base = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: there are features only where `start` mapped the window, and registers are aligned.
    Some(unsafe { ptr::with_exposed_provenance::<u64>((base + reg::ARGUMENT) as usize).read_volatile() })
}

/// Whether the monitor wants to know of pages of certain classes.
#[inline(always)]
pub fn classes_wanted() -> bool {
    CLASSES.load(Ordering::Relaxed)
}

/// Tells the monitor that the page at `physical` belongs to a class ([`refault_abi::doorbell::class`]).
pub fn class_page(physical: u64, class: u64) {
    write64(reg::CLASS_PAGE, (physical & !(PAGE - 1)) | class);
}

/// Says for how many accesses the pages that follow go away ([`page_away`]). Whether the monitor does such things.
pub fn away_begins(times: u32) -> bool {
    if features() & feature::AWAY == 0 {
        return false;
    }
    write32(reg::AWAY_TIMES, times);
    true
}

/// Asks the monitor to take the page at `physical` away.
pub fn page_away(physical: u64) {
    write64(reg::PAGE_AWAY, physical);
}

/// Whether the monitor counts fault sites.
#[inline(always)]
pub fn sites_wanted() -> bool {
    // SAFETY: a word of the image.
    unsafe { (&raw const (*SITES.0.get()).countdown).read_volatile() != 0 }
}

/// Passes a fault site: counts down, and at zero describes it to the monitor, which may take the page away
/// before this returns.
pub fn site(cpu: &Cpu, site: &Site) {
    let page = SITES.0.get();
    // SAFETY: words of the image; the monitor sets the countdown anew only while this processor waits for it.
    unsafe {
        let countdown = (&raw const (*page).countdown).read_volatile();
        let Some(left) = countdown.checked_sub(1) else { return };
        (&raw mut (*page).countdown).write_volatile(left);
        let passed = &raw mut (*page).passed;
        passed.write_volatile(passed.read_volatile().wrapping_add(1));
        if left == 0 {
            (&raw mut (*page).sites).cast::<Site>().add(cpu.number()).write_volatile(*site);
            write32(reg::SITE, cpu.number() as u32);
        }
    }
}

/// Tells the monitor that a point was reached.
pub fn event(code: u32, value: u32) {
    write64(reg::EVENT, u64::from(code) | u64::from(value) << 32);
}

/// Hands `text`, as much of it as fits a page, to the monitor: who waits for whom.
pub fn wedged(text: &[u8]) {
    let place = REPORT.0.get().cast::<u8>();
    let text = text.get(..4096).unwrap_or(text);
    // SAFETY: the page is the kernel's, as long as the text at least, and only the monitor looks at it.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), place, text.len()) };
    event(event_code::WEDGED, text.len() as u32);
}

/// The kernel's address of the page for report texts, and the way to hand in `bytes` of it.
pub fn report_page() -> (u64, fn(u32)) {
    (REPORT.0.get() as u64, |bytes| write32(reg::REPORT, bytes))
}
