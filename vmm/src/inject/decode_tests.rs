//! Instructions as an assembler emits them, and the operands they must give.

use proptest::prelude::*;

use super::*;

const BASES: SegmentBases = SegmentBases { fs: 0xf_0000, gs: 0x10_0000 };

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

fn all_with(code: &[u8], regs: &kvm_regs) -> Operands {
    operands(code, regs, BASES).unwrap_or_else(|| panic!("{code:02x?} gave no operand"))
}

fn all(code: &[u8]) -> Operands {
    all_with(code, &regs())
}

fn only(code: &[u8]) -> (u64, Use, bool) {
    let found = all(code);
    assert_eq!(found.list[1], None);
    let operand = found.list[0].unwrap();
    (operand.gva, operand.usage, found.repeatable)
}

fn read(gva: u64, size: u64) -> Option<Operand> {
    Some(Operand { gva, size, usage: Use::Read })
}

fn write(gva: u64, size: u64) -> Option<Operand> {
    Some(Operand { gva, size, usage: Use::Write })
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
    assert_eq!(only(&[0x48, 0x03, 0x06]), (0x5000, Use::Read, true)); // add (%rsi),%rax
    assert_eq!(only(&[0x0f, 0x94, 0x07]), (0x6000, Use::Write, true)); // sete (%rdi)
    assert_eq!(only(&[0xf3, 0x48, 0x0f, 0xb8, 0x06]), (0x5000, Use::Read, true)); // popcnt (%rsi),%rax
}

#[test]
fn the_size_is_that_of_the_access() {
    assert_eq!(all(&[0x8a, 0x06]).list[0], read(0x5000, 1)); // mov (%rsi),%al
    assert_eq!(all(&[0x66, 0x89, 0x07]).list[0], write(0x6000, 2)); // mov %ax,(%rdi)
    assert_eq!(all(&[0x48, 0x63, 0x06]).list[0], read(0x5000, 4)); // movslq (%rsi),%rax
    assert_eq!(all(&[0x0f, 0x10, 0x06]).list[0], read(0x5000, 16)); // movups (%rsi),%xmm0
    assert_eq!(all(&[0xc5, 0xfc, 0x11, 0x07]).list[0], write(0x6000, 32)); // vmovups %ymm0,(%rdi)
    assert_eq!(all(&[0x62, 0xf1, 0x7c, 0x48, 0x11, 0x07]).list[0], write(0x6000, 64)); // vmovups %zmm0,(%rdi)
    assert_eq!(all(&[0x0f, 0xae, 0x07]).list[0], write(0x6000, 512)); // fxsave (%rdi)
}

#[test]
fn updates_must_not_happen_twice() {
    assert_eq!(only(&[0x01, 0x07]), (0x6000, Use::Update, false)); // add %eax,(%rdi)
    assert_eq!(only(&[0xf0, 0x48, 0x0f, 0xb1, 0x0f]), (0x6000, Use::Update, false)); // lock cmpxchg %rcx,(%rdi)
    assert_eq!(only(&[0xf0, 0x0f, 0xc7, 0x0f]), (0x6000, Use::Update, false)); // lock cmpxchg8b (%rdi)
    assert_eq!(only(&[0xf0, 0x48, 0x0f, 0xc1, 0x07]), (0x6000, Use::Update, false)); // lock xadd %rax,(%rdi)
    assert_eq!(only(&[0x48, 0xff, 0x07]), (0x6000, Use::Update, false)); // incq (%rdi)
    assert_eq!(only(&[0x87, 0x07]), (0x6000, Use::Update, false)); // xchg %eax,(%rdi)
    assert_eq!(only(&[0xf7, 0x17]), (0x6000, Use::Update, false)); // notl (%rdi)
    assert_eq!(only(&[0xd3, 0x27]), (0x6000, Use::Update, false)); // shl %cl,(%rdi)
    assert_eq!(only(&[0x0f, 0xba, 0x2f, 0x05]), (0x6000, Use::Update, false)); // btsl $5,(%rdi)
}

#[test]
fn addressing_forms() {
    assert_eq!(only(&[0x8b, 0x04, 0x8b]).0, 0xb000 + 3 * 4); // mov (%rbx,%rcx,4),%eax
    assert_eq!(only(&[0x41, 0x8b, 0x04, 0x24]).0, 0xc000); // mov (%r12),%eax
    assert_eq!(only(&[0x41, 0x8b, 0x45, 0x00]).0, 0xd000); // mov 0(%r13),%eax
    assert_eq!(only(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0]).0, 0x1000 + 7 + 0x10); // mov 0x10(%rip),%rax
    assert_eq!(only(&[0x48, 0xc7, 0x05, 0x10, 0, 0, 0, 1, 0, 0, 0]).0, 0x1000 + 11 + 0x10); // movq $1,0x10(%rip)
    assert_eq!(only(&[0x48, 0x8b, 0x05, 0xf0, 0xff, 0xff, 0xff]).0, 0x1000 + 7 - 0x10); // mov -0x10(%rip),%rax
    assert_eq!(only(&[0x65, 0x48, 0x8b, 0x03]).0, 0x10_b000); // mov %gs:(%rbx),%rax
    assert_eq!(only(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0]).0, 0xf_0028); // mov %fs:0x28,%rax
    assert_eq!(only(&[0x3e, 0x48, 0x8b, 0x03]).0, 0xb000); // mov %ds:(%rbx),%rax
    assert_eq!(only(&[0x8b, 0x04, 0x25, 0x00, 0x70, 0, 0]).0, 0x7000); // mov 0x7000,%eax
    assert_eq!(only(&[0x8b, 0x83, 0x00, 0xf0, 0xff, 0xff]).0, 0xa000); // mov -0x1000(%rbx),%eax
    assert_eq!(only(&[0xa1, 8, 7, 6, 5, 4, 3, 2, 1]).0, 0x0102_0304_0506_0708); // movabs 0x..,%eax
    assert_eq!(only(&[0xd7]).0, 0xb000); // xlatb: %rbx + %al, which is 0
}

#[test]
fn narrow_addresses_wrap_before_the_segment_is_added() {
    let regs = kvm_regs { rbx: 0xffff_ffff_ffff_fff0, ..regs() };
    let found = all_with(&[0x65, 0x67, 0x8b, 0x43, 0x20], &regs); // mov %gs:0x20(%ebx),%eax
    assert_eq!(found.list[0], read(0x10_0010, 4));
}

#[test]
fn string_moves_have_two_operands() {
    let found = all(&[0xf3, 0x48, 0xa5]); // rep movsq
    assert_eq!(found.list, [read(0x5000, 8), write(0x6000, 8)]);
    assert!(found.repeatable);
    assert_eq!(all(&[0xf3, 0xa4]).list, [read(0x5000, 1), write(0x6000, 1)]); // rep movsb
    assert_eq!(all(&[0xa5]).list, [read(0x5000, 4), write(0x6000, 4)]); // movsl
    assert_eq!(all(&[0x65, 0xa4]).list, [read(0x10_5000, 1), write(0x6000, 1)]); // movsb %gs:(%rsi),(%rdi)
    assert_eq!(all(&[0xf3, 0xa6]).list, [read(0x5000, 1), read(0x6000, 1)]); // repe cmpsb
    assert_eq!(only(&[0xf3, 0xaa]), (0x6000, Use::Write, true)); // rep stosb
    assert_eq!(all(&[0xf3, 0x48, 0xab]).list[0], write(0x6000, 8)); // rep stosq
    assert_eq!(only(&[0xac]), (0x5000, Use::Read, true)); // lodsb
    assert_eq!(only(&[0xf2, 0xae]), (0x6000, Use::Read, true)); // repne scasb
}

#[test]
fn going_down_the_next_access_is_still_at_the_registers() {
    let down = kvm_regs { rflags: RFLAGS_DF, ..regs() };
    assert_eq!(all_with(&[0xf3, 0x48, 0xa5], &down).list, [read(0x5000, 8), write(0x6000, 8)]);
    assert_eq!(all_with(&[0xf3, 0xa4], &down).list, [read(0x5000, 1), write(0x6000, 1)]);
    assert_eq!(all_with(&[0xf3, 0xaa], &down).list[0], write(0x6000, 1));
    assert_eq!(all_with(&[0xf3, 0x48, 0xab], &down).list[0], write(0x6000, 8));
}

#[test]
fn a_move_within_one_buffer_is_not_repeatable() {
    let movsq = [0xf3, 0x48, 0xa5];
    let at =
        |rsi, rdi, rcx, rflags| all_with(&movsq, &kvm_regs { rsi, rdi, rcx, rflags, ..regs() }).repeatable;
    assert!(at(0x5000, 0x5018, 3, 0)); // adjacent
    assert!(!at(0x5000, 0x5010, 3, 0));
    assert!(!at(0x5010, 0x5000, 3, 0)); // the direction that copies right, once
    assert!(at(0x5000, 0x4fe8, 3, 0));
    assert!(!at(0x5000, 0x4ff0, 3, RFLAGS_DF));
    assert!(at(0x5000, 0x4fe8, 3, RFLAGS_DF));
    assert!(!at(0x5000, 0x6000, u64::MAX, 0)); // what will be written is everything
    assert!(!at(u64::MAX - 7, 0, 2, 0)); // around the end of the address space
    assert!(at(0x5000, 0x5004, 0, 0)); // nothing is left to do
    let once = |rdi| all_with(&movsq[1..], &kvm_regs { rdi, rcx: u64::MAX, ..regs() }).repeatable;
    assert!(once(0x5008) && !once(0x5004));
    let narrow = kvm_regs { rcx: 0xffff_0000_0000_0001, ..regs() };
    assert!(all_with(&[0xf3, 0x67, 0xa4], &narrow).repeatable); // %ecx counts
    assert!(!all_with(&[0xf3, 0xa4], &narrow).repeatable);
}

#[test]
fn the_stack_is_memory_too() {
    assert_eq!(only(&[0x55]), (0x7ff8, Use::Write, true)); // push %rbp
    assert_eq!(only(&[0x41, 0x5c]), (0x8000, Use::Read, true)); // pop %r12
    assert_eq!(only(&[0xe8, 0, 0, 0, 0]), (0x7ff8, Use::Write, true)); // call
    assert_eq!(only(&[0xc3]), (0x8000, Use::Read, true)); // ret
    assert_eq!(only(&[0xc9]), (0x9000, Use::Read, true)); // leave
    assert_eq!(only(&[0x9d]).0, 0x8000); // popf
    let call = all(&[0xff, 0x53, 0x08]); // call *8(%rbx)
    assert_eq!((call.list, call.repeatable), ([read(0xb008, 8), write(0x7ff8, 8)], true));
    let push = all(&[0xff, 0x36]); // push (%rsi)
    assert_eq!((push.list, push.repeatable), ([read(0x5000, 8), write(0x7ff8, 8)], true));
    assert!(!all(&[0xff, 0x54, 0x24, 0xf8]).repeatable); // call *-8(%rsp) overwrites its own target
    let pop = all(&[0x8f, 0x44, 0x24, 0x10]); // pop 0x10(%rsp): %rsp counts as after the pop
    assert_eq!(pop.list, [read(0x8000, 8), write(0x8018, 8)]);
    let iretq = all(&[0x48, 0xcf]);
    assert_eq!(iretq.list, [read(0x8000, 8), read(0x8020, 8)]);
    assert!(!iretq.repeatable); // opens the gate for NMIs
}

#[test]
fn a_bit_may_be_far_from_its_operand() {
    let at = |code: &[u8], rcx| all_with(code, &kvm_regs { rcx, ..regs() }).list[0];
    let bt = [0x48, 0x0f, 0xa3, 0x0f]; // bt %rcx,(%rdi)
    assert_eq!(at(&bt, 63), read(0x6000, 8));
    assert_eq!(at(&bt, 64), read(0x6008, 8));
    assert_eq!(at(&bt, 0x8000 * 8), read(0x6000 + 0x8000, 8));
    assert_eq!(at(&bt, u64::MAX), read(0x6000 - 8, 8));
    assert_eq!(at(&bt[1..], 0x1_0000_0020), read(0x6004, 4)); // bt %ecx,(%rdi)
    assert_eq!(at(&bt[1..], 0xffff_ffff), read(0x6000 - 4, 4));
    assert_eq!(at(&[0x66, 0x0f, 0xa3, 0x0f], 0x8_8000), read(0x6000 - 0x1000, 2)); // bt %cx,(%rdi)
    let bts = all_with(&[0xf0, 0x48, 0x0f, 0xab, 0x0f], &kvm_regs { rcx: 0x1000 * 8, ..regs() });
    assert_eq!(bts.list[0], Some(Operand { gva: 0x7000, size: 8, usage: Use::Update }));
    assert!(!bts.repeatable);
    assert_eq!(only(&[0x48, 0x0f, 0xba, 0x27, 0xff]).0, 0x6000); // btq $255,(%rdi) stays inside
}

#[test]
fn effects_elsewhere_are_not_repeatable() {
    let examples: [(&str, &[u8]); 14] = [
        ("flds (%rsi)", &[0xd9, 0x06]),
        ("fstpl (%rsi)", &[0xdd, 0x1e]),
        ("fnstenv (%rsi)", &[0xd9, 0x36]),
        ("fnsave (%rsi)", &[0xdd, 0x36]),
        ("addps (%rsi),%xmm0", &[0x0f, 0x58, 0x06]),
        ("insb", &[0x6c]),
        ("outsb", &[0x6e]),
        ("ltr (%rsi)", &[0x0f, 0x00, 0x1e]),
        ("mov (%rsi),%ds", &[0x8e, 0x1e]),
        ("lret", &[0xcb]),
        ("lcall *(%rsi)", &[0xff, 0x1e]),
        ("ljmp *(%rsi)", &[0xff, 0x2e]),
        ("xsave (%rsi)", &[0x0f, 0xae, 0x26]),
        ("ptwriteq (%rsi)", &[0xf3, 0x48, 0x0f, 0xae, 0x26]),
    ];
    for (name, code) in examples {
        assert!(!all(code).repeatable, "{name}");
    }
}

#[test]
fn what_names_no_memory_is_understood_all_the_same() {
    let examples: [(&str, &[u8]); 7] = [
        ("mov %rcx,%rax", &[0x48, 0x89, 0xc8]),
        ("lea (%rsi),%rax", &[0x48, 0x8d, 0x06]),
        ("nopl (%rsi)", &[0x0f, 0x1f, 0x06]),
        ("prefetcht0 (%rsi)", &[0x0f, 0x18, 0x0e]),
        ("invlpg (%rsi)", &[0x0f, 0x01, 0x3e]),
        ("jmp", &[0xeb, 0x00]),
        ("ud2", &[0x0f, 0x0b]),
    ];
    for (name, code) in examples {
        let found = operands(code, &regs(), BASES);
        assert_eq!(found, Some(Operands { list: [None, None], repeatable: false }), "{name}");
    }
    let gather = [0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x0e]; // vpgatherdd %ymm2,(%rsi,%ymm1),%ymm0
    assert_eq!(operands(&gather, &regs(), BASES), None);
}

#[test]
fn a_truncated_instruction_is_not_understood() {
    let movq = [0x48, 0xc7, 0x05, 0x10, 0, 0, 0, 1, 0, 0, 0]; // movq $1,0x10(%rip)
    for len in 0..movq.len() {
        assert_eq!(operands(&movq[..len], &regs(), BASES), None, "{len} bytes");
    }
    assert_eq!(operands(&[0x66; MAX_LENGTH], &regs(), BASES), None);
}

#[test]
fn every_opcode_is_survived() {
    for first in 0..=255_u8 {
        for second in 0..=255_u8 {
            for prefix in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x48], &[0xf3, 0x0f], &[0xc5], &[0x62, 0xf1]] {
                let code = [prefix, &[first, second, 0x84, 0x25, 1, 2, 3, 4, 5, 6]].concat();
                for length in [1, 2, 3, 4, code.len()] {
                    let _ = operands(code.get(..length).unwrap(), &regs(), BASES);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_survived(code in prop::collection::vec(any::<u8>(), 0..=20), r in any::<[u64; 10]>(), bases in any::<[u64; 2]>()) {
        let [rip, rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, rflags] = r;
        let regs = kvm_regs { rip, rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, rflags, ..Default::default() };
        if let Some(found) = operands(&code, &regs, SegmentBases { fs: bases[0], gs: bases[1] }) {
            prop_assert!(found.list[0].is_some() || found.list[1].is_none() && !found.repeatable);
            prop_assert!(found.list.iter().flatten().all(|o| (1..=4096).contains(&o.size)));
            let updates = found.list.iter().flatten().any(|o| o.usage == Use::Update);
            prop_assert!(!(updates && found.repeatable));
        }
    }

    #[test]
    fn a_prefix_of_an_instruction_is_no_other_instruction(code in prop::collection::vec(any::<u8>(), MAX_LENGTH)) {
        // Growing the code by a byte at a time, the answer changes at most once: from none to the instruction's.
        let answers: Vec<_> = (0..=code.len()).map(|len| operands(&code[..len], &regs(), BASES)).collect();
        let whole = answers[code.len()];
        let first = answers.iter().position(Option::is_some).unwrap_or(answers.len());
        prop_assert!(answers[first..].iter().all(|answer| *answer == whole));
    }

    #[test]
    fn loads_and_stores_of_any_register_and_displacement(base in 0_usize..16, displacement in any::<i32>(), at in any::<u64>(), store in any::<bool>()) {
        let mut values = [0; 16];
        values[base] = at;
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = values;
        let regs = kvm_regs { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, ..Default::default() };
        let low = (base & 7) as u8;
        let mut code = vec![0x48 | (base >> 3) as u8, if store { 0x89 } else { 0x8b }, 0x80 | low];
        if low == 4 {
            code.push(0x24); // %rsp and %r12 need a SIB byte
        }
        code.extend(displacement.to_le_bytes());
        let gva = at.wrapping_add_signed(i64::from(displacement));
        let found = all_with(&code, &regs);
        prop_assert_eq!(found.list, [if store { write(gva, 8) } else { read(gva, 8) }, None]);
        prop_assert!(found.repeatable);
    }
}
