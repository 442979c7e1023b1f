//! RAM through VM's window, and the doorbell in it. All of VM's accesses to memory that is not its own.

use core::ptr;

use refault_abi::counters::Counter;
use refault_abi::doorbell::reg;
use refault_abi::layout::{PAGE, VM_RAM};
use refault_rt::info;
use refault_vm::ram::Ram;

/// The window. There is one, and the server owns it.
pub struct Window(());

/// The window's address for a GPA.
fn place(gpa: u64) -> *mut u8 {
    ptr::with_exposed_provenance_mut(VM_RAM.wrapping_add(gpa) as usize)
}

impl Window {
    /// # Safety
    /// Once only, in VM.
    pub unsafe fn new() -> Window {
        Window(())
    }

    /// Memory that nobody else will use: the allocator's counters, VM's heap.
    ///
    /// # Safety
    /// `[gpa, gpa + bytes)` must be RAM at or above `KERNEL_END` that is never handed out.
    pub unsafe fn take(gpa: u64, bytes: u64) -> &'static mut [u32] {
        // SAFETY: mapped (all RAM from KERNEL_END on is), exclusive by the caller's promise, any bits are u32s.
        unsafe { core::slice::from_raw_parts_mut(place(gpa).cast(), (bytes / 4) as usize) }
    }

    /// The boot image.
    ///
    /// # Safety
    /// The range must be the image's as the kernel told it, which nobody writes.
    pub unsafe fn image(gpa: u64, bytes: u64) -> &'static [u8] {
        // SAFETY: mapped, and read-only for everybody by the caller's promise.
        unsafe { core::slice::from_raw_parts(place(gpa), bytes as usize) }
    }
}

// Every `gpa` given to these is a managed frame, or inside one: RAM that the window maps. The accesses are
// through raw pointers because processes read and write the same memory.
impl Ram for Window {
    fn word(&self, gpa: u64) -> u64 {
        // SAFETY: see above; aligned by the trait's contract.
        unsafe { ptr::read_volatile(place(gpa).cast()) }
    }

    fn set_word(&mut self, gpa: u64, value: u64) {
        // SAFETY: as in `word`.
        unsafe { ptr::write_volatile(place(gpa).cast(), value) }
    }

    fn zero(&mut self, gpa: u64, bytes: u64) {
        // SAFETY: as in `word`; the range stays inside one page.
        unsafe { ptr::write_bytes(place(gpa), 0, bytes.min(PAGE) as usize) }
    }

    fn copy_page(&mut self, from: u64, to: u64) {
        // SAFETY: as in `word`; two different frames.
        unsafe { ptr::copy_nonoverlapping(place(from), place(to), PAGE as usize) }
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) {
        // SAFETY: as in `word`; the range stays inside one page, and `bytes` is VM's or the image's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place(gpa), bytes.len()) }
    }

    fn read(&self, gpa: u64, bytes: &mut [u8]) {
        // SAFETY: as in `word`; the range stays inside one page, and `bytes` is VM's own.
        unsafe { ptr::copy_nonoverlapping(place(gpa), bytes.as_mut_ptr(), bytes.len()) }
    }
}

/// The doorbell, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Doorbell(Option<u64>);

impl Doorbell {
    /// At the GPA the information page gives, 0 for none.
    pub fn new(gpa: u64) -> Doorbell {
        Doorbell((gpa != 0).then_some(gpa))
    }

    /// Asks for a page back that was taken away at the second stage. It is there on return, unless a rule
    /// keeps it away.
    pub fn page_back(self, frame: u64) {
        if let Some(gpa) = self.0 {
            // SAFETY: the kernel has mapped the doorbell's page at its offset in the window; the register
            // takes aligned 64-bit writes.
            unsafe { ptr::write_volatile(place(gpa.wrapping_add(reg::PAGE_BACK)).cast::<u64>(), frame) };
            info::count(Counter::VmPagesBack, 1);
        }
    }
}
