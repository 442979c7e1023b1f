//! Interrupt lines: event descriptors that KVM turns into interrupts.
//!
//! The one thing to hold in mind: a signal is not yet an interrupt. KVM takes a descriptor's signal at once but hands it to the
//! interrupt controller in a thread of its own, some time later. Whoever reads or puts back the controller's state first makes sure
//! that none is under way, with [`Lines::settle`].

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::assemble::AssembleError;

/// The lines of one machine.
#[derive(Debug, Default)]
pub struct Lines(Vec<(EventFd, u32)>);

impl Lines {
    /// A descriptor that raises interrupt line `gsi` when it is signalled.
    ///
    /// # Errors
    /// No more descriptors, or KVM refuses the line.
    pub fn add(&mut self, vm: &VmFd, gsi: u32) -> Result<EventFd, AssembleError> {
        let event = EventFd::new(EFD_NONBLOCK).map_err(AssembleError::io("an interrupt line"))?;
        let ours = event.try_clone().map_err(AssembleError::io("an interrupt line"))?;
        vm.register_irqfd(&event, gsi).map_err(AssembleError::kvm("KVM_IRQFD"))?;
        self.0.push((ours, gsi));
        Ok(event)
    }

    /// Waits until every signal given so far has reached the interrupt controller. Nobody may be signalling meanwhile: what is
    /// signalled between the two calls for a line is delivered with the second one.
    ///
    /// # Errors
    /// KVM refused to let go of a line or to take it again.
    pub fn settle(&self, vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
        for (event, gsi) in &self.0 {
            // Letting go of a line is what waits for the thread.
            vm.unregister_irqfd(event, *gsi)?;
            vm.register_irqfd(event, *gsi)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use kvm_bindings::{KVM_IRQCHIP_PIC_MASTER, kvm_irqchip};

    use super::*;

    const GSI: u32 = 5;

    /// The lines that wait in the first interrupt controller.
    fn requested(vm: &VmFd) -> u8 {
        let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_PIC_MASTER, ..Default::default() };
        vm.get_irqchip(&mut chip).unwrap();
        // SAFETY: the chip asked for is a PIC, so this is the member that KVM filled.
        unsafe { chip.chip.pic }.irr
    }

    #[test]
    fn a_settled_signal_has_reached_the_controller() {
        let Ok(kvm) = crate::host::open_kvm() else {
            eprintln!("SKIPPED: this needs /dev/kvm");
            return;
        };
        let vm = kvm.create_vm().unwrap();
        vm.create_irq_chip().unwrap();
        let mut lines = Lines::default();
        let line = lines.add(&vm, GSI).unwrap();
        let other = lines.add(&vm, GSI + 1).unwrap();
        let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_PIC_MASTER, ..Default::default() };
        vm.get_irqchip(&mut chip).unwrap();
        let mut longest = std::time::Duration::ZERO;
        for round in 0..100 {
            assert_eq!(requested(&vm) & 0x60, 0, "{round}");
            line.write(1).unwrap();
            let begun = Instant::now();
            lines.settle(&vm).unwrap();
            longest = longest.max(begun.elapsed());
            assert_eq!(requested(&vm) & 0x60, 0x20, "{round}");
            // Nothing is left that could arrive after the controller was put back.
            vm.set_irqchip(&chip).unwrap();
        }
        other.write(1).unwrap();
        lines.settle(&vm).unwrap();
        assert_eq!(requested(&vm) & 0x60, 0x40);
        eprintln!("settling two lines took at most {longest:?}");
    }
}
