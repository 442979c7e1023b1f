# From the loader's 32-bit hand-over to Rust in the upper half. The page tables are constants of the image: one
# table of 2 MiB pages, seen at address 0 (until the jump) and at KERNEL.

.section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                      # name bytes, descriptor bytes, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start_physical

.section .data.pages, "aw"
    .balign 4096
.globl boot_pml4
boot_pml4:
    .quad boot_pdpt - 0xffffffff80000000 + 0x03
    .fill 255, 8, 0
    .quad direct_pdpt - 0xffffffff80000000 + 0x03
    .fill 254, 8, 0
    .quad boot_pdpt - 0xffffffff80000000 + 0x03
.globl boot_pdpt
boot_pdpt:
    .quad boot_pd - 0xffffffff80000000 + 0x03   # removed after the jump
    .fill 509, 8, 0
    .quad boot_pd - 0xffffffff80000000 + 0x03
    .quad device_pd - 0xffffffff80000000 + 0x03
.globl boot_pd
boot_pd:
    .quad 0x000081                      # text and constants: present, large, not writable
    .quad 0x200083
    .quad 0x400083
    .quad 0x600083
    .fill 508, 8, 0

.section .data
    .balign 8
.globl boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 08 kernel code, accessed
    .quad 0x00cf93000000ffff            # 10 kernel data
    .quad 0                             # 18 SYSRET's 32-bit code: there is none, or SYSCALL could come from there
    .quad 0x00cff3000000ffff            # 20 user data
    .quad 0x00affb000000ffff            # 28 user code
    .quad 0, 0                          # 30 task state: each processor has a copy of this table
    .word 0
.globl boot_gdtr, boot_long
boot_gdtr:
    .word 8 * 8 - 1
    .long boot_gdt - 0xffffffff80000000

.section .text.boot, "ax"
.code32
.globl pvh_start
pvh_start:
    cli
    cld
    mov esi, ebx                        # start information
    lgdt [boot_gdtr_physical]
    mov eax, 0x80000001
    cpuid
    mov edi, edx
    mov eax, 0x20                       # PAE
    mov cr4, eax
    mov eax, offset boot_pml4_physical
    mov cr3, eax
    mov ecx, 0xc0000080                 # EFER: long mode, SYSCALL, and no-execute if there
    rdmsr
    or eax, 0x101
    bt edi, 20
    jnc 1f
    or eax, 0x800
1:  wrmsr
    mov eax, 0x80010035                 # PG, WP, NE, ET, EM (no x87: no state to switch), PE
    mov cr0, eax
    .byte 0xea                          # far jump to 64-bit code
    .long boot_long_physical
    .word 0x08

.code64
boot_long:
    movabs rax, offset boot_high
    jmp rax
boot_high:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rsp, offset boot_stack_top
    xor ebp, ebp
    mov edi, esi
    call kernel_start
    ud2
