//! Interrupts in and notifications out: what devices need of KVM.

use std::time::Duration;

use kvm_bindings::{KVM_IRQCHIP_IOAPIC, kvm_irqchip, kvm_regs};
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, SyncReg};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::vcpu::exit::Exit;

use super::finding::{Fact, Finding};
use super::microguest::{Event, Lab, LabError, Ring, image, kvm_error, programs};
use super::traps::words;

/// An interrupt line that only the I/O APIC has: below 16 the legacy controller delivers too.
const LINE: u32 = 20;
const LINE_VECTOR: u8 = 0x40;
/// Register of the local APIC's spurious vector, and the bit there that switches the APIC on.
const SPURIOUS: usize = 0xf0;
const APIC_ENABLED: [u8; 2] = [0xff, 0x01];

/// Sends line [`LINE`] to the first processor as [`LINE_VECTOR`].
fn route_line(lab: &Lab) -> Result<(), LabError> {
    let mut apic = lab.cpu()?.get_lapic().map_err(kvm_error("KVM_GET_LAPIC"))?;
    for (register, value) in apic.regs.iter_mut().skip(SPURIOUS).zip(APIC_ENABLED) {
        *register = value as _;
    }
    lab.cpu()?.set_lapic(&apic).map_err(kvm_error("KVM_SET_LAPIC"))?;
    let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, ..Default::default() };
    lab.vm.get_irqchip(&mut chip).map_err(kvm_error("KVM_GET_IRQCHIP"))?;
    // SAFETY: the chip id above says that KVM filled in this member of the union.
    let ioapic = unsafe { &mut chip.chip.ioapic };
    if let Some(entry) = ioapic.redirtbl.get_mut(LINE as usize) {
        // Fixed delivery, edge triggered, not masked, to processor 0.
        entry.bits = u64::from(LINE_VECTOR);
    }
    lab.vm.set_irqchip(&chip).map_err(kvm_error("KVM_SET_IRQCHIP"))
}

fn interrupt_arrives(lab: &mut Lab, vector: u8) -> Result<Result<(), Event>, LabError> {
    Ok(match lab.run()? {
        Event::Vector(trap) if trap.vector == vector && trap.cpl == 0 => Ok(()),
        other => Err(other),
    })
}

fn missing_interrupt(event: Event) -> Finding {
    Finding::missing(format!("the interrupt did not arrive: {}", words(event)))
}

fn waiting_lab(kvm: &Kvm) -> Result<Option<Lab>, LabError> {
    let lab = Lab::new(kvm, Ring::Zero, programs::WAIT)?;
    Ok(lab.irqchip.then_some(lab))
}

fn no_irqchip() -> Finding {
    Finding::missing("KVM_CREATE_IRQCHIP is refused")
        .advise("use a kernel whose KVM has the in-kernel interrupt controller")
}

/// Probe: an interrupt raised on the in-kernel I/O APIC reaches the guest's handler.
pub fn irqchip(kvm: &Kvm) -> Result<Finding, LabError> {
    let Some(mut lab) = waiting_lab(kvm)? else { return Ok(no_irqchip()) };
    route_line(&lab)?;
    for level in [true, false] {
        lab.vm.set_irq_line(LINE, level).map_err(kvm_error("KVM_IRQ_LINE"))?;
    }
    Ok(match interrupt_arrives(&mut lab, LINE_VECTOR)? {
        Ok(()) => Finding::ok("I/O APIC line delivered to a handler").knowing(Fact::Irqchip),
        Err(event) => missing_interrupt(event),
    })
}

/// Probe: an eventfd raises an interrupt.
pub fn irqfd(kvm: &Kvm) -> Result<Finding, LabError> {
    let Some(mut lab) = waiting_lab(kvm)? else { return Ok(no_irqchip()) };
    route_line(&lab)?;
    let event = eventfd()?;
    lab.vm.register_irqfd(&event, LINE).map_err(kvm_error("KVM_IRQFD"))?;
    event.write(1).map_err(|source| LabError::Io { call: "eventfd", source })?;
    Ok(match interrupt_arrives(&mut lab, LINE_VECTOR)? {
        Ok(()) => Finding::ok("signalled, interrupt delivered"),
        Err(event) => missing_interrupt(event),
    })
}

/// Probe: a guest store signals an eventfd and does not exit.
pub fn ioeventfd(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::STORE)?;
    let event = eventfd()?;
    lab.vm
        .register_ioevent(&event, &IoEventAddress::Mmio(image::MMIO_GPA), NoDatamatch)
        .map_err(kvm_error("KVM_IOEVENTFD"))?;
    lab.set_registers(&kvm_regs { rdi: image::MMIO_WINDOW, ..lab.start_registers() })?;
    let ended = lab.run()?;
    let signalled = event.read().ok();
    Ok(match (ended, signalled) {
        (Event::Port { port: programs::DONE, .. }, Some(1)) => Finding::ok("signalled once, without an exit"),
        (ended, signalled) => Finding::missing(format!(
            "the store ended in {}, the eventfd counted {}",
            words(ended),
            signalled.unwrap_or(0)
        )),
    })
}

fn eventfd() -> Result<EventFd, LabError> {
    EventFd::new(EFD_NONBLOCK).map_err(|source| LabError::Io { call: "eventfd", source })
}

/// Probe: the local APIC's timer fires and wakes a halted processor.
pub fn apic_timer(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Zero, programs::TIMER)?;
    if !lab.irqchip {
        return Ok(no_irqchip());
    }
    Ok(match interrupt_arrives(&mut lab, programs::TIMER_VECTOR)? {
        Ok(()) => Finding::ok("x2APIC one-shot timer fires and wakes from HLT"),
        Err(event) => missing_interrupt(event),
    })
}

/// Probe: the run page carries the registers.
pub fn sync_regs(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::NOTHING)?;
    let mark = kvm_regs { r12: 0x5eed, ..lab.start_registers() };
    lab.set_registers(&mark)?;
    if let Some(cpu) = lab.cpus.first_mut() {
        cpu.set_sync_valid_reg(SyncReg::Register);
    }
    let ended = lab.run()?;
    let shown = lab.cpu()?.sync_regs().regs;
    Ok(match (ended, shown == lab.registers()?) {
        (Event::Port { .. }, true) => Finding::ok("the run page shows the registers"),
        (Event::Port { .. }, false) => Finding::missing("the run page's registers differ from KVM_GET_REGS"),
        (other, _) => Finding::missing(words(other)),
    })
}

/// Probe: immediate_exit returns before the first instruction.
pub fn immediate_exit(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::NOTHING)?;
    if let Err(error) = lab.finish() {
        return Ok(Finding::missing(error.to_string()));
    }
    let rip = lab.registers()?.rip;
    Ok(match (rip, lab.run()?) {
        (image::PROGRAM, Event::Port { port: programs::DONE, .. }) => {
            Finding::ok("KVM_RUN returned before the first instruction")
        }
        (rip, event) => Finding::missing(format!("RIP moved to {rip:#x}; then {}", words(event))),
    })
}

/// Probe: a signal gets a processor out of an endless loop.
pub fn kick(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::COUNT)?;
    lab.set_registers(&kvm_regs { rbx: u64::MAX, ..lab.start_registers() })?;
    lab.limit = Duration::from_millis(20);
    let (exit, _) = lab.run_timed(0)?;
    Ok(match exit {
        Exit::Interrupted => Finding::ok("a signal ends KVM_RUN of a busy guest"),
        other => Finding::missing(format!("the busy guest came back with {other:?}")),
    })
}
