//! What memory the stopped instruction uses.
//!
//! A trap gives a guest *physical* page. To reflect it the guest needs the *virtual* address and whether it was a
//! read or a write, which hardware would have known. So the instruction is decoded as far as its memory operands
//! go; the caller then checks each candidate against the page by a walk of the guest's page tables.
//!
//! `iced-x86` knows the instructions. This file adds what it leaves to its user: the values of the registers, the
//! bit a BT names far from its operand, and whether an instruction may be repeated.
//!
//! The one thing to hold in mind: bytes and registers are the guest's and may be anything. What is not understood
//! gives no operand, and is then resolved instead of reflected. 64-bit mode only. Pure: bytes and registers in,
//! operands out.

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, Instruction, InstructionInfo, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register, UsedMemory,
};
use kvm_bindings::kvm_regs;

/// Longest instruction of the architecture, in bytes.
pub const MAX_LENGTH: usize = 15;

/// Direction flag: string instructions go down.
const RFLAGS_DF: u64 = 1 << 10;

/// Extensions whose instructions have no effects but on memory, general registers and flags. Whatever is not here
/// (vectors, x87, state saving, work queues) keeps state that putting the general registers back does not undo.
const INTEGER: [CpuidFeature; 12] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::POPCNT,
    CpuidFeature::LZCNT,
    CpuidFeature::MOVBE,
    CpuidFeature::BMI1,
    CpuidFeature::BMI2,
];

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
    /// Its length in bytes, at least 1; of a repeated string instruction, that of one iteration.
    pub size: u64,
    /// How it is used.
    pub usage: Use,
}

/// Memory operands of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operands {
    /// At most two: a string move has a source and a destination. Of more (IRETQ reads five words), the first and
    /// the last.
    pub list: [Option<Operand>; 2],
    /// Whether the instruction may be executed once too often, registers put back in between, without anybody
    /// noticing: its effects are on memory, general registers and flags only, and it writes nothing that it reads.
    /// Different virtual addresses count as different memory, and all memory as RAM.
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

/// Memory operands of the instruction that starts `code`; `None` if it is not understood. One that is understood and names no memory
/// has none in its list: what stops such an instruction is the processor's own doing.
pub fn operands(code: &[u8], regs: &kvm_regs, bases: SegmentBases) -> Option<Operands> {
    let instruction = Decoder::with_ip(64, code, regs.rip, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    let mut all = Vec::with_capacity(2);
    for memory in info.used_memory() {
        let Some(usage) = usage(memory.access()) else { continue };
        let memory = with_bit_offset(&instruction, memory, regs);
        // An operand that cannot be computed (a gather's vector of addresses) makes the whole not understood.
        let gva = memory.virtual_address(0, |register, _, _| value(register, regs, bases))?;
        // The library gives a repeated string instruction's operands no size, because it knows no count.
        let size = if instruction.is_string_instruction() {
            instruction.memory_size()
        } else {
            memory.memory_size()
        };
        all.push(Operand { gva, size: u64::try_from(size.size()).ok()?.max(1), usage });
    }
    // The order of the accesses: an instruction writes what it has read.
    all.sort_by_key(|operand| operand.usage == Use::Write);
    let Some(first) = all.first().copied() else {
        return Some(Operands { list: [None; 2], repeatable: false });
    };
    let last = all.last().copied().filter(|_| all.len() > 1);
    Some(Operands { list: [Some(first), last], repeatable: repeatable(&instruction, info, &all, regs) })
}

fn usage(access: OpAccess) -> Option<Use> {
    match access {
        OpAccess::Read | OpAccess::CondRead => Some(Use::Read),
        OpAccess::Write | OpAccess::CondWrite => Some(Use::Write),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => Some(Use::Update),
        OpAccess::None | OpAccess::NoMemAccess => None,
    }
}

/// BT and its kin with the bit's number in a register reach beyond their operand, by whole operands, both ways.
fn with_bit_offset(instruction: &Instruction, memory: &UsedMemory, regs: &kvm_regs) -> UsedMemory {
    let bit_test =
        matches!(instruction.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc);
    if !bit_test || instruction.op1_kind() != OpKind::Register {
        return *memory;
    }
    let number = general(instruction.op1_register(), regs).unwrap_or(0);
    let offset = match memory.memory_size().size() {
        2 => i64::from(number as i16) >> 4 << 1,
        4 => i64::from(number as i32) >> 5 << 2,
        _ => number as i64 >> 6 << 3,
    };
    UsedMemory::new2(
        memory.segment(),
        memory.base(),
        memory.index(),
        memory.scale(),
        memory.displacement().wrapping_add_signed(offset),
        memory.memory_size(),
        memory.access(),
        memory.address_size(),
        memory.vsib_size(),
    )
}

/// See [`Operands::repeatable`].
fn repeatable(instruction: &Instruction, info: &InstructionInfo, all: &[Operand], regs: &kvm_regs) -> bool {
    let integer = instruction.cpuid_features().iter().all(|feature| INTEGER.contains(feature));
    let general_only = info.used_registers().iter().all(|used| {
        used.register().is_gpr() || !matches!(usage(used.access()), Some(Use::Write | Use::Update))
    });
    // Far transfers change CS, which the library does not list everywhere.
    let far = instruction.is_call_far_indirect()
        || instruction.is_jmp_far_indirect()
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Retf | Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq
        );
    if !integer || !general_only || far || instruction.is_privileged() {
        return false;
    }
    let spans = || all.iter().map(|operand| (operand.usage, span(instruction, operand, regs)));
    spans().all(|(usage, _)| usage != Use::Update)
        && spans().filter(|(usage, _)| *usage == Use::Write).all(|(_, written)| {
            spans().filter(|(usage, _)| *usage == Use::Read).all(|(_, read)| !overlap(read, written))
        })
}

/// Start and length of what an operand covers, with all iterations that are still to come.
fn span(instruction: &Instruction, operand: &Operand, regs: &kvm_regs) -> (u64, u64) {
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    if !instruction.is_string_instruction() || !repeated {
        return (operand.gva, operand.size);
    }
    let narrow =
        instruction.op_kinds().any(|kind| matches!(kind, OpKind::MemorySegESI | OpKind::MemoryESEDI));
    let count = if narrow { regs.rcx & 0xffff_ffff } else { regs.rcx };
    let len = count.saturating_mul(operand.size);
    match regs.rflags & RFLAGS_DF {
        0 => (operand.gva, len),
        _ => (operand.gva.wrapping_add(operand.size).wrapping_sub(len), len),
    }
}

/// Whether two ranges share a byte; they may wrap around the end of the address space.
fn overlap((a, a_len): (u64, u64), (b, b_len): (u64, u64)) -> bool {
    b.wrapping_sub(a) < a_len || a.wrapping_sub(b) < b_len
}

/// The value that counts in an address: a register's, a segment's base.
fn value(register: Register, regs: &kvm_regs, bases: SegmentBases) -> Option<u64> {
    match register {
        Register::FS => Some(bases.fs),
        Register::GS => Some(bases.gs),
        Register::CS | Register::DS | Register::ES | Register::SS => Some(0),
        _ => general(register, regs),
    }
}

fn general(register: Register, regs: &kvm_regs) -> Option<u64> {
    let full = match register.full_register() {
        Register::RAX => regs.rax,
        Register::RCX => regs.rcx,
        Register::RDX => regs.rdx,
        Register::RBX => regs.rbx,
        Register::RSP => regs.rsp,
        Register::RBP => regs.rbp,
        Register::RSI => regs.rsi,
        Register::RDI => regs.rdi,
        Register::R8 => regs.r8,
        Register::R9 => regs.r9,
        Register::R10 => regs.r10,
        Register::R11 => regs.r11,
        Register::R12 => regs.r12,
        Register::R13 => regs.r13,
        Register::R14 => regs.r14,
        Register::R15 => regs.r15,
        _ => return None,
    };
    match register.size() {
        8 => Some(full),
        4 => Some(full & 0xffff_ffff),
        2 => Some(full & 0xffff),
        // XLATB adds AL. No address uses AH and its like.
        1 => Some(full & 0xff),
        _ => None,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
