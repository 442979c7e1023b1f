// A guest that takes its own pages away: it plays both the kernel that announces a site and the code that then
// touches the page, in ring 0 and in ring 3, and prints one letter for each thing that is as it should be.
// The first instructions are those of machine.s: get to long mode with a page fault handler.

.section .rodata.micro_away, "a"
.balign 4096
.globl micro_away
micro_away:
.set ABASE, 0x100000
.set AUSER, 0x0000008000000000
.set DOORBELL, 0xd0100000
.set SITES, 0x300000                   // site page
.set RECORDS, 0x301000                 // trap records
.set VICTIM, 0x400000                  // the page that goes away

.macro tell char
    mov $0x3f8, %edx
    mov $\char, %al
    out %al, %dx
.endm

// Announces a site for the page VICTIM; attempt in \attempt, page index in \page.
.macro site attempt, page
    mov $SITES + 64, %eax
    movq $VICTIM, (%rax)               // gpa
    movq $VICTIM, 8(%rax)              // gva
    movabs $(0xA13 + (\attempt << 16) + (9 << 32)), %rcx
    mov %rcx, 24(%rax)                 // tag: READ, attempt, request 9
    movl $\page, 48(%rax)
    movl $17, 52(%rax)
    movl $0, 0x48(%r14)                // SITE
.endm

.code32
    mov $(a_stack_top - micro_away + ABASE), %esp
    lgdt (a_gdtr - micro_away + ABASE)
    mov %cr4, %eax
    or $0x220, %eax
    mov %eax, %cr4
    mov $(a_pml4 - micro_away + ABASE), %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80010023, %eax
    mov %eax, %cr0
    ljmp $8, $(a_long - micro_away + ABASE)
.code64
a_long:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    lea a_tss(%rip), %rax
    lea a_stack_top(%rip), %rcx
    mov %rcx, 4(%rax)
    lea a_gdt_tss(%rip), %rbx
    mov %ax, 2(%rbx)
    shr $16, %rax
    mov %al, 4(%rbx)
    mov $0x28, %eax
    ltr %ax
    // Gates 3 (breakpoint) and 14 (page fault).
    lea on_breakpoint(%rip), %rax
    lea a_idt + 3 * 16(%rip), %rdi
    call gate
    lea on_page_fault(%rip), %rax
    lea a_idt + 14 * 16(%rip), %rdi
    call gate
    lea a_idt(%rip), %rax
    mov %rax, a_idtr + 2(%rip)
    lidt a_idtr(%rip)

    // Register everything at the doorbell.
    mov $DOORBELL, %r14d               // above 2 GiB: out of reach of an absolute operand
    cmpl $0x544c4652, (%r14)
    jne a_fail
    movl $SITES, 0x18(%r14)
    movl $0, 0x1c(%r14)
    mov $RECORDS, %eax
    mov %rax, 0x10(%r14)
    cmpq $1, SITES                     // the monitor wants to hear of the next site
    jne a_fail
    movq $0x1122334455667788, %rax
    mov %rax, VICTIM + 8
    tell 'A'

    // A plain load in ring 0 of a page that is away: one reflected fault, the same instruction then succeeds.
    site 1, 1
    mov VICTIM + 8, %rbx
    movq $0x1122334455667788, %rax
    cmp %rax, %rbx
    jne a_fail
    cmpq $1, faults(%rip)
    jne a_fail
    cmpq $VICTIM + 8, last_gva(%rip)
    jne a_fail
    cmpq $VICTIM + 8, last_gpa(%rip)
    jne a_fail
    cmpq $0, last_error(%rip)          // not present, read, supervisor
    jne a_fail
    tell 'B'

    // The rule wants page 1 once per request: the next attempt passes.
    site 2, 1
    mov VICTIM + 8, %rbx
    cmpq $1, faults(%rip)
    jne a_fail
    tell 'C'

    // REP MOVSQ out of a page that is away: exact progress, right bytes.
    site 1, 2
    mov $VICTIM, %esi
    mov $0x500000, %edi
    mov $16, %ecx
    rep movsq
    movq $0x1122334455667788, %rax
    cmp %rax, 0x500008
    jne a_fail
    cmpq $2, faults(%rip)
    jne a_fail
    tell 'D'

    // A store: reflected where the processor runs it, resolved where the host interprets it. It lands either way, once.
    movq $5, VICTIM + 16
    site 1, 3
    addq $1, VICTIM + 16
    cmpq $6, VICTIM + 16
    jne a_fail
    tell 'E'

    // Ring 3 reads it: a page fault from user mode.
    site 1, 4
    mov faults(%rip), %rax
    mov %rax, before(%rip)
    pushq $0x1b
    movabs $(AUSER + 0x2000), %rax
    push %rax
    pushq $0x2
    pushq $0x23
    movabs $AUSER, %rax
    push %rax
    iretq
back:
    movq $0x1122334455667788, %rax
    cmp %rax, %rbx
    jne a_fail
    mov before(%rip), %rax
    inc %rax
    cmp %rax, faults(%rip)
    jne a_fail
    cmpq $4, last_error(%rip)          // user, read, not present
    jne a_fail
    movabs $(AUSER + 0x3008), %rax
    cmp %rax, last_gva(%rip)
    jne a_fail
    tell 'F'

    // A page that is armed and never touched.
    site 1, 5
    tell 'G'
    mov $0xf4, %edx
    mov $7, %eax
    out %eax, %dx
a_fail:
    tell '!'
    mov $0xf4, %edx
    mov faults(%rip), %eax
    add $100, %eax
    out %eax, %dx
    hlt

gate:
    mov %ax, (%rdi)
    movw $8, 2(%rdi)
    movw $0xee00, 4(%rdi)
    shr $16, %rax
    mov %ax, 6(%rdi)
    shr $16, %rax
    mov %eax, 8(%rdi)
    ret

on_breakpoint:
    lea a_stack_top(%rip), %rsp
    jmp back

// Reads the trap record, gives it back, asks for the page, returns to the access.
on_page_fault:
    push %rax
    push %rdi
    mov $RECORDS, %edi
    cmpl $-1, (%rdi)
    jne a_fail
    incq faults(%rip)
    mov 16(%rdi), %rax
    mov %rax, last_gpa(%rip)
    mov 24(%rdi), %rax
    mov %rax, last_gva(%rip)
    mov %cr2, %rdi
    cmp %rax, %rdi
    jne a_fail
    mov 16(%rsp), %rax
    mov %rax, last_error(%rip)
    mov $RECORDS, %edi
    movl $0, (%rdi)
    mov last_gpa(%rip), %rax
    mov %rax, 0x40(%r14)               // PAGE_BACK
    pop %rdi
    pop %rax
    add $8, %rsp
    iretq

.balign 16
a_gdtr: .word 0x37
        .quad a_gdt - micro_away + ABASE
a_idtr: .word 16 * 16 - 1
        .quad 0
.balign 16
a_gdt:  .quad 0
        .quad 0x00af9b000000ffff
        .quad 0x00cf93000000ffff
        .quad 0x00cff3000000ffff
        .quad 0x00affb000000ffff
a_gdt_tss: .quad 0x0000890000000067
        .quad 0
a_tss:  .fill 104, 1, 0
.balign 8
faults:     .quad 0
before:     .quad 0
last_gpa:   .quad 0
last_gva:   .quad 0
last_error: .quad 0
.balign 16
a_idt:  .fill 16 * 16, 1, 0

.balign 4096
a_pml4: .quad a_pdpt - micro_away + ABASE + 3
        .quad a_pdpt_user - micro_away + ABASE + 7
        .fill 510, 8, 0
a_pdpt: .quad a_pd - micro_away + ABASE + 3
        .quad 0
        .quad 0
        .quad a_pd_devices - micro_away + ABASE + 3
        .fill 508, 8, 0
a_pd:   .set at, 0
        .rept 8
        .quad at + 0x83
        .set at, at + 0x200000
        .endr
        .fill 504, 8, 0
a_pd_devices:
        .fill 128, 8, 0
        .quad 0xd0000000 + 0x9b
        .fill 383, 8, 0
a_pdpt_user:
        .quad a_pd_user - micro_away + ABASE + 7
        .fill 511, 8, 0
a_pd_user:
        .quad a_pt_user - micro_away + ABASE + 7
        .fill 511, 8, 0
a_pt_user:
        .quad a_user_code - micro_away + ABASE + 5
        .quad a_user_stack - micro_away + ABASE + 7
        .quad 0
        .quad VICTIM + 7
        .fill 508, 8, 0
.balign 4096
a_user_code:
        movabs $(AUSER + 0x3008), %rax
        mov (%rax), %rbx
        int3
.balign 4096
a_user_stack: .fill 4096, 1, 0
        .fill 8192, 1, 0
a_stack_top:
.globl micro_away_end
micro_away_end:
.text
