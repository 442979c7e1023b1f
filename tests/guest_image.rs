//! What the built-in guest is made of, read from the linked files: only there have inlining, the precompiled library
//! and the linker had their say.
//!
//! The kernel saves no vector, x87 or MMX registers, and a host that interprets ring 0 does not know every
//! instruction; so code that uses them must not be in it, however rarely it would run. Each executable section is
//! disassembled from symbol to symbol, and everything that cannot be decoded counts as a finding too.
//!
//! The one thing to hold in mind: a check that finds nothing must be seen to find something. The last tests plant
//! instructions, in snippets and in a copy of the real kernel.

use std::collections::BTreeSet;
use std::ops::Range;

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, Instruction, InstructionInfo, InstructionInfoFactory, Mnemonic,
    Register,
};
use object::elf::{PF_W, PF_X, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind};
use refault::guest_image::{BOOT_IMAGE, KERNEL};
use refault_abi::layout::{self, KERNEL_END, KERNEL_LOAD, LARGE_PAGE, PAGE};

type Elf<'a> = ElfFile64<'a, LittleEndian>;

/// Instructions that do not work in ring 0 on a host that interprets it, found by trying each one there; XSAVE stands
/// for its family. Those that name a vector register are found by the register.
const BROKEN_IN_RING_0: [Mnemonic; 26] = [
    Mnemonic::Cmpxchg16b,
    Mnemonic::Rdtscp,
    Mnemonic::Popcnt,
    Mnemonic::Crc32,
    Mnemonic::Clwb,
    Mnemonic::Verr,
    Mnemonic::Lsl,
    Mnemonic::Movbe,
    Mnemonic::Vmmcall,
    Mnemonic::Int,
    Mnemonic::Ldmxcsr,
    Mnemonic::Stmxcsr,
    Mnemonic::Vldmxcsr,
    Mnemonic::Vstmxcsr,
    Mnemonic::Xsave,
    Mnemonic::Xsave64,
    Mnemonic::Xsavec,
    Mnemonic::Xsavec64,
    Mnemonic::Xsaveopt,
    Mnemonic::Xsaveopt64,
    Mnemonic::Xsaves,
    Mnemonic::Xsaves64,
    Mnemonic::Xrstor,
    Mnemonic::Xrstor64,
    Mnemonic::Xrstors,
    Mnemonic::Xrstors64,
];

/// x87 and MMX, whose instructions need not name a register (FNINIT, EMMS).
const FLOATING: [CpuidFeature; 5] =
    [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387, CpuidFeature::MMX, CpuidFeature::D3NOW];

/// Where code runs.
#[derive(Clone, Copy, PartialEq)]
enum Ring {
    Kernel,
    User,
}

/// Code to look through.
struct Code<'a> {
    bytes: &'a [u8],
    /// Address of the first byte.
    address: u64,
    /// Address and name, in order of addresses.
    symbols: Vec<(u64, String)>,
    /// What of it is 32-bit code.
    narrow: Range<u64>,
    ring: Ring,
}

/// What was found, and how much was looked at.
#[derive(Default)]
struct Report {
    instructions: usize,
    bytes: usize,
    findings: Vec<String>,
}

impl Code<'_> {
    /// Looks at everything from each symbol to the next; a symbol starts an instruction.
    fn inspect(&self, report: &mut Report) {
        let end = self.address + self.bytes.len() as u64;
        let inside = self.symbols.iter().map(|(at, _)| *at).filter(|at| (self.address..end).contains(at));
        let starts: BTreeSet<u64> =
            inside.chain([self.address, self.narrow.start, self.narrow.end]).collect();
        let starts: Vec<u64> = starts.range(self.address..end).copied().chain([end]).collect();
        for pair in starts.windows(2) {
            self.inspect_range(pair[0]..pair[1], report);
        }
        report.bytes += self.bytes.len();
    }

    fn inspect_range(&self, range: Range<u64>, report: &mut Report) {
        let bitness = if self.narrow.contains(&range.start) { 32 } else { 64 };
        let bytes = &self.bytes[(range.start - self.address) as usize..(range.end - self.address) as usize];
        let mut factory = InstructionInfoFactory::new();
        for instruction in Decoder::with_ip(bitness, bytes, range.start, DecoderOptions::NONE).iter() {
            report.instructions += 1;
            if let Some(why) = objection(&instruction, factory.info(&instruction), self.ring) {
                let at = instruction.ip();
                report.findings.push(format!(
                    "{at:#x} in {}: {:?} {why}",
                    self.symbol(at),
                    instruction.code()
                ));
            }
        }
    }

    fn symbol(&self, address: u64) -> String {
        match self.symbols.iter().rev().find(|(at, _)| *at <= address) {
            Some((at, name)) => format!("{name}+{:#x}", address - at),
            None => "no symbol".into(),
        }
    }
}

/// What is wrong with an instruction, if anything.
fn objection(instruction: &Instruction, info: &InstructionInfo, ring: Ring) -> Option<&'static str> {
    let special = |r: Register| {
        r.is_vector_register() || r.is_mm() || r.is_st() || r.is_k() || r.is_tmm() || r.is_bnd()
    };
    if instruction.is_invalid() {
        Some("is no instruction")
    } else if info.used_registers().iter().any(|used| special(used.register())) {
        Some("uses a register that is not saved")
    } else if instruction.cpuid_features().iter().any(|feature| FLOATING.contains(feature)) {
        Some("belongs to x87 or MMX")
    } else if ring == Ring::Kernel && BROKEN_IN_RING_0.contains(&instruction.mnemonic()) {
        Some("is not known to a host that interprets ring 0")
    } else {
        None
    }
}

fn parse<'a>(name: &str, bytes: &'a [u8]) -> Elf<'a> {
    Elf::parse(bytes).unwrap_or_else(|why| panic!("{name} is not a 64-bit ELF file: {why}"))
}

fn symbols(elf: &Elf<'_>) -> Vec<(u64, String)> {
    let mut found: Vec<(u64, String)> = elf
        .symbols()
        .filter(|symbol| symbol.section_index().is_some())
        .map(|symbol| (symbol.address(), symbol.name().unwrap_or("?").to_owned()))
        .collect();
    found.sort();
    found
}

/// Looks through every executable section.
fn inspect(name: &str, bytes: &[u8], ring: Ring) -> Report {
    let elf = parse(name, bytes);
    let symbols = symbols(&elf);
    let narrow = if ring == Ring::Kernel { loaders_code(&elf, &symbols) } else { 0..0 };
    let mut report = Report::default();
    for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
        let bytes = section.data().unwrap();
        let (symbols, narrow) = (symbols.clone(), narrow.clone());
        Code { bytes, address: section.address(), symbols, narrow, ring }.inspect(&mut report);
    }
    report
}

/// The loader enters in 32-bit mode; from there to `boot_long` the code is 32-bit code.
fn loaders_code(elf: &Elf<'_>, symbols: &[(u64, String)]) -> Range<u64> {
    let long = symbols.iter().find(|(_, name)| name == "boot_long").expect("the symbol `boot_long`");
    pvh_entry(elf).expect("a PVH note") + layout::KERNEL..long.0
}

/// The physical entry point in the PVH note (Xen, type 18: XEN_ELFNOTE_PHYS32_ENTRY).
fn pvh_entry(elf: &Elf<'_>) -> Option<u64> {
    for header in elf.elf_program_headers() {
        let Some(mut notes) = header.notes(elf.endian(), elf.data()).unwrap() else { continue };
        while let Some(note) = notes.next().unwrap() {
            if note.name() == b"Xen" && note.n_type(elf.endian()).0 == 18 {
                let mut entry = [0; 8];
                entry[..note.desc().len()].copy_from_slice(note.desc());
                return Some(u64::from_le_bytes(entry));
            }
        }
    }
    None
}

/// A loadable segment.
#[derive(Debug, Clone, PartialEq)]
struct Segment {
    physical: Range<u64>,
    address: Range<u64>,
    offset: u64,
    write: bool,
    execute: bool,
}

fn segments(elf: &Elf<'_>) -> Vec<Segment> {
    let endian = elf.endian();
    let loadable = elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
    loadable
        .map(|header| {
            let (physical, address, len) =
                (header.p_paddr(endian), header.p_vaddr(endian), header.p_memsz(endian));
            let flags = header.p_flags(endian);
            Segment {
                physical: physical..physical + len,
                address: address..address + len,
                offset: header.p_offset(endian),
                write: flags.contains(PF_W),
                execute: flags.contains(PF_X),
            }
        })
        .collect()
}

/// A file in the boot image.
struct Member<'a> {
    name: String,
    /// Where its data begin in the archive.
    at: usize,
    data: &'a [u8],
}

/// The files of a cpio archive ("newc"), read by the format's description alone.
fn members(archive: &[u8]) -> Vec<Member<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let header = std::str::from_utf8(&archive[at..at + 110]).unwrap();
        assert!(header.starts_with("070701"), "a header of cpio's newc format at {at:#x}");
        let field = |n: usize| usize::from_str_radix(&header[6 + 8 * n..][..8], 16).unwrap();
        let (size, name_len) = (field(6), field(11));
        let name = archive[at + 110..][..name_len].split(|&byte| byte == 0).next().unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        if name == "TRAILER!!!" {
            return found;
        }
        let start = (at + 110 + name_len).next_multiple_of(4);
        found.push(Member { name, at: start, data: &archive[start..start + size] });
        at = (start + size).next_multiple_of(4);
    }
}

fn none(what: &str, report: &Report) {
    let findings = &report.findings;
    assert!(findings.is_empty(), "{what}, {} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn the_kernel_uses_nothing_that_ring_0_cannot() {
    let report = inspect("the kernel", KERNEL, Ring::Kernel);
    eprintln!("kernel: {} instructions in {} bytes", report.instructions, report.bytes);
    assert!(report.instructions > 1000, "only {} instructions were found", report.instructions);
    none("the kernel", &report);
}

#[test]
fn servers_and_programs_use_no_register_that_is_not_saved() {
    for member in members(BOOT_IMAGE) {
        let report = inspect(&member.name, member.data, Ring::User);
        eprintln!("{}: {} instructions in {} bytes", member.name, report.instructions, report.bytes);
        assert!(report.instructions > 100, "{}: only {} instructions", member.name, report.instructions);
        none(&member.name, &report);
    }
}

#[test]
fn the_kernel_lies_where_its_layout_says() {
    let elf = parse("the kernel", KERNEL);
    let segments = segments(&elf);
    assert!(!segments.is_empty());
    for segment in &segments {
        let Range { start, end } = segment.physical;
        assert!(
            KERNEL_LOAD <= start && start < end && end <= KERNEL_END,
            "{segment:x?} against {KERNEL_END:#x}"
        );
        assert_eq!(segment.address.start, layout::KERNEL + start, "{segment:x?}");
        assert!(!(segment.write && segment.execute), "{segment:x?} is writable and executable");
    }
    let entry = pvh_entry(&elf).expect("a PVH note");
    let enters = |s: &&Segment| s.execute && s.physical.contains(&entry);
    assert!(segments.iter().any(|s| enters(&s)), "the entry point {entry:#x} is not in executable memory");
    // The boot page tables know only large pages, so what is read-only needs such pages of its own.
    let pages = |s: &Segment| s.physical.start / LARGE_PAGE..s.physical.end.div_ceil(LARGE_PAGE);
    for (i, one) in segments.iter().enumerate() {
        for other in segments[i + 1..].iter().filter(|other| other.write != one.write) {
            let (a, b) = (pages(one), pages(other));
            assert!(a.end <= b.start || b.end <= a.start, "{one:x?} and {other:x?} share a large page");
        }
    }
}

#[test]
fn the_boot_image_can_be_run_from_where_it_lies() {
    let members = members(BOOT_IMAGE);
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names.len(), members.len(), "a name occurs twice in {names:?}");
    for needed in ["vm", "vfs", "mfs", "blk", "pm", "tty", "init", "bin/softread", "bin/cat"] {
        assert!(names.contains(needed), "{needed} is missing from {names:?}");
    }
    for Member { name, at, data } in &members {
        assert!((*at as u64).is_multiple_of(PAGE), "{name} begins at {at:#x} in the archive");
        let elf = parse(name, data);
        let segments = segments(&elf);
        for segment in &segments {
            let inside = layout::TEXT <= segment.address.start && segment.address.end <= layout::MMAP_START;
            assert!(inside, "{name}: {segment:x?} is outside {:#x}..{:#x}", layout::TEXT, layout::MMAP_START);
            assert!(!(segment.write && segment.execute), "{name}: {segment:x?} is writable and executable");
            assert_eq!(segment.offset % PAGE, segment.address.start % PAGE, "{name}: {segment:x?}");
        }
        // Each page has one protection.
        for pair in segments.windows(2) {
            let (last, first) = ((pair[0].address.end - 1) / PAGE, pair[1].address.start / PAGE);
            assert!(
                last < first,
                "{name}: {:x?} and {:x?} share a page or are out of order",
                pair[0],
                pair[1]
            );
        }
        let entry = elf.elf_header().e_entry(elf.endian());
        let enters = |s: &Segment| s.execute && s.address.contains(&entry);
        assert!(segments.iter().any(enters), "{name}: the entry point {entry:#x} is not executable");
    }
}

/// Looks through a snippet between two symbols, `before` (a NOP) and `after` (a RET).
fn inspect_snippet(code: &[u8], ring: Ring) -> Report {
    let bytes = &[&[0x90], code, &[0xc3]].concat();
    let symbols = vec![(0x1000, "before".to_owned()), (0x1001 + code.len() as u64, "after".to_owned())];
    let mut report = Report::default();
    Code { bytes, address: 0x1000, symbols, narrow: 0..0, ring }.inspect(&mut report);
    report
}

#[test]
fn planted_instructions_are_found() {
    let everywhere: [(&str, &[u8]); 13] = [
        ("xorps %xmm0,%xmm0", &[0x0f, 0x57, 0xc0]),
        ("movups (%rsi),%xmm8", &[0x44, 0x0f, 0x10, 0x06]),
        ("movq %rax,%xmm0", &[0x66, 0x48, 0x0f, 0x6e, 0xc0]),
        ("pxor %xmm1,%xmm1", &[0x66, 0x0f, 0xef, 0xc9]),
        ("cvtsi2sd %rax,%xmm0", &[0xf2, 0x48, 0x0f, 0x2a, 0xc0]),
        ("vaddps %ymm1,%ymm1,%ymm0", &[0xc5, 0xf4, 0x58, 0xc1]),
        ("vmovups %zmm0,(%rdi)", &[0x62, 0xf1, 0x7c, 0x48, 0x11, 0x07]),
        ("kmovw %eax,%k1", &[0xc5, 0xf8, 0x92, 0xc8]),
        ("fldl (%rsi)", &[0xdd, 0x06]),
        ("fninit", &[0xdb, 0xe3]),
        ("movq (%rsi),%mm0", &[0x0f, 0x6f, 0x06]),
        ("emms", &[0x0f, 0x77]),
        ("not an instruction", &[0x06]),
    ];
    let in_ring_0: [(&str, &[u8]); 14] = [
        ("lock cmpxchg16b (%rdi)", &[0xf0, 0x48, 0x0f, 0xc7, 0x0f]),
        ("rdtscp", &[0x0f, 0x01, 0xf9]),
        ("popcnt %rax,%rax", &[0xf3, 0x48, 0x0f, 0xb8, 0xc0]),
        ("crc32b %al,%eax", &[0xf2, 0x0f, 0x38, 0xf0, 0xc0]),
        ("clwb (%rdi)", &[0x66, 0x0f, 0xae, 0x37]),
        ("verr %ax", &[0x0f, 0x00, 0xe0]),
        ("lsl %ax,%eax", &[0x0f, 0x03, 0xc0]),
        ("movbe (%rsi),%eax", &[0x0f, 0x38, 0xf0, 0x06]),
        ("ldmxcsr (%rsi)", &[0x0f, 0xae, 0x16]),
        ("stmxcsr (%rdi)", &[0x0f, 0xae, 0x1f]),
        ("xsave (%rdi)", &[0x0f, 0xae, 0x27]),
        ("xsaveopt64 (%rdi)", &[0x48, 0x0f, 0xae, 0x37]),
        ("xrstor (%rsi)", &[0x0f, 0xae, 0x2e]),
        ("int $0x80", &[0xcd, 0x80]),
    ];
    for (name, code) in everywhere {
        for ring in [Ring::Kernel, Ring::User] {
            let report = inspect_snippet(code, ring);
            assert_eq!(report.findings.len(), 1, "{name}: {:?}", report.findings);
            assert!(
                report.findings[0].starts_with("0x1001 in before+0x1: "),
                "{name}: {:?}",
                report.findings
            );
        }
    }
    for (name, code) in in_ring_0 {
        assert_eq!(inspect_snippet(code, Ring::Kernel).findings.len(), 1, "{name}");
        none(name, &inspect_snippet(code, Ring::User));
    }
}

#[test]
fn what_works_is_not_objected_to() {
    let code = [
        &[0x48, 0x8b, 0x06][..],         // mov (%rsi),%rax
        &[0xf3, 0x48, 0xa5],             // rep movsq
        &[0xf0, 0x48, 0x0f, 0xb1, 0x0f], // lock cmpxchg %rcx,(%rdi)
        &[0x0f, 0x01, 0xf8],             // swapgs
        &[0x48, 0x0f, 0xae, 0x07],       // fxsave64 (%rdi)
        &[0x0f, 0xae, 0xf0],             // mfence
        &[0xf3, 0x90],                   // pause
        &[0x0f, 0x31],                   // rdtsc
        &[0xcc],                         // int3
        &[0x48, 0xcf],                   // iretq
    ]
    .concat();
    let report = inspect_snippet(&code, Ring::Kernel);
    none("a snippet", &report);
    assert_eq!(report.instructions, 10 + 2);
}

/// Data between functions may swallow the beginning of the next one; a symbol puts the reader back in step.
#[test]
fn a_symbol_starts_an_instruction() {
    let bytes = &[0x48, 0xb8, 0x0f, 0x57, 0xc0, 0xc3, 0x90, 0x90, 0x90, 0x90]; // movabs, with xorps inside
    let found = |symbols| {
        let mut report = Report::default();
        Code { bytes, address: 0, symbols, narrow: 0..0, ring: Ring::Kernel }.inspect(&mut report);
        report.findings
    };
    assert_eq!(found(vec![]), [""; 0]);
    let with_symbol = found(vec![(2, "target".to_owned())]);
    assert!(with_symbol.iter().any(|f| f.starts_with("0x2 in target+0x0: Xorps")), "{with_symbol:?}");
}

/// The way through the real file: sections, symbols and 32-bit part included.
#[test]
fn an_instruction_planted_in_the_kernel_is_found() {
    let elf = parse("the kernel", KERNEL);
    let text = elf.sections().find(|section| section.kind() == SectionKind::Text).unwrap();
    let (offset, _) = text.file_range().unwrap();
    let symbols = symbols(&elf);
    let boot_code = loaders_code(&elf, &symbols);
    for symbol in ["kernel_start", "copy_bytes", "pvh_start"] {
        let (at, _) = symbols.iter().find(|(_, name)| name == symbol).expect(symbol);
        let mut planted = KERNEL.to_vec();
        let place = (offset + (at - text.address())) as usize;
        planted[place..place + 3].copy_from_slice(&[0x0f, 0x57, 0xc0]);
        let findings = inspect("the kernel", &planted, Ring::Kernel).findings;
        assert!(findings[0].starts_with(&format!("{at:#x} in ")), "{symbol}: {findings:?}");
        assert!(findings[0].contains("Xorps"), "{symbol}: {findings:?}");
    }
    assert!(!boot_code.is_empty() && boot_code.end - boot_code.start < 0x200, "{boot_code:x?}");
}
