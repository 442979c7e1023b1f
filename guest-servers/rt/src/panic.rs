//! What happens on a panic: the message to the log (a server) or to the terminal (a program), then the end.

use core::panic::PanicInfo;

/// Exit status of a program that panicked.
const PANIC_STATUS: i32 = 101;
/// Status of the machine when a server it cannot do without panicked: EX_SOFTWARE of sysexits.h.
const SERVER_DIED: i64 = 70;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if !crate::print::diag_line(format_args!("{info}")) {
        crate::print::print_to(2, format_args!("{info}\n"));
    }
    // A server ends the machine: those that could take note of its end may be waiting for it. To programs it is denied, and
    // one that RS restarts tells PM, which never waits for those.
    let mine = crate::start::name().unwrap_or_default();
    if !refault_abi::rs::WATCHED.iter().any(|watched| mine.starts_with(watched.program)) {
        let _ = crate::kernel::shutdown(SERVER_DIED);
    }
    crate::start::exit(PANIC_STATUS)
}

/// The precompiled `core` names this symbol in unwind tables, which the linker script throws away.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Likewise named, never called: programs are compiled without unwinding.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    crate::start::exit(PANIC_STATUS)
}
