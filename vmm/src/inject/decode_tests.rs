//! Instructions as an assembler emits them, and the operands they must give.

use super::*;

fn regs() -> kvm_regs {
    kvm_regs {
        rip: 0x1000,
        rax: 0xa000,
        rbx: 0xb000,
        rcx: 0x3,
        rsi: 0x5000,
        rdi: 0x6000,
        rsp: 0x8000,
        rbp: 0x9000,
        r12: 0xc000,
        r13: 0xd000,
        ..Default::default()
    }
}

fn only(code: &[u8]) -> (u64, Use, bool) {
    let found = operands(code, &regs(), SegmentBases { fs: 0xf_0000, gs: 0x10_0000 }).unwrap();
    assert_eq!(found.list[1], None);
    let operand = found.list[0].unwrap();
    (operand.gva, operand.usage, found.repeatable)
}

#[test]
fn loads_and_stores() {
    assert_eq!(only(&[0x8a, 0x06]), (0x5000, Use::Read, true)); // mov (%rsi),%al
    assert_eq!(only(&[0x48, 0x8b, 0x43, 0x08]), (0xb008, Use::Read, true)); // mov 8(%rbx),%rax
    assert_eq!(only(&[0x48, 0x89, 0x07]), (0x6000, Use::Write, true)); // mov %rax,(%rdi)
    assert_eq!(only(&[0xc6, 0x45, 0xff, 0x01]), (0x8fff, Use::Write, true)); // movb $1,-1(%rbp)
    assert_eq!(only(&[0x0f, 0xb6, 0x07]), (0x6000, Use::Read, true)); // movzbl (%rdi),%eax
    assert_eq!(only(&[0x80, 0x3e, 0x00]), (0x5000, Use::Read, true)); // cmpb $0,(%rsi)
    assert_eq!(only(&[0xf6, 0x06, 0x01]), (0x5000, Use::Read, true)); // testb $1,(%rsi)
}

#[test]
fn updates_must_not_happen_twice() {
    assert_eq!(only(&[0x01, 0x07]), (0x6000, Use::Update, false)); // add %eax,(%rdi)
    assert_eq!(only(&[0xf0, 0x48, 0x0f, 0xb1, 0x0f]), (0x6000, Use::Update, false)); // lock cmpxchg %rcx,(%rdi)
    assert_eq!(only(&[0x48, 0xff, 0x07]), (0x6000, Use::Update, false)); // incq (%rdi)
    assert_eq!(only(&[0x87, 0x07]), (0x6000, Use::Update, false)); // xchg %eax,(%rdi)
    assert_eq!(only(&[0xf7, 0x17]), (0x6000, Use::Update, false)); // notl (%rdi)
}

#[test]
fn addressing_forms() {
    assert_eq!(only(&[0x8b, 0x04, 0x8b]).0, 0xb000 + 3 * 4); // mov (%rbx,%rcx,4),%eax
    assert_eq!(only(&[0x41, 0x8b, 0x04, 0x24]).0, 0xc000); // mov (%r12),%eax
    assert_eq!(only(&[0x41, 0x8b, 0x45, 0x00]).0, 0xd000); // mov 0(%r13),%eax
    assert_eq!(only(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0]).0, 0x1000 + 7 + 0x10); // mov 0x10(%rip),%rax
    assert_eq!(only(&[0x48, 0xc7, 0x05, 0x10, 0, 0, 0, 1, 0, 0, 0]).0, 0x1000 + 11 + 0x10); // movq $1,0x10(%rip)
    assert_eq!(only(&[0x65, 0x48, 0x8b, 0x03]).0, 0x10_b000); // mov %gs:(%rbx),%rax
    assert_eq!(only(&[0x8b, 0x04, 0x25, 0x00, 0x70, 0, 0]).0, 0x7000); // mov 0x7000,%eax
    assert_eq!(only(&[0x8b, 0x83, 0x00, 0xf0, 0xff, 0xff]).0, 0xa000); // mov -0x1000(%rbx),%eax
}

#[test]
fn string_moves_have_two_operands() {
    let found = operands(&[0xf3, 0x48, 0xa5], &regs(), SegmentBases::default()).unwrap(); // rep movsq
    assert_eq!(found.list[0], Some(Operand { gva: 0x5000, usage: Use::Read }));
    assert_eq!(found.list[1], Some(Operand { gva: 0x6000, usage: Use::Write }));
    assert!(found.repeatable);
    assert_eq!(only(&[0xf3, 0xaa]), (0x6000, Use::Write, true)); // rep stosb
}

#[test]
fn the_stack_is_memory_too() {
    assert_eq!(only(&[0x55]), (0x7ff8, Use::Write, true)); // push %rbp
    assert_eq!(only(&[0xc3]), (0x8000, Use::Read, true)); // ret
}

#[test]
fn no_operand_no_answer_and_no_panic() {
    assert_eq!(operands(&[0x48, 0x89, 0xc8], &regs(), SegmentBases::default()), None); // mov %rcx,%rax
    assert_eq!(operands(&[], &regs(), SegmentBases::default()), None);
    for first in 0..=255_u8 {
        for second in 0..=255_u8 {
            for length in 1..=4 {
                let code = [first, second, 0x84, 0x25];
                let _ = operands(&code[..length], &regs(), SegmentBases::default());
            }
        }
    }
}
