# Moving bytes: the copy whose faults are expected, and the routines the compiler calls.

.section .text.copy, "ax"

# copy_bytes(to: rdi, from: rsi, bytes: rdx) -> bytes moved. Neither range crosses a page, bytes is not 0.
# The first access to each page is a plain load: where ring 0 is interpreted, a trap at the second stage can be
# turned into a #PF only at such an instruction. A fault between copy_begin and copy_end continues at copy_out with
# the registers of the fault; a repeated move leaves rdi exactly behind the last byte stored.
.globl copy_bytes, copy_begin, copy_end, copy_out
copy_bytes:
    mov r8, rdi
copy_begin:
    mov al, [rsi]
    mov al, [rdi]
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov ecx, edx
    and ecx, 7
    rep movsb
copy_end:
copy_out:
    mov rax, rdi
    sub rax, r8
    ret

# fill_bytes(to: rdi, byte: rsi, bytes: rdx) -> bytes stored, in the same way.
.globl fill_bytes, fill_begin, fill_end, fill_out
fill_bytes:
    mov r8, rdi
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
    mov rcx, rdx
    shr rcx, 3
fill_begin:
    mov sil, [rdi]
    rep stosq
    mov ecx, edx
    and ecx, 7
    rep stosb
fill_end:
fill_out:
    mov rax, rdi
    sub rax, r8
    ret

.globl memcpy
memcpy:
    mov rax, rdi
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov ecx, edx
    and ecx, 7
    rep movsb
    ret

.globl memmove
memmove:
    mov rax, rdi
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jae memcpy
    mov rcx, rdx
    lea rdi, [rdi + rdx - 1]
    lea rsi, [rsi + rdx - 1]
    std
    rep movsb
    cld
    ret

.globl memset
memset:
    mov r8, rdi
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
    mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov ecx, edx
    and ecx, 7
    rep stosb
    mov rax, r8
    ret

.globl memcmp, bcmp
memcmp:
bcmp:
    mov rcx, rdx
    xor eax, eax
    test rcx, rcx
    jz 1f
    repe cmpsb
    je 1f
    movzx eax, byte ptr [rdi - 1]
    movzx ecx, byte ptr [rsi - 1]
    sub eax, ecx
1:  ret
