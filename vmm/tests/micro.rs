//! Guests of a few hundred instructions.
use std::arch::global_asm;
global_asm!(include_str!("micro/machine.s"), options(att_syntax));
unsafe extern "C" { static micro_machine: u8; static micro_machine_end: u8; }
#[test]
fn dump() {
    let bytes = unsafe { std::slice::from_raw_parts(&raw const micro_machine, (&raw const micro_machine_end).offset_from(&raw const micro_machine) as usize) };
    std::fs::write("/tmp/t-vmm/micro.bin", bytes).unwrap();
    std::fs::write("/tmp/t-vmm/micro.elf", refault::micro::elf(bytes, 0x100000, 0x100000)).unwrap();
}
