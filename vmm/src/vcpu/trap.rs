//! A page that is away was touched: find out what the guest was doing, and do what the injector decides.
//!
//! Two ways lead here. Where the processor runs the guest's code, the touch stops it *at* the instruction
//! (SIGBUS or a failed KVM_RUN), and nothing has happened yet. Where the host interprets ring 0, KVM is in the middle
//! of the instruction and asks for the bytes of a read, or hands over those of a write that has already retired, as
//! an MMIO exit on an address that is RAM.
//!
//! The one thing to hold in mind, for the second way: whatever is decided, a read gets its true bytes, from the
//! device view. Finishing such a read and putting the registers back undoes the instruction exactly if it is
//! repeatable ([`crate::inject::decode`]); any other is resolved, never reflected.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use kvm_bindings::{kvm_regs, kvm_sregs};
use refault_abi::doorbell::access;
use vm_memory::{Bytes, GuestAddress};

use crate::inject::decode::{self, Operand, Operands, SegmentBases, Use};
use crate::inject::injector::Decision;
use crate::inject::mechanism::Notice;
use crate::inject::trap::{MACHINE_CHECK, PAGE_FAULT, Trap, Via};
use crate::inject::{Injector, classes, walk};
use crate::layout::PAGE_SIZE;
use crate::vm::ending::Ending;

use super::exit::{self, Exit};
use super::registers;
use super::thread::{Step, Vcpu};

const ERROR_WRITE: u32 = 1 << 1;
const ERROR_USER: u32 = 1 << 2;
const ERROR_FETCH: u32 = 1 << 4;
/// Bytes of a gate of the interrupt descriptor table.
const GATE: u16 = 16;
/// Memory accesses that one instruction can still make after the first: a bound for finishing it.
const FINISH_TRIES: usize = 64;

/// The stopped instruction.
struct Stopped {
    regs: kvm_regs,
    sregs: kvm_sregs,
    operands: Option<Operands>,
}

impl Vcpu {
    /// The guest was stopped at an instruction that touched guest memory which is not there.
    pub(super) fn touched(&mut self, notice: Notice) -> Step {
        let at = Instant::now();
        let Some(injector) = self.machine.injector.clone() else { return self.unexplained(notice) };
        let Some(stopped) = self.stopped() else { return self.unexplained(notice) };
        let candidates = self.candidate_pages(&stopped);
        let Some(page) = injector.trapped_page(notice, &candidates) else { return self.unexplained(notice) };
        let via = match notice {
            Notice::BusError { .. } => Via::BusError,
            Notice::RunFailed { .. } => Via::RunFailed,
            Notice::Interpreted { .. } => Via::Interpreted,
        };
        let vectors = self.deliverable(&stopped);
        let trap = Trap { vectors, ..self.make_out(&injector, &stopped, page, via, at) };
        self.trapped = true;
        match injector.touched(page, &trap) {
            Decision::Reflect => self.reflect(&stopped, &trap),
            Decision::Poison => self.poison(&stopped),
            Decision::Hold(held) => {
                injector.hold(held, || self.machine.is_stopping());
                Step::Continue(())
            }
            Decision::Resolve | Decision::Stale => Step::Continue(()),
            Decision::NotMine => self.unexplained(notice),
        }
    }

    /// Interpreted code reads from RAM that KVM could not reach.
    pub(super) fn interpreted_read(&mut self, gpa: u64, len: usize) -> Step {
        let at = Instant::now();
        let notice = Notice::Interpreted { gpa };
        let (Some(injector), Some(stopped)) = (self.machine.injector.clone(), self.stopped()) else {
            return self.unexplained(notice);
        };
        let page = gpa & !(PAGE_SIZE - 1);
        let vectors = match stopped.operands.is_some_and(|o| o.repeatable) {
            true => self.deliverable(&stopped),
            false => 0,
        };
        let trap = self.make_out(&injector, &stopped, page, Via::Interpreted, at);
        let gva = trap.gva.map(|gva| gva & !0xfff | gpa & 0xfff);
        let trap = Trap { gpa, gva, access: trap.access & !access::WRITE, vectors, ..trap };
        self.trapped = true;
        let decision = injector.touched(page, &trap);
        if let Decision::Hold(held) = decision {
            injector.hold(held, || self.machine.is_stopping());
        }
        // After any waiting: the access happens now.
        self.give_true_bytes(gpa, len);
        match decision {
            Decision::Reflect | Decision::Poison => {
                self.finish_instruction()?;
                if let Err(ending) = registers::set_regs(&mut self.fd, &stopped.regs) {
                    return Step::Break(ending);
                }
                match decision {
                    Decision::Poison => self.poison(&stopped),
                    _ => self.reflect(&stopped, &trap),
                }
            }
            Decision::Hold(_) | Decision::Resolve | Decision::Stale => Step::Continue(()),
            Decision::NotMine => self.unexplained(notice),
        }
    }

    /// Interpreted code has written to RAM that KVM could not reach; the bytes exist only here.
    pub(super) fn interpreted_write(&mut self, gpa: u64, data: &[u8]) -> Step {
        let at = Instant::now();
        let notice = Notice::Interpreted { gpa };
        let Some(injector) = self.machine.injector.clone() else {
            self.store_true_bytes(gpa, data);
            return self.unexplained(notice);
        };
        // The instruction has retired: what it was cannot be looked up any more, and nothing can be told of it.
        let rip = registers::regs(&mut self.fd).map_or(0, |regs| regs.rip);
        let cpl = registers::sregs(&mut self.fd).map_or(0, |sregs| cpl(&sregs));
        let vcpu = self.index;
        let via = Via::Interpreted;
        let trap = Trap { gpa, gva: None, access: access::WRITE, rip, cpl, vcpu, via, at, vectors: 0 };
        self.trapped = true;
        let decision = injector.touched(gpa & !(PAGE_SIZE - 1), &trap);
        if let Decision::Hold(held) = decision {
            injector.hold(held, || self.machine.is_stopping());
        }
        self.store_true_bytes(gpa, data);
        match decision {
            Decision::NotMine => self.unexplained(notice),
            _ => Step::Continue(()),
        }
    }

    /// Lets rules of physical addresses take effect, with the pages left alone that this processor's tables are in.
    pub(super) fn arm_memory(&mut self, injector: &Injector) {
        let mut tables = BTreeMap::new();
        if let (Some(regs), Some(sregs)) = (self.fd.get_regs().ok(), self.fd.get_sregs().ok()) {
            tables = classes::of_processor(&self.machine.ram, &regs, &sregs);
        }
        injector.arm_memory(tables);
    }

    fn give_true_bytes(&mut self, gpa: u64, len: usize) {
        let mut bytes = [0; 8];
        if let Some(part) = bytes.get_mut(..len) {
            if self.machine.ram.device_view().read_slice(part, GuestAddress(gpa)).is_err() {
                part.fill(0xff);
            }
            exit::answer_mmio(&mut self.fd, part);
        }
    }

    fn store_true_bytes(&self, gpa: u64, data: &[u8]) {
        if let Err(why) = self.machine.ram.device_view().write_slice(data, GuestAddress(gpa)) {
            tracing::error!("{} bytes for {gpa:#x} could not be stored: {why}", data.len());
        }
    }

    /// Lets KVM finish the instruction it is in the middle of, and no more.
    pub(super) fn finish_instruction(&mut self) -> Step {
        self.fd.set_kvm_immediate_exit(1);
        let mut finished = Step::Continue(());
        for _ in 0..FINISH_TRIES {
            let exit = exit::next(&mut self.fd);
            self.machine.counters.count(exit.kind());
            match exit {
                Exit::MmioRead { gpa, len } if self.machine.ram.contains(gpa, len as u64) => {
                    self.give_true_bytes(gpa, len);
                }
                Exit::MmioWrite { gpa, len, data } if self.machine.ram.contains(gpa, len as u64) => {
                    self.store_true_bytes(gpa, data.get(..len).unwrap_or(&data));
                }
                Exit::Interrupted => break,
                other => {
                    finished = self.act_on(other);
                    if finished.is_break() {
                        break;
                    }
                }
            }
        }
        self.fd.set_kvm_immediate_exit(0);
        finished
    }

    fn stopped(&mut self) -> Option<Stopped> {
        let regs = registers::regs(&mut self.fd)?;
        let sregs = registers::sregs(&mut self.fd)?;
        let mut code = [0; decode::MAX_LENGTH];
        let length = walk::read(self.machine.ram.device_view(), sregs.cr3, regs.rip, &mut code);
        let bases = SegmentBases { fs: sregs.fs.base, gs: sregs.gs.base };
        let operands = decode::operands(code.get(..length)?, &regs, bases);
        Some(Stopped { regs, sregs, operands })
    }

    /// Pages that the instruction uses.
    fn candidate_pages(&self, stopped: &Stopped) -> Vec<u64> {
        let memory = self.machine.ram.device_view();
        let operands = stopped.operands.iter().flat_map(|o| o.list).flatten();
        operands
            .flat_map(|o| [o.gva, last_byte(&o)])
            .chain([stopped.regs.rip])
            .filter_map(|gva| walk::translate(memory, stopped.sregs.cr3, gva))
            .map(|gpa| gpa & !(PAGE_SIZE - 1))
            .collect()
    }

    /// The access that touched `page`: by the instruction's operands, else by the guest's linear map.
    fn make_out(&self, injector: &Injector, stopped: &Stopped, page: u64, via: Via, at: Instant) -> Trap {
        let memory = self.machine.ram.device_view();
        let rip = stopped.regs.rip;
        let cpl = cpl(&stopped.sregs);
        let user = if cpl == 3 { access::USER } else { 0 };
        let unknown =
            Trap { gpa: page, gva: None, access: user, rip, cpl, vcpu: self.index, via, at, vectors: 0 };
        let known = |gpa: u64, gva: u64, access: u32| Trap { gpa, gva: Some(gva), access, ..unknown };
        let hit = |gva: u64| {
            let gpa = walk::translate(memory, stopped.sregs.cr3, gva)?;
            (gpa & !(PAGE_SIZE - 1) == page).then_some(gpa)
        };
        for operand in stopped.operands.iter().flat_map(|o| o.list).flatten() {
            let write = if operand.usage == Use::Read { 0 } else { access::WRITE };
            let next_page = (operand.gva & !(PAGE_SIZE - 1)).wrapping_add(PAGE_SIZE);
            // An access that crosses into the next page faults at that page's first byte.
            let crossing = last_byte(&operand) >= next_page;
            for gva in [Some(operand.gva), crossing.then_some(next_page)].into_iter().flatten() {
                if let Some(gpa) = hit(gva) {
                    return known(gpa, gva, user | write);
                }
            }
        }
        if let Some(gpa) = hit(rip) {
            return known(gpa, rip, user | access::FETCH);
        }
        // The instruction was not understood, but what the kernel touches through its linear map can be named.
        if stopped.operands.is_none()
            && user == 0
            && let Some(gva) = injector.direct_map().map(|base| base.wrapping_add(page))
            && let Some(gpa) = hit(gva)
        {
            return known(gpa, gva, 0);
        }
        unknown
    }

    /// Exceptions that can be delivered now without losing anything else: those with vectors below this.
    fn deliverable(&mut self, stopped: &Stopped) -> u16 {
        let idle = registers::events(&mut self.fd).is_some_and(|e| {
            e.exception.injected == 0
                && e.exception.pending == 0
                && e.interrupt.injected == 0
                && e.nmi.injected == 0
        });
        let gates = stopped.sregs.idt.limit.saturating_add(1) / GATE;
        if idle { gates } else { 0 }
    }

    fn reflect(&mut self, stopped: &Stopped, trap: &Trap) -> Step {
        let mut error = 0;
        for (bit, code) in
            [(access::WRITE, ERROR_WRITE), (access::USER, ERROR_USER), (access::FETCH, ERROR_FETCH)]
        {
            if trap.access & bit != 0 {
                error |= code;
            }
        }
        let sregs = kvm_sregs { cr2: trap.gva.unwrap_or(stopped.sregs.cr2), ..stopped.sregs };
        match registers::raise(&mut self.fd, &sregs, PAGE_FAULT, Some(error)) {
            Ok(()) => Step::Continue(()),
            Err(ending) => Step::Break(ending),
        }
    }

    /// CR2 stays as it is: a machine check may come where the guest has not read it yet.
    fn poison(&mut self, stopped: &Stopped) -> Step {
        match registers::raise(&mut self.fd, &stopped.sregs, MACHINE_CHECK, None) {
            Ok(()) => Step::Continue(()),
            Err(ending) => Step::Break(ending),
        }
    }

    fn unexplained(&mut self, notice: Notice) -> Step {
        let rip = registers::regs(&mut self.fd).map_or(0, |r| r.rip);
        ControlFlow::Break(match notice {
            Notice::BusError { hva } => Ending::MemoryGone { address: hva },
            Notice::RunFailed { gpa } => Ending::MemoryFault { gpa, rip },
            Notice::Interpreted { gpa } => Ending::MemoryFault { gpa: Some(gpa), rip },
        })
    }
}

/// Privilege level.
fn cpl(sregs: &kvm_sregs) -> u8 {
    (sregs.cs.selector & 3) as u8
}

/// Address of an operand's last byte.
fn last_byte(operand: &Operand) -> u64 {
    operand.gva.wrapping_add(operand.size.saturating_sub(1))
}
