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
1:  lock bts dword ptr [KERNEL_LOCK], 0
    jc 2f
.section .text.entry.wait, "ax"
2:  pause
    cmp dword ptr [KERNEL_LOCK], 0
    jne 2b
    jmp 1b
.section .text.entry, "ax"
.endm

# The fast path: a SENDREC to a process that waits for it, or a REPLYRECEIVE to one that waits for the answer by a
# server that has nothing else to receive. The message stays in its registers; only the rest is changed. Every guard
# that fails leads to fast_declined, with nothing changed but rbx, rbp, r15, rcx and r11; `ipc` in the library then
# does the same thing in general, and is what these lines have to agree with.
#
# On entry rsp points to the frame's rip, and the frame is the first thing in the process. rbp: this process; rcx: the
# other one, relative to the table; r11: its slot.
.set FRAME_RIP, 136
.set FRAME_R15, 112
.set FRAME_RBP, 104
.set FRAME_RBX, 96
.set FRAME_END, 176
.set ANY, 31744
.set RECEIVING, 8
.set SENDREC, 3
.set REPLYRECEIVE, 7
.set SEND, 1
.set NO_SLOT, 0xff
.set COUNT_TRAPS, 0
.set COUNT_MESSAGES, 16
.set COUNT_SWITCHES, 24
.set OTHER, KERNEL_STATE + PROCESSES

.macro fast_path_guards
    mov ecx, edi
    and ecx, 0x7fff
    mov r11d, ecx
    cmp ecx, 63
    ja fast_declined
    shl ecx, 9
    cmp [rcx + OTHER + P_ENDPOINT], edi
    jne fast_declined
    mov rbx, [rbp + P_SEND_MASK]
    bt rbx, r11
    jnc fast_declined
    cmp dword ptr [rcx + OTHER + P_FLAGS], RECEIVING
    jne fast_declined
    mov ebx, [rcx + OTHER + P_RECEIVE_FROM]
    cmp ebx, ANY
    je 3f
    cmp ebx, [rbp + P_ENDPOINT]
    jne fast_declined
3:  mov ebx, [rcx + OTHER + P_RIVALS]
    test [KERNEL_STATE + READY_LEVELS], ebx
    jnz fast_declined
.endm

.macro fast_path_switch from, pending, status
    mov dword ptr [rbp + P_FLAGS], RECEIVING
    mov dword ptr [rbp + P_RECEIVE_FROM], \from
    mov byte ptr [rbp + P_REPLY_PENDING], \pending
    mov dword ptr [rcx + OTHER + P_FLAGS], 0
    mov byte ptr [rcx + OTHER + P_REPLY_PENDING], 0
    inc qword ptr [COUNTERS + COUNT_TRAPS]
    inc qword ptr [COUNTERS + COUNT_MESSAGES]
    inc qword ptr [COUNTERS + COUNT_SWITCHES]
    shr rsi, 32                         # type; the source becomes this process
    shl rsi, 32
    mov eax, [rbp + P_ENDPOINT]
    or rsi, rax
    mov gs:[C_CURRENT], r11b
    lea rax, [rcx + OTHER + FRAME_END]
    mov gs:[16], rax
    mov gs:[C_RSP0], rax
    mov rax, [rcx + OTHER + P_ROOT]
    cmp rax, gs:[C_ROOT]
    je 4f
    mov gs:[C_ROOT], rax
    mov cr3, rax
4:  lea rsp, [rcx + OTHER + FRAME_RIP]
    mov rbx, [rsp - FRAME_RIP + FRAME_RBX]
    mov rbp, [rsp - FRAME_RIP + FRAME_RBP]
    mov r15, [rsp - FRAME_RIP + FRAME_R15]
    mov edi, \status
    xor eax, eax
    xor ecx, ecx
    xor r11d, r11d
    mov dword ptr [KERNEL_LOCK], 0
    swapgs
    iretq
.endm

# The same two traps while instructions are counted (`measure=on`): the monitor steps from the port write on.
.set ENTRY_PORT, 0xe0
.globl entry_syscall_measured
entry_syscall_measured:
    out ENTRY_PORT, al
    jmp entry_syscall
.globl entry_trap_measured
entry_trap_measured:
    out ENTRY_PORT, al
    jmp entry_trap

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
    jmp trap_common

# The trap by INT3.
entry_trap:
    test byte ptr [rsp + 8], 3
    jz entry_trap_ring0
    swapgs
    cld
trap_common:
    lock_kernel
    cmp rax, SENDREC
    je fast_sendrec
    cmp rax, REPLYRECEIVE
    je fast_reply
trap_slow:
    sub rsp, 16
    push_registers
    mov rsp, gs:[8]
    mov rdi, gs:[0]
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

fast_sendrec:
    mov [rsp - FRAME_RIP + FRAME_RBX], rbx
    mov [rsp - FRAME_RIP + FRAME_RBP], rbp
    mov [rsp - FRAME_RIP + FRAME_R15], r15
    lea rbp, [rsp - FRAME_RIP]
    test byte ptr [rbp + P_TRAP_MASK], 1 << SENDREC
    jz fast_declined
    cmp qword ptr [rbp + P_ASYNC_PENDING], 0
    jne fast_declined
    fast_path_guards
    fast_path_switch edi, 1, SENDREC

fast_reply:
    mov [rsp - FRAME_RIP + FRAME_RBX], rbx
    mov [rsp - FRAME_RIP + FRAME_RBP], rbp
    mov [rsp - FRAME_RIP + FRAME_R15], r15
    lea rbp, [rsp - FRAME_RIP]
    test byte ptr [rbp + P_TRAP_MASK], 1 << REPLYRECEIVE
    jz fast_declined
    mov rbx, rdi
    shr rbx, 32
    cmp ebx, ANY
    jne fast_declined
    mov ebx, [rbp + P_NOTIFY_KERNEL]
    or rbx, [rbp + P_NOTIFY]
    or rbx, [rbp + P_ASYNC_PENDING]
    jnz fast_declined
    cmp byte ptr [rbp + P_QUEUE_HEAD], NO_SLOT
    jne fast_declined
    fast_path_guards
    fast_path_switch ANY, 0, SEND

fast_declined:
    mov rbx, [rsp - FRAME_RIP + FRAME_RBX]
    mov rbp, [rsp - FRAME_RIP + FRAME_RBP]
    mov r15, [rsp - FRAME_RIP + FRAME_R15]
    xor ecx, ecx
    xor r11d, r11d
    jmp trap_slow

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

# A machine check, on a stack of its own, because it can come at any instruction. From ring 3 the frame moves to where every
# other one is and it goes on like an exception. In ring 0 a copy goes on elsewhere, and everything else does not come back.
entry_machine_check:
    test byte ptr [rsp + 24], 3
    jz machine_check_ring0
    swapgs
    push_registers
    cld
    mov rsi, rsp
    mov rdi, gs:[16]
    sub rdi, FRAME_END
    mov ecx, FRAME_END / 8
    rep movsq
    mov rsp, gs:[8]
    mov rdi, gs:[0]
    lock_kernel
    call kernel_exception
    jmp leave_kernel

machine_check_ring0:
    push_registers
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call kernel_machine_check
    mov rsp, rbp
    pop_registers
    add rsp, 16
    iretq

# NMI, double fault, each on its own stack: nothing is trusted, nothing returns.
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
    .ifc \kind, machine_check
    push 0
    push \vector
    jmp entry_machine_check
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
    gate 18, machine_check
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
