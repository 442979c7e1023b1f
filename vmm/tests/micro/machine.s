// A guest that goes once through everything a kernel here needs from the machine, and prints one letter
// for each thing that works. Assembled as data: the bytes between micro_machine and micro_machine_end are
// loaded at BASE. Nothing in it may need a relocation, hence the "label - micro_machine + BASE".

.section .rodata.micro_machine, "a"
.balign 4096
.globl micro_machine
micro_machine:
.set BASE, 0x100000
.set HIGH, 0xffffffff80000000
.set DIRECT, 0xffff800000000000
.set USER, 0x0000008000000000

.macro say char
    mov $0x3f8, %edx
    mov $\char, %al
    out %al, %dx
.endm

// ---------------------------------------------------------------- 32-bit protected mode, paging off
.code32
    mov $(stack_top - micro_machine + BASE), %esp
    cmpl $0x336ec578, (%ebx)
    jne bad_start_info
    say 'A'
    lgdt (gdtr - micro_machine + BASE)
    mov %cr4, %eax
    or $0x220, %eax                    // PAE, OSFXSR
    mov %eax, %cr4
    mov $(pml4 - micro_machine + BASE), %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx              // EFER
    rdmsr
    or $0x901, %eax                    // SCE, LME, NXE
    wrmsr
    mov %cr0, %eax
    or $0x80010023, %eax               // PG, WP, NE, MP, PE
    mov %eax, %cr0
    ljmp $8, $(long_mode - micro_machine + BASE)
bad_start_info:
    say '?'
    hlt

// ---------------------------------------------------------------- long mode
.code64
long_mode:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    say 'B'
    movabs $HIGH, %r15
    lea high_half(%rip), %rax
    add %r15, %rax
    jmp *%rax
high_half:
    add %r15, %rsp
    say 'C'
    lea scratch(%rip), %rax
    sub %r15, %rax
    movabs $DIRECT, %rbx
    add %rax, %rbx                     // scratch through the direct map
    movq $0x55aa, (%rbx)
    cmpq $0x55aa, scratch(%rip)
    jne fail
    say 'D'
// ---------------------------------------------------------------- GDT, IDT, TSS at their high addresses
    lea gdt(%rip), %rax
    mov %rax, gdtr+2(%rip)
    lgdt gdtr(%rip)
    lea tss(%rip), %rax
    lea stack_top(%rip), %rcx
    mov %rcx, 4(%rax)                  // RSP0
    lea gdt_tss(%rip), %rbx
    mov %ax, 2(%rbx)
    mov %rax, %rcx
    shr $16, %rcx
    mov %cl, 4(%rbx)
    mov %ch, 7(%rbx)
    shr $16, %rcx
    mov %ecx, 8(%rbx)
    mov $0x28, %eax
    ltr %ax
    lea stubs(%rip), %rax
    lea idt(%rip), %rdi
    mov $80, %ecx
1:  mov %ax, (%rdi)
    movw $8, 2(%rdi)
    movw $0xee00, 4(%rdi)              // present, DPL 3, interrupt gate
    mov %rax, %rdx
    shr $16, %rdx
    mov %dx, 6(%rdi)
    shr $16, %rdx
    mov %edx, 8(%rdi)
    movl $0, 12(%rdi)
    add $16, %rax
    add $16, %rdi
    dec %ecx
    jnz 1b
    lea idt(%rip), %rax
    mov %rax, idtr+2(%rip)
    lidt idtr(%rip)
    say 'E'
// ---------------------------------------------------------------- #PF in ring 0, RIP fixed, IRETQ
    lea 2f(%rip), %rax
    mov %rax, fix(%rip)
    movabs $0xffff900000001238, %rax
    mov (%rax), %rcx
    jmp fail
2:  cmpq $14, vector(%rip)
    jne fail
    cmpq $0, error(%rip)
    jne fail
    movabs $0xffff900000001238, %rax
    cmp %rax, fault_address(%rip)
    jne fail
    say 'F'
// ---------------------------------------------------------------- GS base and SWAPGS
    mov $0xc0000101, %ecx
    lea scratch(%rip), %rax
    mov %rax, %rdx
    shr $32, %rdx
    wrmsr
    cmpq $0x55aa, %gs:0
    jne fail
    swapgs
    swapgs
    cmpq $0x55aa, %gs:0
    jne fail
    say 'G'
// ---------------------------------------------------------------- ring 3 and back by INT3
    lea 3f(%rip), %rax
    mov %rax, resume(%rip)
    movabs $USER, %rbx
    jmp to_user
3:  cmpq $3, vector(%rip)
    jne fail
    cmpq $0x2b - 8, saved_cs(%rip)     // 0x23: came from ring 3
    jne fail
    say 'H'
// ---------------------------------------------------------------- ring 3 #PF on an absent page
    lea 4f(%rip), %rax
    mov %rax, resume(%rip)
    movabs $(USER + user_touch - user_code), %rbx
    jmp to_user
4:  cmpq $14, vector(%rip)
    jne fail
    cmpq $4, error(%rip)
    jne fail
    say 'I'
// ---------------------------------------------------------------- x2APIC timer wakes HLT
    mov $0x1b, %ecx
    rdmsr
    or $0xc00, %eax
    wrmsr
    mov $0x80f, %ecx                   // spurious vector, software enable
    mov $0x14f, %eax
    xor %edx, %edx
    wrmsr
    mov $0x83e, %ecx
    mov $0xb, %eax                     // divide by 1
    wrmsr
    mov $0x832, %ecx
    mov $0x40, %eax                    // one-shot, vector 0x40
    wrmsr
    mov $0x838, %ecx
    mov $2000000, %eax                 // 2 ms
    wrmsr
    lea 5f(%rip), %rax
    mov %rax, resume(%rip)
    sti
    hlt
    jmp fail
5:  cmpq $0x40, vector(%rip)
    jne fail
    call eoi
    say 'J'
// ---------------------------------------------------------------- x2APIC timer preempts ring 3
    mov $0x838, %ecx
    mov $2000000, %eax
    xor %edx, %edx
    wrmsr
    lea 6f(%rip), %rax
    mov %rax, resume(%rip)
    movabs $(USER + user_spin - user_code), %rbx
    jmp to_user
6:  cmpq $0x40, vector(%rip)
    jne fail
    call eoi
    say 'K'
// ---------------------------------------------------------------- I/O APIC: the serial line's interrupt, in HLT
    mov $0xff, %al                     // the legacy controller has the same lines: mask it
    out %al, $0x21
    out %al, $0xa1
    mov $0xfec00000, %ebx
    movl $0x19, (%rbx)                 // redirection 4, high half: APIC 0
    movl $0, 0x10(%rbx)
    movl $0x18, (%rbx)
    movl $0x41, 0x10(%rbx)             // fixed, edge, vector 0x41
    say 'L'
    lea 7f(%rip), %rax
    mov %rax, resume(%rip)
    call line_interrupt
    sti
    hlt
    jmp fail
7:  cmpq $0x41, vector(%rip)
    jne fail
    call eoi
    call line_quiet
    say 'M'
// ---------------------------------------------------------------- the same in ring 3
    lea 8f(%rip), %rax
    mov %rax, resume(%rip)
    call line_interrupt
    movabs $(USER + user_spin - user_code), %rbx
    jmp to_user
8:  cmpq $0x41, vector(%rip)
    jne fail
    call eoi
    call line_quiet
    say 'N'
    mov $0xf4, %edx
    mov $42, %eax
    out %eax, %dx
fail:
    say '!'
    mov vector(%rip), %rax
    call hex
    mov error(%rip), %rax
    call hex
    mov fault_address(%rip), %rax
    call hex
    mov saved_rip(%rip), %rax
    call hex
    mov $0xf4, %edx
    mov $99, %eax
    out %eax, %dx
    hlt

// Has the serial line interrupt because its transmitter is empty.
line_interrupt:
    mov $0x3f9, %edx
    mov $2, %al
    out %al, %dx
    ret

// Takes the interrupt back: reads its reason, and wants no more.
line_quiet:
    mov $0x3fa, %edx
    in %dx, %al
    mov $0x3f9, %edx
    xor %eax, %eax
    out %al, %dx
    ret

eoi:
    mov $0x80b, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
    ret

hex:
    mov $16, %ecx
9:  rol $4, %rax
    mov %rax, %rbx
    and $15, %eax
    add $48, %al
    cmp $58, %al
    jb 10f
    add $39, %al
10: mov $0x3f8, %edx
    out %al, %dx
    mov %rbx, %rax
    dec %ecx
    jnz 9b
    mov $32, %al
    out %al, %dx
    ret

// IRETQ to the user address in RBX.
to_user:
    movabs $(USER + 0x2000), %rax
    pushq $0x1b
    push %rax
    pushq $0x202
    pushq $0x23
    push %rbx
    iretq

// Stack here: vector, error code, RIP, CS, RFLAGS, RSP, SS.
common:
    push %rax
    mov 8(%rsp), %rax
    mov %rax, vector(%rip)
    mov 16(%rsp), %rax
    mov %rax, error(%rip)
    mov 24(%rsp), %rax
    mov %rax, saved_rip(%rip)
    mov 32(%rsp), %rax
    mov %rax, saved_cs(%rip)
    mov %cr2, %rax
    mov %rax, fault_address(%rip)
    mov fix(%rip), %rax
    test %rax, %rax
    jz 11f
    movq $0, fix(%rip)
    mov %rax, 24(%rsp)
    pop %rax
    add $16, %rsp
    iretq
11: mov resume(%rip), %rax
    test %rax, %rax
    jz fail
    movq $0, resume(%rip)
    lea stack_top(%rip), %rsp
    jmp *%rax

.macro stub number
    .balign 16
    .if (\number == 8) || (\number >= 10 && \number <= 14) || (\number == 17)
    .else
    pushq $0
    .endif
    pushq $\number
    jmp common
.endm

.balign 16
stubs:
    .set n, 0
    .rept 80
    stub n
    .set n, n + 1
    .endr

.balign 16
gdtr:   .word 0x37
        .quad gdt - micro_machine + BASE
idtr:   .word 80 * 16 - 1
        .quad 0
.balign 16
gdt:    .quad 0
        .quad 0x00af9b000000ffff       // 08 kernel code
        .quad 0x00cf93000000ffff       // 10 kernel data
        .quad 0x00cff3000000ffff       // 18 user data
        .quad 0x00affb000000ffff       // 20 user code
gdt_tss: .quad 0x0000890000000067      // 28 TSS
        .quad 0
tss:    .fill 104, 1, 0
.balign 8
scratch:        .quad 0
vector:         .quad 0
error:          .quad 0
fault_address:  .quad 0
saved_rip:      .quad 0
saved_cs:       .quad 0
resume:         .quad 0
fix:            .quad 0
.balign 16
idt:    .fill 80 * 16, 1, 0

.balign 4096
pml4:   .quad pdpt_low - micro_machine + BASE + 3
        .quad pdpt_user - micro_machine + BASE + 7
        .fill 254, 8, 0
        .quad pdpt_low - micro_machine + BASE + 3   // 256: direct map
        .fill 254, 8, 0
        .quad pdpt_high - micro_machine + BASE + 3  // 511
pdpt_low:
        .quad pd_ram - micro_machine + BASE + 3
        .quad 0
        .quad 0
        .quad pd_devices - micro_machine + BASE + 3
        .fill 508, 8, 0
pdpt_high:
        .fill 510, 8, 0
        .quad pd_ram - micro_machine + BASE + 3
        .quad 0
pd_ram: .set at, 0
        .rept 16                       // 32 MiB in 2 MiB pages, supervisor
        .quad at + 0x83
        .set at, at + 0x200000
        .endr
        .fill 496, 8, 0
pd_devices:
        .fill 502, 8, 0
        .quad 0xfec00000 + 0x9b        // I/O APIC, uncached
        .fill 9, 8, 0
pdpt_user:
        .quad pd_user - micro_machine + BASE + 7
        .fill 511, 8, 0
pd_user:
        .quad pt_user - micro_machine + BASE + 7
        .fill 511, 8, 0
pt_user:
        .quad user_code - micro_machine + BASE + 5
        .quad user_stack - micro_machine + BASE + 7
        .fill 510, 8, 0
.balign 4096
user_code:
        mov $0x1234, %eax
        int3
user_touch:
        movabs $(USER + 0x3000), %rax
        mov (%rax), %rax
user_spin:
        pause
        jmp user_spin
.balign 4096
user_stack: .fill 4096, 1, 0
        .fill 8192, 1, 0
stack_top:
.globl micro_machine_end
micro_machine_end:
.text
