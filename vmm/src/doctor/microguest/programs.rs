//! The micro-guests' instructions, as bytes with their assembly.
//!
//! Every program ends in `out DONE, al` in a loop, so that it can be run once more and still ends. The one
//! thing to hold in mind: a program runs in ring 0 or ring 3 unchanged (ring 3 has I/O privilege level 3), and
//! addresses the page under test through RDI.

/// Port written when a program is through.
pub const DONE: u16 = 0x10;
/// Port written by every exception and interrupt handler.
pub const VECTOR: u16 = 0x11;
/// Port written by the SYSCALL entry.
pub const ENTERED: u16 = 0x12;

/// Counts RBX down. Two instructions per turn.
pub const COUNT: &[u8] = &[
    0x48, 0xff, 0xcb, // 1: dec rbx
    0x75, 0xfb, //       jnz 1b
    0xe6, 0x10, //    2: out DONE, al
    0xeb, 0xfc, //       jmp 2b
];

/// Reads the time-stamp counter, counts RBX down, reads it again: first reading in R8, second in RAX.
pub const TIMESTAMPS: &[u8] = &[
    0x0f, 0x31, //       rdtsc
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
    0x48, 0x09, 0xd0, // or rax, rdx
    0x49, 0x89, 0xc0, // mov r8, rax
    0x48, 0xff, 0xcb, // 1: dec rbx
    0x75, 0xfb, //       jnz 1b
    0x0f, 0x31, //       rdtsc
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
    0x48, 0x09, 0xd0, // or rax, rdx
    0xe6, 0x10, //    2: out DONE, al
    0xeb, 0xfc, //       jmp 2b
];

/// Nothing but the end.
pub const NOTHING: &[u8] = &[
    0xe6, 0x10, // 1: out DONE, al
    0xeb, 0xfc, //    jmp 1b
];

/// One SYSCALL.
pub const SYSCALL: &[u8] = &[
    0x0f, 0x05, //    syscall
    0xe6, 0x10, // 1: out DONE, al
    0xeb, 0xfc, //    jmp 1b
];

/// RBX times SYSCALL.
pub const SYSCALLS: &[u8] = &[
    0x0f, 0x05, //       1: syscall
    0x48, 0xff, 0xcb, //    dec rbx
    0x75, 0xf9, //          jnz 1b
    0xe6, 0x10, //       2: out DONE, al
    0xeb, 0xfc, //          jmp 2b
];

/// The vector of [`INT_N`].
pub const INT_N_VECTOR: u8 = 0x80;

/// One INT 0x80.
pub const INT_N: &[u8] = &[
    0xcd, 0x80, //    int 0x80
    0xe6, 0x10, // 1: out DONE, al
    0xeb, 0xfc, //    jmp 1b
];

/// One INT3.
pub const INT3: &[u8] = &[
    0xcc, //          int3
    0xe6, 0x10, // 1: out DONE, al
    0xeb, 0xfc, //    jmp 1b
];

/// RBX times INT3.
pub const INT3S: &[u8] = &[
    0xcc, //             1: int3
    0x48, 0xff, 0xcb, //    dec rbx
    0x75, 0xfa, //          jnz 1b
    0xe6, 0x10, //       2: out DONE, al
    0xeb, 0xfc, //          jmp 2b
];

/// Loads eight bytes of the page under test into RAX.
pub const LOAD: &[u8] = &[
    0x48, 0x8b, 0x07, // mov rax, [rdi]
    0xe6, 0x10, //    1: out DONE, al
    0xeb, 0xfc, //       jmp 1b
];

/// Stores EAX to the page under test.
pub const STORE: &[u8] = &[
    0x89, 0x07, //       mov [rdi], eax
    0xe6, 0x10, //    1: out DONE, al
    0xeb, 0xfc, //       jmp 1b
];

/// Adds one to eight bytes of the page under test: shows whether an access lands once.
pub const INCREMENT: &[u8] = &[
    0x48, 0xff, 0x07, // inc qword [rdi]
    0xe6, 0x10, //    1: out DONE, al
    0xeb, 0xfc, //       jmp 1b
];

/// Calls the page under test.
pub const CALL: &[u8] = &[
    0xff, 0xd7, //    call rdi
    0xe6, 0x10, // 1: out DONE, al
    0xeb, 0xfc, //    jmp 1b
];

/// What [`CALL`] finds there.
pub const RETURN: &[u8] = &[
    0xc3, // ret
];

/// Waits for an interrupt, halted. Ring 0 only.
pub const WAIT: &[u8] = &[
    0xfb, //          1: sti
    0xf4, //             hlt
    0xeb, 0xfc, //       jmp 1b
];

/// The vector of [`TIMER`].
pub const TIMER_VECTOR: u8 = 0x41;

/// Switches the local APIC to x2APIC mode, starts its one-shot timer and waits for it, halted. Ring 0 only.
pub const TIMER: &[u8] = &[
    0xb9, 0x1b, 0x00, 0x00, 0x00, // mov ecx, 0x1b        IA32_APIC_BASE
    0x0f, 0x32, //                   rdmsr
    0x0d, 0x00, 0x0c, 0x00, 0x00, // or eax, 0xc00        enabled, x2APIC
    0x0f, 0x30, //                   wrmsr
    0x31, 0xd2, //                   xor edx, edx
    0xb9, 0x0f, 0x08, 0x00, 0x00, // mov ecx, 0x80f       spurious vector
    0xb8, 0xff, 0x01, 0x00, 0x00, // mov eax, 0x1ff       enabled
    0x0f, 0x30, //                   wrmsr
    0xb9, 0x3e, 0x08, 0x00, 0x00, // mov ecx, 0x83e       divide configuration
    0xb8, 0x0b, 0x00, 0x00, 0x00, // mov eax, 0xb         by 1
    0x0f, 0x30, //                   wrmsr
    0xb9, 0x32, 0x08, 0x00, 0x00, // mov ecx, 0x832       timer entry
    0xb8, 0x41, 0x00, 0x00, 0x00, // mov eax, 0x41        one shot, TIMER_VECTOR
    0x0f, 0x30, //                   wrmsr
    0xb9, 0x38, 0x08, 0x00, 0x00, // mov ecx, 0x838       initial count
    0xb8, 0x40, 0x42, 0x0f, 0x00, // mov eax, 1000000     1 ms at KVM's 1 GHz bus
    0x0f, 0x30, //                   wrmsr
    0xfb, //                      1: sti
    0xf4, //                         hlt
    0xeb, 0xfc, //                   jmp 1b
];

/// Handler of a vector without error code.
pub const HANDLER: &[u8] = &[
    0xe6, 0x11, // out VECTOR, al
    0x48, 0xcf, // iretq
];

/// Handler of a vector with error code.
pub const HANDLER_WITH_ERROR: &[u8] = &[
    0xe6, 0x11, //             out VECTOR, al
    0x48, 0x83, 0xc4, 0x08, // add rsp, 8
    0x48, 0xcf, //             iretq
];

/// Handler that returns at once, for timing.
pub const QUIET_HANDLER: &[u8] = &[
    0x48, 0xcf, // iretq
];

/// Where SYSCALL goes.
pub const SYSCALL_ENTRY: &[u8] = &[
    0xe6, 0x12, //       out ENTERED, al
    0x48, 0x0f, 0x07, // sysretq
];

/// The same, returning at once, for timing.
pub const QUIET_SYSCALL_ENTRY: &[u8] = &[
    0x48, 0x0f, 0x07, // sysretq
];
