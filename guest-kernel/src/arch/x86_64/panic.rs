//! The end of the kernel, readable: what happened, the registers, and how it came there.
//!
//! The one thing to hold in mind: nothing here allocates, takes a lock or trusts the kernel's state. The call
//! chain is found by looking through the stack for addresses behind call instructions, so it can name a call
//! that has already returned; symbols come from the table that is put into the image after linking.

use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use refault_abi::doorbell::event;
use refault_kernel::frame::Frame;
use refault_kernel::symbols;

use super::registers::{address_space, fault_address};
use super::{doorbell, exit, log};

/// Exit status of a panic.
const STATUS: u32 = 254;
const MAX_LINES: usize = 24;
const MAX_WORDS: usize = 2048;

#[unsafe(link_section = ".symbols")]
#[used]
static SYMBOLS: [u8; symbols::BYTES] = symbols::empty();

unsafe extern "C" {
    static text_start: u8;
    static text_end: u8;
    static boot_stack_top: u8;
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let stack: u64;
    // SAFETY: reading the stack pointer.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) }
    match info.location() {
        Some(place) => {
            report(format_args!("{} ({}:{})", info.message(), place.file(), place.line()), None, stack)
        }
        None => report(format_args!("{}", info.message()), None, stack),
    }
}

/// Ends the machine because of an exception in the kernel.
pub fn exception(frame: &Frame, text: Arguments<'_>) -> ! {
    report(text, Some(frame), ptr::from_ref(frame) as u64 + size_of::<Frame>() as u64)
}

fn report(text: Arguments<'_>, frame: Option<&Frame>, stack: u64) -> ! {
    static DYING: AtomicBool = AtomicBool::new(false);
    if DYING.swap(true, Ordering::Relaxed) {
        // The report itself failed.
        exit(STATUS);
    }
    log(format_args!("\nkernel panic: {text}\n"));
    if let Some(frame) = frame {
        registers(frame);
        line(frame.rip);
    }
    backtrace(stack);
    doorbell::event(event::PANIC, STATUS);
    exit(STATUS)
}

fn registers(frame: &Frame) {
    let [rsi, rdx, r8, r9, r10, r12, r13, r14] = frame.message;
    let Frame { rax, rbx, rcx, rdi, rbp, r11, r15, .. } = *frame;
    log(format_args!(
        "  rax {rax:016x} rbx {rbx:016x} rcx {rcx:016x} rdx {rdx:016x}\n  \
           rsi {rsi:016x} rdi {rdi:016x} rbp {rbp:016x} rsp {:016x}\n  \
           r8  {r8:016x} r9  {r9:016x} r10 {r10:016x} r11 {r11:016x}\n  \
           r12 {r12:016x} r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}\n  \
           rip {:016x} cs {:x} rflags {:x} vector {} error {:x} cr2 {:016x} cr3 {:x}\n",
        frame.rsp,
        frame.rip,
        frame.cs,
        frame.rflags,
        frame.vector,
        frame.error,
        fault_address(),
        address_space(),
    ));
}

fn line(address: u64) {
    match symbols::find(&SYMBOLS, address) {
        Some((name, offset)) => log(format_args!("  at {address:016x} {name}+{offset:#x}\n")),
        None => log(format_args!("  at {address:016x}\n")),
    }
}

/// Whether `address` is text of the kernel right behind a call instruction.
fn behind_call(address: u64) -> bool {
    let (start, end) = (&raw const text_start as u64, &raw const text_end as u64);
    if address < start + 8 || address >= end {
        return false;
    }
    // SAFETY: inside the kernel's text.
    let before = |bytes: u64| unsafe { *ptr::with_exposed_provenance::<u8>((address - bytes) as usize) };
    // call rel32; call r/m in its two- and three-byte forms, and with a 32-bit displacement.
    before(5) == 0xe8
        || before(2) == 0xff && before(1) & 0x38 == 0x10
        || before(3) == 0xff && before(2) & 0x38 == 0x10
        || before(6) == 0xff && before(5) & 0x38 == 0x10
}

fn backtrace(stack: u64) {
    let mut lines = 0;
    let first = stack & !7;
    for word in 0..MAX_WORDS as u64 {
        let place = first + word * 8;
        // Kernel stacks lie inside the image; the end of its memory is the end of the search.
        if !(refault_abi::layout::KERNEL..refault_abi::layout::KERNEL + refault_abi::layout::KERNEL_END - 8)
            .contains(&place)
            || place == &raw const boot_stack_top as u64
        {
            break;
        }
        // SAFETY: memory of the image, mapped, aligned.
        let value = unsafe { ptr::with_exposed_provenance::<u64>(place as usize).read_volatile() };
        if behind_call(value) {
            line(value);
            lines += 1;
            if lines == MAX_LINES {
                break;
            }
        }
    }
}
