//! The hardware behind the library's traits: memory through the direct map, time, counters.
//!
//! The one thing to hold in mind: a physical address becomes a kernel address only in [`Machine::direct`], which
//! knows where RAM is.

use core::mem::offset_of;
use core::ptr;

use refault_abi::counters::Counter;
use refault_abi::doorbell::{Site, class};
use refault_abi::grant::{Entry, GrantId, State};
use refault_abi::ipc::{AsyncEntry, senda};
use refault_abi::kcall::Wait;
use refault_abi::layout::{DIRECT_MAP, PAGE, USER_END};
use refault_kernel::grant::marked;
use refault_kernel::graph::Declarations;
use refault_kernel::ipc;
use refault_kernel::transfer::{Memory, Moved};
use refault_kernel::walk::{Tables, translate};
use zerocopy::FromZeros;

use super::apic::{Interrupts, Timer};
use super::cpu::Cpu;
use super::trap::without_lock;
use super::{doorbell, registers};

const FOUR_GIGABYTES: u64 = 4 << 30;

unsafe extern "C" {
    fn copy_bytes(to: u64, from: u64, bytes: u64) -> u64;
    fn fill_bytes(to: u64, byte: u64, bytes: u64) -> u64;
}

/// The hardware.
pub struct Machine {
    /// Where RAM below 4 GiB ends.
    pub low_end: u64,
    /// Where RAM above 4 GiB ends.
    pub high_end: u64,
    /// Local and I/O APIC.
    pub interrupts: Interrupts,
    /// Time.
    pub timer: Timer,
    /// Release the big kernel lock while bytes move.
    pub drop_lock: bool,
}

impl Tables for Machine {
    #[inline(always)]
    fn entry(&self, address: u64) -> Option<u64> {
        let direct = self.direct(address)?;
        // SAFETY: RAM, mapped; a page-table entry is aligned. VM may change it at any time, hence volatile.
        Some(unsafe { ptr::with_exposed_provenance::<u64>(direct as usize).read_volatile() })
    }
}

impl Memory for Machine {
    #[inline(always)]
    fn direct(&self, physical: u64) -> Option<u64> {
        let ram = physical < self.low_end || physical >= FOUR_GIGABYTES && physical < self.high_end;
        ram.then_some(DIRECT_MAP + physical)
    }

    fn physical(&self, direct: u64) -> u64 {
        direct.wrapping_sub(DIRECT_MAP)
    }

    #[inline(always)]
    fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Moved {
        // Letting others in is the point of `copylock=dropped`: whatever they change, the caller checks again.
        // SAFETY: both ranges are RAM in the direct map or the kernel's own buffer (`transfer` sees to it), so
        // nothing Rust believes to own is overwritten; a page that has vanished ends the copy early.
        let action = || unsafe { copy_bytes(to, from, bytes) };
        let bytes = if self.drop_lock { without_lock(action) } else { action() };
        Moved { bytes, fault: Cpu::this().take_copy_fault() }
    }

    fn fill(&mut self, to: u64, byte: u8, bytes: u64) -> Moved {
        // SAFETY: as for `copy`.
        let bytes = unsafe { fill_bytes(to, u64::from(byte), bytes) };
        Moved { bytes, fault: Cpu::this().take_copy_fault() }
    }

    #[inline(always)]
    fn sites_wanted(&self) -> bool {
        doorbell::sites_wanted()
    }

    fn site(&mut self, site: &Site) {
        doorbell::site(Cpu::this(), site);
    }
}

impl ipc::Machine for Machine {
    #[inline(always)]
    fn now(&mut self) -> u64 {
        registers::time_stamp()
    }

    fn read_async(&mut self, root: u64, address: u64) -> Option<AsyncEntry> {
        const BYTES: u64 = size_of::<AsyncEntry>() as u64;
        let mut entry = AsyncEntry::new_zeroed();
        let words = ptr::from_mut(&mut entry).cast::<u64>();
        // Writable, or an entry could never be marked DONE and would be delivered over and over.
        let first = self.user_word(root, address, true)?;
        let read = |direct: u64| {
            // SAFETY: RAM, mapped, aligned; its owner may change it, hence volatile.
            unsafe { ptr::with_exposed_provenance::<u64>(direct as usize).read_volatile() }
        };
        // SAFETY: an entry consists of words, and any bits are one.
        unsafe { words.write(read(first)) };
        if entry.flags & (senda::VALID | senda::DONE) != senda::VALID {
            // Nobody wants the rest of it.
            return Some(entry);
        }
        let in_page = PAGE - (address & (PAGE - 1));
        let rest = if in_page < BYTES { self.user_word(root, address + in_page, true)? } else { 0 };
        for index in 1..BYTES / 8 {
            let at = index * 8;
            let word = read(if at < in_page { first + at } else { rest + (at - in_page) });
            // SAFETY: as above.
            unsafe { words.add(index as usize).write(word) };
        }
        Some(entry)
    }

    fn finish_async(&mut self, root: u64, address: u64, flags: u32, result: i32) {
        // The result first: whoever sees DONE may look at it. A table that has vanished is its owner's affair.
        const { assert!(offset_of!(AsyncEntry, result) == 8) };
        let Some(direct) = self.user_word(root, address, true) else { return };
        let at_end = address & (PAGE - 1) == PAGE - 8;
        let place = if at_end { self.user_word(root, address + 8, true) } else { Some(direct + 8) };
        if let Some(place) = place {
            // SAFETY: RAM, mapped, aligned.
            unsafe { ptr::with_exposed_provenance_mut::<i32>(place as usize).write_volatile(result) };
        }
        // SAFETY: as above.
        unsafe { ptr::with_exposed_provenance_mut::<u32>(direct as usize).write_volatile(flags) };
    }

    #[inline(always)]
    fn count_message(&mut self) {
        doorbell::count(Counter::Messages, 1);
    }

    fn count_notification(&mut self) {
        doorbell::count(Counter::Notifications, 1);
    }

    fn message_table(&mut self, root: u64, address: u64, bytes: u64) {
        self.name_pages(root, address, bytes, class::MESSAGE);
    }
}

impl Declarations for Machine {
    fn wait(&mut self, root: u64, address: u64) -> Option<Wait> {
        // An entry is 64-byte aligned, so it lies in one page.
        let direct = self.user_word(root, address, false)?;
        // SAFETY: RAM, mapped, aligned; its owner may change it, hence volatile; any bits are a `Wait`.
        Some(unsafe { ptr::with_exposed_provenance::<Wait>(direct as usize).read_volatile() })
    }

    fn asynchronous(&mut self, root: u64, address: u64) -> Option<AsyncEntry> {
        ipc::Machine::read_async(self, root, address)
    }
}

/// What came of reading a grant's entry.
#[derive(Clone, Copy, Debug)]
pub enum Reading {
    /// The entry.
    Entry(Entry),
    /// Its page is not there.
    Absent,
    /// It changed while it was read.
    Changed,
}

/// How an attempt to mark a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// Stored.
    Set,
    /// The entry's page is not there.
    Failed,
    /// The grant is another one by now.
    Stale,
}

impl Machine {
    /// Adds to a counter.
    #[inline(always)]
    pub fn count(&mut self, counter: Counter, amount: u64) {
        doorbell::count(counter, amount);
    }

    /// Tells a monitor that wants to know it that the pages at `[address, address + bytes)`, those that are there, belong to a class.
    pub fn name_pages(&self, root: u64, address: u64, bytes: u64, class: u64) {
        if !doorbell::classes_wanted() {
            return;
        }
        let end = address.saturating_add(bytes).min(USER_END);
        let mut page = address & !(PAGE - 1);
        while page < end {
            if let Ok(physical) = translate(self, root, page, false)
                && self.direct(physical).is_some()
            {
                doorbell::class_page(physical, class);
            }
            page += PAGE;
        }
    }

    /// The kernel address of an aligned word of user memory.
    #[inline(always)]
    fn user_word(&self, root: u64, address: u64, write: bool) -> Option<u64> {
        if address >= USER_END || !address.is_multiple_of(8) {
            return None;
        }
        self.direct(translate(self, root, address, write).ok()?)
    }

    /// Reads a grant's entry, and with `again` its state once more, so that flags and sequence are those of the body.
    #[inline(always)]
    pub fn read_grant(&self, root: u64, address: u64, again: bool) -> Reading {
        // An entry is 64-byte aligned, so it lies in one page.
        let Some(direct) = self.user_word(root, address, false) else { return Reading::Absent };
        let place = ptr::with_exposed_provenance::<Entry>(direct as usize);
        // SAFETY: RAM, mapped, aligned to 64 bytes because the table is and pages are; any bits are an entry. The fields that only
        // its owner and the marking look at are not read.
        let entry = unsafe {
            Entry {
                state: (&raw const (*place).state).read_volatile(),
                grantee: (&raw const (*place).grantee).read_volatile(),
                other: (&raw const (*place).other).read_volatile(),
                start: (&raw const (*place).start).read_volatile(),
                length: (&raw const (*place).length).read_volatile(),
                tag: (&raw const (*place).tag).read_volatile(),
                ..Entry::default()
            }
        };
        // SAFETY: as above.
        if again && unsafe { (&raw const (*place).state).read_volatile() } != entry.state {
            return Reading::Changed;
        }
        Reading::Entry(entry)
    }

    /// Stores the seed's mark: a plain write of `value`, and the address that faulted.
    pub fn mark_plainly(&self, root: u64, address: u64, value: i64, fault: u64) -> Marking {
        let Some(direct) = self.user_word(root, address, true) else { return Marking::Failed };
        let place = ptr::with_exposed_provenance_mut::<Entry>(direct as usize);
        // SAFETY: as for `read_grant`, and the page is writable to its owner.
        unsafe {
            (&raw mut (*place).mark_address).write_volatile(fault);
            (&raw mut (*place).mark_id).write_volatile(value);
        }
        Marking::Set
    }

    /// Adds mark bits to the state word if and only if the grant is still the one verified.
    pub fn mark_atomically(&self, root: u64, address: u64, id: GrantId, bits: u16, fault: u64) -> Marking {
        let Some(direct) = self.user_word(root, address, true) else { return Marking::Failed };
        let place = ptr::with_exposed_provenance_mut::<Entry>(direct as usize);
        // SAFETY: as for `read_grant`, and the page is writable to its owner, who uses atomic accesses too.
        let state = unsafe { core::sync::atomic::AtomicU64::from_ptr(&raw mut (*place).state) };
        use core::sync::atomic::Ordering;
        let mut current = state.load(Ordering::Acquire);
        while let Some(with_mark) = marked(State(current), id, bits) {
            match state.compare_exchange(current, with_mark.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: as above.
                    unsafe { (&raw mut (*place).mark_address).write_volatile(fault) };
                    return Marking::Set;
                }
                Err(changed) => current = changed,
            }
        }
        Marking::Stale
    }

    /// Whether `root` can be a top-level page table: a page of RAM that is not the kernel's.
    pub fn root_page(&self, root: u64) -> Option<u64> {
        let own = root < refault_abi::layout::KERNEL_END;
        if own || !root.is_multiple_of(PAGE) { None } else { self.direct(root) }
    }
}
