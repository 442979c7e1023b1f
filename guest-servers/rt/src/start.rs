//! From the first instruction to `main`, and out again.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use refault_abi::info::{Argument, StartInfo};
use refault_abi::message::Status;
use refault_abi::{Endpoint, Message, pm};

/// The program's arguments, its name first.
#[derive(Clone, Debug)]
pub struct Args {
    next: *const Argument,
    left: usize,
}

impl Args {
    /// Reads what the loader left on the stack.
    ///
    /// # Safety
    /// `start` must be the value of `rdi` at the program's first instruction.
    pub unsafe fn new(start: *const StartInfo) -> Args {
        if start.is_null() {
            return Args { next: ptr::null(), left: 0 };
        }
        // SAFETY: the loader put a StartInfo there, in this process's stack.
        let start = unsafe { start.read() };
        Args {
            next: ptr::with_exposed_provenance(start.argv as usize),
            left: usize::try_from(start.argc).unwrap_or(0),
        }
    }
}

impl Iterator for Args {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: `left` counts down the pairs the loader wrote; they stay where they are for ever.
        let argument = unsafe { self.next.read() };
        self.next = self.next.wrapping_add(1);
        // SAFETY: each pair names readable bytes in the stack that nobody changes.
        let bytes = unsafe {
            core::slice::from_raw_parts(
                ptr::with_exposed_provenance::<u8>(argument.address as usize),
                argument.bytes as usize,
            )
        };
        Some(core::str::from_utf8(bytes).unwrap_or("?"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// Where the loader left the arguments; 0 before `main`.
static START: AtomicUsize = AtomicUsize::new(0);

/// Remembers where the arguments are, for [`name`].
pub fn remember(start: *const StartInfo) {
    START.store(start.expose_provenance(), Ordering::Relaxed);
}

/// The name the process was started under, if it was given one.
pub fn name() -> Option<&'static str> {
    let start = ptr::with_exposed_provenance::<StartInfo>(START.load(Ordering::Relaxed));
    // SAFETY: either null, or the value of `rdi` that `entry!` was given.
    unsafe { Args::new(start) }.next()
}

/// Ends the process with a status.
pub fn exit(status: i32) -> ! {
    let message = Message::new(pm::EXIT, &Status { result: i64::from(status) });
    loop {
        // There is no reply: PM removes the caller. An error (PM is gone) leaves nothing else to try.
        let _ = crate::ipc::sendrec(Endpoint::PM, &message);
    }
}

/// Makes `main: fn(Args) -> i32` the program. Its result is the exit status.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // The first instruction: the stack pointer is 16-byte aligned, `rdi` points to the StartInfo.
        ::core::arch::global_asm!(
            ".section .text._start,\"ax\",@progbits",
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "and rsp, -16",
            "call {main}",
            "ud2",
            ".text",
            main = sym __refault_start,
        );

        extern "C" fn __refault_start(start: *const $crate::abi::info::StartInfo) -> ! {
            // SAFETY: `_start` passes on `rdi` of the first instruction.
            let args = unsafe { $crate::start::Args::new(start) };
            $crate::start::remember(start);
            let main: fn($crate::start::Args) -> i32 = $main;
            $crate::start::exit(main(args))
        }
    };
}
