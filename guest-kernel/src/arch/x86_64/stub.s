# The trap stub: the only trap instruction user programs execute, one page per variant.
#
#   struct { i64 result; u64 status; } stub(u64 call: rdi, u64 peers: rsi, Message *message: rdx)
#
# Behind the stub, at offset 0x800, the boot-time probe of the trap instruction.

.macro stub_page name, probe, trap:vararg
    .balign 4096
.globl \name
\name:
    push rbx
    push r12
    push r13
    push r14
    mov rbx, rdx
    mov rax, rdi
    mov rdi, rsi
    mov rsi, [rbx]
    mov rdx, [rbx + 8]
    mov r8, [rbx + 16]
    mov r9, [rbx + 24]
    mov r10, [rbx + 32]
    mov r12, [rbx + 40]
    mov r13, [rbx + 48]
    mov r14, [rbx + 56]
    \trap
    mov [rbx], rsi
    mov [rbx + 8], rdx
    mov [rbx + 16], r8
    mov [rbx + 24], r9
    mov [rbx + 32], r10
    mov [rbx + 40], r12
    mov [rbx + 48], r13
    mov [rbx + 56], r14
    mov rdx, rdi
    pop r14
    pop r13
    pop r12
    pop rbx
    ret
    .org \name + 0x800
    \trap
    ud2
    .org \name + 4096
.endm

.section .data.pages, "aw"
    stub_page stub_syscall, probe_syscall, syscall
    stub_page stub_int3, probe_int3, int3

# run_probe(rip: rdi, stack: rsi) -> 1 if the trap instruction at rip entered ring 0 through probe_arrived, 0 if an
# exception came instead. The processor's tables point to probe_arrived and probe_failed meanwhile.
.section .text.entry, "ax"
.globl run_probe
run_probe:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + probe_stack], rsp
    push 0x23
    push rsi
    push 0x02
    push 0x2b
    push rdi
    iretq
.globl probe_arrived
probe_arrived:
    mov eax, 1
    jmp 1f
.globl probe_failed
probe_failed:
    xor eax, eax
1:  mov rsp, [rip + probe_stack]
    cld
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

.section .bss
    .balign 8
probe_stack:
    .quad 0
