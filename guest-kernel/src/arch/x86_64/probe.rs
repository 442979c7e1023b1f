//! Which trap instruction this host runs: tried in ring 3, not looked up.
//!
//! The one thing to hold in mind: on some hosts SYSCALL leaves the processor in ring 3 at the kernel's entry
//! point. So each candidate is executed by a few bytes in VM's address space while the processor's tables
//! lead back here, whatever happens.

use core::cell::UnsafeCell;

use refault_abi::layout::{STACK_TOP, STUB};

use super::cpu::{load_entries, load_interrupt_table};
use super::pages::physical_of;
use super::registers::{msr, write_msr};

unsafe extern "C" {
    static stub_syscall: u8;
    static stub_int3: u8;
    fn run_probe(rip: u64, stack: u64) -> u64;
    fn probe_arrived();
    fn probe_failed();
}

/// Offset of the probe behind the stub.
const PROBE: u64 = 0x800;
const VECTORS: usize = 32;

#[repr(C, align(16))]
struct Gates(UnsafeCell<[u64; 2 * VECTORS]>);
// SAFETY: used once, by the first processor.
unsafe impl Sync for Gates {}
static GATES: Gates = Gates(UnsafeCell::new([0; 2 * VECTORS]));

/// A trap instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// SYSCALL.
    Syscall,
    /// INT3.
    Int3,
}

impl Trap {
    /// Physical address of the stub page that uses it.
    pub fn page(self) -> u64 {
        match self {
            Trap::Syscall => physical_of(&raw const stub_syscall),
            Trap::Int3 => physical_of(&raw const stub_int3),
        }
    }
}

/// An interrupt gate to `handler`, callable from ring `ring`.
fn gate(handler: u64, ring: u64) -> [u64; 2] {
    let low = handler & 0xffff | 0x08 << 16 | 0x8e << 40 | ring << 45 | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// Whether `trap`, whose stub page is mapped at [`STUB`] in the address space in use, enters ring 0.
pub fn works(trap: Trap) -> bool {
    let failed = gate(probe_failed as *const () as u64, 0);
    let arrived = gate(probe_arrived as *const () as u64, 3);
    // SAFETY: see the `Sync` implementation.
    let gates = unsafe { &mut *GATES.0.get() };
    for (vector, place) in gates.chunks_exact_mut(2).enumerate() {
        place.copy_from_slice(if vector == 3 && trap == Trap::Int3 { &arrived } else { &failed });
    }
    // SAFETY: every gate leads back into `run_probe`, which has saved the stack; the kernel's own table and entry
    // are loaded again before anything else happens.
    let entered = unsafe {
        load_interrupt_table(gates.as_ptr() as u64, (VECTORS * 16) as u64);
        write_msr(msr::LSTAR, probe_arrived as *const () as u64);
        run_probe(STUB + PROBE, STACK_TOP - 64)
    };
    load_entries();
    entered == 1
}
