# Ways into the kernel and out of it.
#
# From ring 3 the processor switches to TSS.RSP0, which is the end of the current process's frame, so every push
# below fills that frame (`frame.rs`): ss rsp rflags cs rip error vector, then r15 rbp rbx r11 rcx rdi rax and the
# message words r14 r13 r12 r10 r9 r8 rdx rsi. The kernel's own stack comes from the per-processor block at GS.
# Interrupts stay off in ring 0; the only place where one can arrive there is the idle loop, which has nothing to
# save. Offsets into the per-processor block: 0 its address, 8 kernel stack, 16 end of the current frame, 24 scratch.

.section .text.entry, "ax"

.macro push_registers
    push r15
    push rbp
    push rbx
    push r11
    push rcx
    push rdi
    push rax
    push r14
    push r13
    push r12
    push r10
    push r9
    push r8
    push rdx
    push rsi
.endm

.macro pop_registers
    pop rsi
    pop rdx
    pop r8
    pop r9
    pop r10
    pop r12
    pop r13
    pop r14
    pop rax
    pop rdi
    pop rcx
    pop r11
    pop rbx
    pop rbp
    pop r15
.endm

# The big kernel lock. The loop only reads while somebody else holds it.
.macro lock_kernel
    mov eax, 1
1:  xchg [KERNEL_LOCK], eax
    test eax, eax
    jnz 2f
.section .text.entry.wait, "ax"
2:  pause
    cmp dword ptr [KERNEL_LOCK], 0
    jne 2b
    jmp 1b
.section .text.entry, "ax"
.endm

# The trap by SYSCALL: the processor saved rip in rcx and rflags in r11, and nothing else.
.globl entry_syscall
entry_syscall:
    swapgs
    mov gs:[24], rsp
    mov rsp, gs:[16]
    push 0x23
    push qword ptr gs:[24]
    push r11
    push 0x2b
    push rcx
    sub rsp, 16
    push_registers
    mov rsp, gs:[8]
    mov rdi, gs:[0]
    lock_kernel
    call kernel_trap
    jmp leave_kernel

# The trap by INT3.
entry_trap:
    test byte ptr [rsp + 8], 3
    jz entry_trap_ring0
    sub rsp, 16
    push_registers
    swapgs
    cld
    mov rsp, gs:[8]
    mov rdi, gs:[0]
    lock_kernel
    call kernel_trap
    # Falls through.

# Leaves to the frame whose address is in rax, or idles if that is 0.
.globl leave_kernel
leave_kernel:
    mov dword ptr [KERNEL_LOCK], 0
    test rax, rax
    jz idle
    mov rsp, rax
    swapgs
    pop_registers
    add rsp, 16
    iretq

entry_trap_ring0:
    push 0
    push 3
    jmp exception_ring0

# Nobody can run. The interrupt that ends this does not come back here.
idle:
    mov rsp, gs:[8]
1:  sti
    hlt
    jmp 1b

# Exceptions, error code and vector pushed.
entry_exception:
    test byte ptr [rsp + 24], 3
    jz exception_ring0
    push_registers
    swapgs
    cld
    mov rsp, gs:[8]
    mov rdi, gs:[0]
    lock_kernel
    call kernel_exception
    jmp leave_kernel

# In ring 0 the frame is on the kernel's stack; the lock is held. An access that was expected to fail goes on
# elsewhere, everything else does not come back.
exception_ring0:
    push_registers
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call kernel_fault
    mov rsp, rbp
    pop_registers
    add rsp, 16
    iretq

# Interrupts, a zero and the vector pushed.
entry_interrupt:
    test byte ptr [rsp + 24], 3
    jz interrupt_idle
    push_registers
    swapgs
    cld
    mov rsp, gs:[8]
    mov rdi, gs:[0]
    mov rsi, 1
    lock_kernel
    call kernel_interrupt
    jmp leave_kernel

# From the idle loop: what was interrupted is dropped.
interrupt_idle:
    mov rdx, [rsp]
    cld
    mov rsp, gs:[8]
    mov rdi, gs:[0]
    xor esi, esi
    lock_kernel
    call kernel_interrupt
    jmp leave_kernel

# NMI, double fault, machine check, each on its own stack: nothing is trusted, nothing returns.
entry_fatal:
    push_registers
    cld
    mov rdi, rsp
    and rsp, -16
    call kernel_fatal
    ud2

.macro gate vector, kind
vector_\vector:
    .ifc \kind, plain
    push 0
    push \vector
    jmp entry_exception
    .endif
    .ifc \kind, error
    push \vector
    jmp entry_exception
    .endif
    .ifc \kind, fatal
    push 0
    push \vector
    jmp entry_fatal
    .endif
    .ifc \kind, fatal_error
    push \vector
    jmp entry_fatal
    .endif
    .ifc \kind, interrupt
    push 0
    push \vector
    jmp entry_interrupt
    .endif
.endm

    gate 0, plain
    gate 1, plain
    gate 2, fatal
    gate 4, plain
    gate 5, plain
    gate 6, plain
    gate 7, plain
    gate 8, fatal_error
    gate 9, plain
    gate 10, error
    gate 11, error
    gate 12, error
    gate 13, error
    gate 14, error
    gate 15, plain
    gate 16, plain
    gate 17, error
    gate 18, fatal
    gate 19, plain
    gate 20, plain
    gate 21, error
.irp line, 48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,69,70,71
    gate \line, interrupt
.endr
    gate 224, interrupt
# The local APIC's spurious vector needs no answer.
vector_255:
    iretq

# Gates are constants: the linker script keeps the handlers in one 64 KiB area.
.macro descriptor handler, ist, type
    .word \handler - 0xffffffff80100000
    .word 0x08
    .byte \ist, \type
    .word 0x8010
    .long 0xffffffff, 0
.endm
.macro descriptor_of vector, ist=0
    descriptor vector_\vector, \ist, 0x8e
.endm

.section .rodata
    .balign 16
.globl interrupt_table
interrupt_table:
    descriptor_of 0
    descriptor_of 1
    descriptor_of 2, 1
    descriptor entry_trap, 0, 0xee
    descriptor_of 4
    descriptor_of 5
    descriptor_of 6
    descriptor_of 7
    descriptor_of 8, 2
    descriptor_of 9
    descriptor_of 10
    descriptor_of 11
    descriptor_of 12
    descriptor_of 13
    descriptor_of 14
    descriptor_of 15
    descriptor_of 16
    descriptor_of 17
    descriptor_of 18, 3
    descriptor_of 19
    descriptor_of 20
    descriptor_of 21
    .fill (48 - 22) * 2, 8, 0
.irp line, 48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,69,70,71
    descriptor_of \line
.endr
    .fill (224 - 72) * 2, 8, 0
    descriptor_of 224
    .fill (255 - 225) * 2, 8, 0
    descriptor_of 255
interrupt_table_end:
