//! Counting the instructions that ring 0 retires for an operation, by single stepping.
//!
//! The guest marks an operation with the events MEASURE_BEGIN and MEASURE_END. Its kernel, booted with `measure=on`,
//! writes a port as the first thing at every system-call trap; from there on this module steps, one exit per
//! instruction, up to the instruction that returns to ring 3. Ring 3 is never stepped: it runs as always, and not every host could.
//!
//! The one thing to hold in mind: the announcing entry is a port write and a jump in front of the ordinary entry.
//! Neither is counted, so the figures are those of a kernel that is not measured. The trap instruction itself belongs
//! to ring 3; the returning instruction is counted.
//!
//! Stepping ends where the kernel halts because nobody can run, and goes on at the next system-call trap: what an
//! interrupt does in between belongs to no operation, and a halt that is stepped over is not left reliably on every host.
//!
//! A string instruction is one instruction. Hosts that stop at each of its iterations have them counted apart.

use std::sync::{Mutex, PoisonError};

use kvm_bindings::{KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, kvm_guest_debug};
use kvm_ioctls::VcpuFd;
use refault_abi::doorbell::Measured;
use serde::Serialize;

use crate::inject::walk;
use crate::memory::GuestMemory;
use crate::vm::ending::Ending;

use super::registers;

/// `iretq`.
const IRETQ: [u8; 2] = [0x48, 0xcf];
/// `sysretq`.
const SYSRETQ: [u8; 3] = [0x48, 0x0f, 0x07];
/// `hlt`.
const HLT: u8 = 0xf4;
/// First byte of `out imm8, al`, which is two bytes long.
const OUT_IMMEDIATE: u8 = 0xe6;

/// Samples kept of one operation; further ones are dropped, so that a guest cannot fill the monitor's memory.
const SAMPLES_MAX: usize = 64;

/// What ring 0 did in one sample of an operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// System-call traps, of whichever process.
    pub kernel_entries: u64,
    /// Instructions retired in ring 0.
    pub instructions: u64,
    /// Iterations of string instructions beyond their first, on hosts that stop at each; elsewhere 0.
    pub string_iterations: u64,
}

/// What all measured operations of a machine cost.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<[Vec<Sample>; Measured::ALL.len()]>);

/// One operation's cost in ring 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// What was done.
    pub operation: &'static str,
    /// Which of [`Measured`] that is.
    #[serde(skip)]
    pub id: u32,
    /// System-call traps, of whichever process, in the least sample.
    pub kernel_entries: u64,
    /// Instructions retired in ring 0, without the measuring itself, in the least sample.
    pub instructions: u64,
    /// Iterations of string instructions beyond their first, on hosts that stop at each; elsewhere 0.
    pub string_iterations: u64,
    /// All samples in the order in which they were taken, without the measuring itself.
    pub samples: Vec<Sample>,
}

impl Sample {
    /// Without what measuring itself costs.
    fn less(&self, measuring: &Sample) -> Sample {
        Sample {
            kernel_entries: self.kernel_entries.saturating_sub(measuring.kernel_entries),
            instructions: self.instructions.saturating_sub(measuring.instructions),
            string_iterations: self.string_iterations.saturating_sub(measuring.string_iterations),
        }
    }
}

/// The sample with the fewest instructions: nothing else got into that one.
fn least(samples: &[Sample]) -> Option<Sample> {
    samples.iter().copied().min_by_key(|sample| sample.instructions)
}

impl Tallies {
    fn publish(&self, id: u32, run: &Stepper) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(samples) = usize::try_from(id).ok().and_then(|id| tallies.get_mut(id))
            && samples.len() < SAMPLES_MAX
        {
            samples.push(Sample {
                kernel_entries: run.entries,
                instructions: run.instructions,
                string_iterations: run.iterations,
            });
        }
    }

    /// The costs of what was measured, less what the measuring itself costs.
    pub fn costs(&self) -> Vec<Cost> {
        let tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let measuring =
            tallies.get(Measured::Empty as usize).and_then(|samples| least(samples)).unwrap_or_default();
        tallies
            .iter()
            .zip(Measured::ALL)
            .filter(|(_, (what, _))| *what != Measured::Empty)
            .filter_map(|(samples, (what, operation))| {
                let samples: Vec<_> = samples.iter().map(|sample| sample.less(&measuring)).collect();
                let Sample { kernel_entries, instructions, string_iterations } = least(&samples)?;
                Some(Cost {
                    operation,
                    id: what as u32,
                    kernel_entries,
                    instructions,
                    string_iterations,
                    samples,
                })
            })
            .collect()
    }
}

/// Where stepping stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// The guest runs freely.
    #[default]
    Free,
    /// In front of the ordinary entry, at the jump with this address or before.
    Announced(u64),
    /// In the kernel; the next instruction's address.
    Inside(u64),
}

/// A measurement in progress on one vCPU.
#[derive(Debug, Default)]
pub struct Stepper {
    measuring: Option<u32>,
    phase: Phase,
    entries: u64,
    instructions: u64,
    iterations: u64,
}

/// What a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    GoOn,
    Leave,
}

impl Stepper {
    /// MEASURE_BEGIN: counting starts at the next kernel entry. One that was still going on is given up.
    pub fn begin(&mut self, vcpu: &mut VcpuFd, id: u32) -> Result<(), Ending> {
        self.free(vcpu)?;
        *self = Self { measuring: Some(id), ..Self::default() };
        Ok(())
    }

    /// MEASURE_END: gives the counts to `tallies`.
    pub fn end(&mut self, vcpu: &mut VcpuFd, id: u32, tallies: &Tallies) -> Result<(), Ending> {
        if self.measuring.take() == Some(id) {
            tallies.publish(id, self);
        }
        self.free(vcpu)
    }

    /// The kernel has announced that it was entered.
    pub fn entered(&mut self, vcpu: &mut VcpuFd, memory: &GuestMemory) -> Result<(), Ending> {
        if self.measuring.is_none() {
            return Ok(());
        }
        let Some((rip, cr3)) = place(vcpu) else { return Ok(()) };
        let mut code = [0; 1];
        walk::read(memory, cr3, rip, &mut code);
        // Some hosts have retired the port write when they report it, others retire it when the vCPU runs again.
        let jump = if code == [OUT_IMMEDIATE] { rip.wrapping_add(2) } else { rip };
        self.entries = self.entries.saturating_add(1);
        self.phase = Phase::Announced(jump);
        step(vcpu, true)
    }

    /// An instruction was stepped over.
    pub fn stepped(&mut self, vcpu: &mut VcpuFd, memory: &GuestMemory) -> Result<(), Ending> {
        let Some((rip, cr3)) = place(vcpu) else { return Ok(()) };
        let mut code = [0; 3];
        walk::read(memory, cr3, rip, &mut code);
        if code.starts_with(&IRETQ) && self.stays_inside(vcpu, memory, cr3) {
            // The kernel's own fault handler returns to what had the fault.
            code = [0; 3];
        }
        tracing::trace!(measuring = self.measuring, rip = format_args!("{rip:#x}"), "step");
        match self.count(rip, &code) {
            Verdict::GoOn => Ok(()),
            Verdict::Leave => self.free(vcpu),
        }
    }

    /// The counting itself: the vCPU stands before the instruction `code` at `rip`.
    fn count(&mut self, rip: u64, code: &[u8; 3]) -> Verdict {
        match self.phase {
            Phase::Free => return Verdict::Leave,
            Phase::Announced(jump) if rip == jump => return Verdict::GoOn,
            Phase::Announced(_) => {}
            Phase::Inside(last) if last == rip => self.iterations = self.iterations.saturating_add(1),
            Phase::Inside(_) => self.instructions = self.instructions.saturating_add(1),
        }
        self.phase = Phase::Inside(rip);
        if code.starts_with(&[HLT]) {
            return Verdict::Leave;
        }
        if code.starts_with(&IRETQ) || *code == SYSRETQ {
            // It is left to run freely: what it leads to is ring 3.
            self.instructions = self.instructions.saturating_add(1);
            return Verdict::Leave;
        }
        Verdict::GoOn
    }

    /// Whether the `iretq` before which the vCPU stands leads to ring 0 again.
    fn stays_inside(&self, vcpu: &mut VcpuFd, memory: &GuestMemory, cr3: u64) -> bool {
        let Some(regs) = registers::regs(vcpu) else { return false };
        let mut selector = [0; 2];
        // The frame is rip, cs, rflags, rsp, ss: Intel SDM volume 3, 6.14.2.
        let at = regs.rsp.wrapping_add(8);
        walk::read(memory, cr3, at, &mut selector) == selector.len() && selector[0] & 3 == 0
    }

    fn free(&mut self, vcpu: &mut VcpuFd) -> Result<(), Ending> {
        match std::mem::replace(&mut self.phase, Phase::Free) {
            Phase::Free => Ok(()),
            _ => step(vcpu, false),
        }
    }
}

/// Where the vCPU stands, and under which page tables.
fn place(vcpu: &mut VcpuFd) -> Option<(u64, u64)> {
    Some((registers::regs(vcpu)?.rip, registers::sregs(vcpu)?.cr3))
}

fn step(vcpu: &VcpuFd, on: bool) -> Result<(), Ending> {
    let control = if on { KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP } else { 0 };
    vcpu.set_guest_debug(&kvm_guest_debug { control, ..Default::default() })
        .map_err(|e| Ending::Host { what: "KVM_SET_GUEST_DEBUG", errno: Some(e.errno()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOP: [u8; 3] = [0x90; 3];
    const RETURN: [u8; 3] = [0x48, 0xcf, 0x90];

    fn announced() -> Stepper {
        Stepper { measuring: Some(1), phase: Phase::Announced(0x102), entries: 1, ..Stepper::default() }
    }

    #[test]
    fn the_announcing_entry_is_not_counted() {
        // Whether the host stops at the jump or not.
        for stops in [&[0x102, 0x500, 0x503][..], &[0x500, 0x503]] {
            let mut stepper = announced();
            for rip in stops {
                assert_eq!(stepper.count(*rip, &NOP), Verdict::GoOn);
            }
            assert_eq!(stepper.count(0x505, &RETURN), Verdict::Leave);
            // 0x500, 0x503, and the return at 0x505.
            assert_eq!(stepper.instructions, 3);
        }
    }

    #[test]
    fn a_halt_ends_it() {
        let mut stepper = announced();
        stepper.count(0x500, &NOP);
        assert_eq!(stepper.count(0x501, &[HLT, 0xeb, 0xfd]), Verdict::Leave);
        assert_eq!(stepper.instructions, 1);
    }

    #[test]
    fn a_string_instruction_is_one_instruction() {
        let mut stepper = announced();
        for rip in [0x500, 0x503, 0x503, 0x503, 0x506] {
            stepper.count(rip, &NOP);
        }
        assert_eq!((stepper.instructions, stepper.iterations), (2, 2));
    }

    #[test]
    fn costs_are_without_the_measuring() {
        let tallies = Tallies::default();
        let run = |entries, instructions| Stepper { entries, instructions, ..Stepper::default() };
        tallies.publish(Measured::Empty as u32, &run(1, 70));
        tallies.publish(Measured::NullCall as u32, &run(3, 400));
        tallies.publish(Measured::NullCall as u32, &run(2, 150));
        tallies.publish(99, &run(2, 1));
        let costs = tallies.costs();
        assert_eq!(costs.len(), 1);
        assert_eq!(costs[0].operation, "null kernel call");
        assert_eq!((costs[0].kernel_entries, costs[0].instructions), (1, 80));
        assert_eq!(costs[0].samples.iter().map(|sample| sample.instructions).collect::<Vec<_>>(), [330, 80]);
    }

    #[test]
    fn samples_are_bounded() {
        let tallies = Tallies::default();
        for _ in 0..1000 {
            tallies.publish(Measured::Read as u32, &Stepper::default());
        }
        assert_eq!(tallies.costs()[0].samples.len(), SAMPLES_MAX);
    }
}
