//! What a program without a runtime needs: text out, panic, and the memory routines the compiler calls.

use core::fmt::{Arguments, Write};
use core::panic::PanicInfo;

use refault_abi::kcall::{self, Diag};
use refault_abi::message::Status;

use crate::trap::kernel_call;

struct Out {
    text: [u8; 48],
    used: usize,
}

impl Out {
    fn flush(&mut self) {
        kernel_call(kcall::DIAG, &Diag { length: self.used as u64, text: self.text });
        self.used = 0;
    }
}

impl Write for Out {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if self.used == self.text.len() {
                self.flush();
            }
            self.text[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

/// Behind [`diag!`].
pub fn print(arguments: Arguments<'_>) {
    let mut out = Out { text: [0; 48], used: 0 };
    let _ = out.write_fmt(arguments);
    let _ = out.write_str("\n");
    out.flush();
}

/// A line of text on the console.
#[macro_export]
macro_rules! diag {
    ($($argument:tt)*) => { $crate::runtime::print(format_args!($($argument)*)) };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    print(format_args!("kselftest: {info}"));
    kernel_call(kcall::SHUTDOWN, &Status { result: 101 });
    loop {
        core::hint::spin_loop();
    }
}

core::arch::global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jae memcpy",
    "mov rcx, rdx",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "memcmp:",
    "bcmp:",
    "mov rcx, rdx",
    "xor eax, eax",
    "test rcx, rcx",
    "jz 2f",
    "repe cmpsb",
    "je 2f",
    "movzx eax, byte ptr [rdi - 1]",
    "movzx ecx, byte ptr [rsi - 1]",
    "sub eax, ecx",
    "2: ret",
);
