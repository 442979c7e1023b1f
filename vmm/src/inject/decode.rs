//! What memory the stopped instruction uses.
//!
//! A trap gives a guest *physical* page. To reflect it the guest needs the *virtual* address and whether it was a
//! read or a write, which hardware would have known. So the instruction is decoded as far as its memory operands
//! go; the caller then checks each candidate against the page by a walk of the guest's page tables.
//!
//! 64-bit mode only, and only the forms that kernels and compiled code use; anything else gives no operand and is
//! then resolved instead of reflected. Pure: bytes and registers in, operands out.

use kvm_bindings::kvm_regs;

/// Longest instruction of the architecture, in bytes.
pub const MAX_LENGTH: usize = 15;

/// How an operand is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Only read.
    Read,
    /// Only written.
    Write,
    /// Read, then written.
    Update,
}

/// One memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// Virtual address of its first byte.
    pub gva: u64,
    /// How it is used.
    pub usage: Use,
}

/// Memory operands of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operands {
    /// At most two: a string move has a source and a destination.
    pub list: [Option<Operand>; 2],
    /// Whether the instruction may be executed once too often without anybody noticing: it writes no memory, or
    /// only what it would write again.
    pub repeatable: bool,
}

/// Segment bases that 64-bit mode still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentBases {
    /// FS.
    pub fs: u64,
    /// GS.
    pub gs: u64,
}

/// Memory operands of the instruction that starts `code`.
pub fn operands(code: &[u8], regs: &kvm_regs, bases: SegmentBases) -> Option<Operands> {
    let mut cursor = Cursor { code, at: 0, prefix: Prefixes::default() };
    cursor.prefixes(bases)?;
    let opcode = cursor.byte()?;
    match opcode {
        0x0f => two_byte(&mut cursor, regs),
        _ => one_byte(&mut cursor, opcode, regs),
    }
}

#[derive(Default)]
struct Prefixes {
    rex: u8,
    segment: u64,
    address32: bool,
    operand16: bool,
}

struct Cursor<'a> {
    code: &'a [u8],
    at: usize,
    prefix: Prefixes,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.code.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn i32(&mut self) -> Option<i32> {
        let bytes = self.code.get(self.at..)?.get(..4)?;
        self.at += 4;
        Some(i32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn prefixes(&mut self, bases: SegmentBases) -> Option<()> {
        loop {
            match *self.code.get(self.at)? {
                0x26 | 0x2e | 0x36 | 0x3e | 0xf0 | 0xf2 | 0xf3 => {}
                0x64 => self.prefix.segment = bases.fs,
                0x65 => self.prefix.segment = bases.gs,
                0x66 => self.prefix.operand16 = true,
                0x67 => self.prefix.address32 = true,
                rex @ 0x40..=0x4f => {
                    self.at += 1;
                    self.prefix.rex = rex;
                    return Some(());
                }
                _ => return Some(()),
            }
            self.at += 1;
        }
    }

    /// Reads ModRM and what belongs to it: the reg field, and the address if the operand is in memory.
    /// `immediate` bytes follow the operand; RIP-relative addresses count from behind them.
    fn modrm(&mut self, regs: &kvm_regs, immediate: u64) -> Option<(u8, Option<u64>)> {
        let modrm = self.byte()?;
        let (mode, field, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        if mode == 3 {
            return Some((field, None));
        }
        let mut base = match (mode, rm) {
            (_, 4) => self.sib(regs, mode)?,
            (0, 5) => {
                let displacement = self.i32()?;
                let end = regs.rip.wrapping_add(self.at as u64).wrapping_add(immediate);
                end.wrapping_add_signed(i64::from(displacement))
            }
            _ => register(regs, rm | (self.prefix.rex & 1) << 3),
        };
        match mode {
            1 => base = base.wrapping_add_signed(i64::from(self.byte()? as i8)),
            2 => base = base.wrapping_add_signed(i64::from(self.i32()?)),
            _ => {}
        }
        if self.prefix.address32 {
            base &= 0xffff_ffff;
        }
        Some((field, Some(base.wrapping_add(self.prefix.segment))))
    }

    fn sib(&mut self, regs: &kvm_regs, mode: u8) -> Option<u64> {
        let sib = self.byte()?;
        let rex = self.prefix.rex;
        let (scale, index, base) = (sib >> 6, sib >> 3 & 7 | (rex & 2) << 2, sib & 7);
        let start = match (base, mode) {
            (5, 0) => self.i32()? as i64 as u64,
            _ => register(regs, base | (rex & 1) << 3),
        };
        let offset = if index == 4 { 0 } else { register(regs, index) << scale };
        Some(start.wrapping_add(offset))
    }
}

fn one_byte(cursor: &mut Cursor<'_>, opcode: u8, regs: &kvm_regs) -> Option<Operands> {
    let full_immediate = if cursor.prefix.operand16 { 2 } else { 4 };
    match opcode {
        // The eight arithmetic operations; the last of them, CMP, writes nothing.
        0x00..=0x3f if opcode & 7 < 2 => {
            let usage = if opcode >> 3 == 7 { Use::Read } else { Use::Update };
            plain(cursor.modrm(regs, 0)?.1, usage)
        }
        0x00..=0x3f if opcode & 7 < 4 => plain(cursor.modrm(regs, 0)?.1, Use::Read),
        0x63 | 0x84 | 0x85 | 0x8a | 0x8b => plain(cursor.modrm(regs, 0)?.1, Use::Read),
        0x69 => plain(cursor.modrm(regs, full_immediate)?.1, Use::Read),
        0x6b => plain(cursor.modrm(regs, 1)?.1, Use::Read),
        0x80 | 0x81 | 0x83 => {
            let immediate = if opcode == 0x81 { full_immediate } else { 1 };
            let (field, address) = cursor.modrm(regs, immediate)?;
            plain(address, if field == 7 { Use::Read } else { Use::Update })
        }
        0x86 | 0x87 | 0xd0..=0xd3 => plain(cursor.modrm(regs, 0)?.1, Use::Update),
        0xc0 | 0xc1 => plain(cursor.modrm(regs, 1)?.1, Use::Update),
        0x88 | 0x89 => plain(cursor.modrm(regs, 0)?.1, Use::Write),
        0xc6 => plain(cursor.modrm(regs, 1)?.1, Use::Write),
        0xc7 => plain(cursor.modrm(regs, full_immediate)?.1, Use::Write),
        0xf6 | 0xf7 => group3(cursor, opcode, full_immediate, regs),
        0xfe | 0xff => group5(cursor, regs),
        0xa4..=0xa7 | 0xaa..=0xaf => string(cursor, opcode, regs),
        0x50..=0x57 | 0xe8 | 0x68 | 0x6a => stack(regs.rsp.wrapping_sub(8), Use::Write),
        0x58..=0x5f | 0xc2 | 0xc3 => stack(regs.rsp, Use::Read),
        0xc9 => stack(regs.rbp, Use::Read),
        _ => None,
    }
}

/// TEST, NOT, NEG, MUL, DIV: only NOT and NEG write memory, only TEST has an immediate.
fn group3(cursor: &mut Cursor<'_>, opcode: u8, full: u64, regs: &kvm_regs) -> Option<Operands> {
    let field = cursor.code.get(cursor.at)? >> 3 & 7;
    let immediate = match (field, opcode) {
        (0 | 1, 0xf6) => 1,
        (0 | 1, _) => full,
        _ => 0,
    };
    let usage = if matches!(field, 2 | 3) { Use::Update } else { Use::Read };
    plain(cursor.modrm(regs, immediate)?.1, usage)
}

/// INC, DEC, indirect CALL and JMP, PUSH from memory.
fn group5(cursor: &mut Cursor<'_>, regs: &kvm_regs) -> Option<Operands> {
    match cursor.modrm(regs, 0)? {
        (0 | 1, address) => plain(address, Use::Update),
        (4, address) => plain(address, Use::Read),
        (2 | 6, Some(gva)) => {
            let pushed = Operand { gva: regs.rsp.wrapping_sub(8), usage: Use::Write };
            let source = Operand { gva, usage: Use::Read };
            Some(Operands { list: [Some(source), Some(pushed)], repeatable: true })
        }
        _ => None,
    }
}

fn string(cursor: &Cursor<'_>, opcode: u8, regs: &kvm_regs) -> Option<Operands> {
    let source = Operand { gva: regs.rsi.wrapping_add(cursor.prefix.segment), usage: Use::Read };
    let at_destination = |usage| Operand { gva: regs.rdi, usage };
    let list = match opcode {
        0xa4 | 0xa5 => [Some(source), Some(at_destination(Use::Write))],
        0xa6 | 0xa7 => [Some(source), Some(at_destination(Use::Read))],
        0xaa | 0xab => [Some(at_destination(Use::Write)), None],
        0xac | 0xad => [Some(source), None],
        0xae | 0xaf => [Some(at_destination(Use::Read)), None],
        _ => return None,
    };
    Some(Operands { list, repeatable: true })
}

fn stack(gva: u64, usage: Use) -> Option<Operands> {
    Some(Operands { list: [Some(Operand { gva, usage }), None], repeatable: true })
}

fn two_byte(cursor: &mut Cursor<'_>, regs: &kvm_regs) -> Option<Operands> {
    match cursor.byte()? {
        // Moves to and from vector registers.
        0x10 | 0x12 | 0x16 | 0x28 | 0x6f | 0x6e => plain(cursor.modrm(regs, 0)?.1, Use::Read),
        0x11 | 0x13 | 0x17 | 0x29 | 0x2b | 0x7e | 0x7f | 0xc3 | 0xd6 | 0xe7 => {
            plain(cursor.modrm(regs, 0)?.1, Use::Write)
        }
        0x40..=0x4f | 0xa3 | 0xaf | 0xb6..=0xb8 | 0xbc..=0xbf => plain(cursor.modrm(regs, 0)?.1, Use::Read),
        0xa4 | 0xac => plain(cursor.modrm(regs, 1)?.1, Use::Update),
        0xa5 | 0xab | 0xad | 0xb0 | 0xb1 | 0xb3 | 0xbb | 0xc0 | 0xc1 | 0xc7 => {
            plain(cursor.modrm(regs, 0)?.1, Use::Update)
        }
        0xba => {
            let (field, address) = cursor.modrm(regs, 1)?;
            plain(address, if field == 4 { Use::Read } else { Use::Update })
        }
        0x90..=0x9f => plain(cursor.modrm(regs, 0)?.1, Use::Write),
        _ => None,
    }
}

fn plain(address: Option<u64>, usage: Use) -> Option<Operands> {
    let operand = Operand { gva: address?, usage };
    Some(Operands { list: [Some(operand), None], repeatable: usage != Use::Update })
}

fn register(regs: &kvm_regs, number: u8) -> u64 {
    match number & 15 {
        0 => regs.rax,
        1 => regs.rcx,
        2 => regs.rdx,
        3 => regs.rbx,
        4 => regs.rsp,
        5 => regs.rbp,
        6 => regs.rsi,
        7 => regs.rdi,
        8 => regs.r8,
        9 => regs.r9,
        10 => regs.r10,
        11 => regs.r11,
        12 => regs.r12,
        13 => regs.r13,
        14 => regs.r14,
        _ => regs.r15,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
