//! Making KVM forget what it knows of the guest's page tables.
//!
//! Where KVM shadows the guest's page tables (no nested paging, or none that is used) it notices changes by keeping the guest from
//! writing them unseen. Tables that are put back behind its back, through the device view, it does not notice: the guest would run on
//! with translations of the last run. What makes it drop all shadows is the moving of a memory slot, so there is one of a single
//! page, far from everything, that serves for nothing else.
//!
//! The one thing to hold in mind: with nested paging in use there are no shadows, and nothing has to be done. Which of the two a host
//! is, is found by trying ([`needed`]), not by name.

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VmFd};

use crate::doctor::microguest::{Event, Lab, LabError, Ring, image, kvm_error, programs};
use crate::layout::PAGE_SIZE;
use crate::memory::GuestRam;

use super::processor::{StateError, set_system_registers};

/// Number of the slot; RAM has the first ones.
const SLOT: u32 = 31;
/// The two places between which it moves: in the device hole, above every device's window.
const PLACES: [u64; 2] = [0xe000_0000, 0xe010_0000];

/// The slot that moves.
pub struct Shadows {
    page: GuestRam,
    at: usize,
}

impl Shadows {
    /// Adds the slot to a machine.
    ///
    /// # Errors
    /// KVM refused it, or there is no memory for it.
    pub fn new(vm: &VmFd) -> Result<Self, StateError> {
        let none = |_| StateError { call: "a page of memory", source: kvm_ioctls::Error::new(libc::ENOMEM) };
        let shadows = Self { page: GuestRam::new(crate::memory::MIN_RAM).map_err(none)?, at: 0 };
        shadows.put(vm, PLACES[0])?;
        Ok(shadows)
    }

    /// Drops all shadows.
    ///
    /// # Errors
    /// KVM refused to move the slot.
    pub fn forget(&mut self, vm: &VmFd) -> Result<(), StateError> {
        self.at = 1 - self.at;
        self.put(vm, PLACES.get(self.at).copied().unwrap_or_default())
    }

    fn put(&self, vm: &VmFd, place: u64) -> Result<(), StateError> {
        let hva = self.page.vcpu_hva(0).unwrap_or_default();
        let region = kvm_userspace_memory_region {
            slot: SLOT,
            flags: 0,
            guest_phys_addr: place,
            memory_size: PAGE_SIZE,
            userspace_addr: hva,
        };
        // SAFETY: the page belongs to this value, which its machine's session drops after the machine; no other slot is there.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(|source| StateError { call: "KVM_SET_USER_MEMORY_REGION", source })
    }
}

/// Bytes of the page under test, and of the other one that its translation is turned to.
const BEFORE: u64 = 0x1111;
const AFTER: u64 = 0x2222;
/// Where the other one is.
const OTHER: u64 = image::TARGET + 16 * PAGE_SIZE;

/// Whether translations that are changed through the device view go unnoticed on this host, although the processor has forgotten all
/// it remembered: then [`Shadows::forget`] is needed.
///
/// # Errors
/// The trial could not be made.
pub fn needed(kvm: &Kvm) -> Result<bool, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::LOAD)?;
    Ok(loaded_after_change(&mut lab, |_| Ok(()))? == BEFORE)
}

/// What a micro-guest loads after the page under test has been exchanged in its page table, and `then` been done.
fn loaded_after_change(
    lab: &mut Lab,
    then: impl FnOnce(&Lab) -> Result<(), StateError>,
) -> Result<u64, LabError> {
    let failed = |why: StateError| LabError::Kvm { call: why.call, source: why.source };
    lab.write(image::TARGET, &BEFORE.to_le_bytes())?;
    lab.write(OTHER, &AFTER.to_le_bytes())?;
    load(lab)?;
    lab.write(image::target_entry(), &image::entry_for(OTHER).to_le_bytes())?;
    let sregs = lab.cpu()?.get_sregs().map_err(kvm_error("KVM_GET_SREGS"))?;
    set_system_registers(lab.cpu()?, &sregs).map_err(failed)?;
    then(lab).map_err(failed)?;
    lab.set_registers(&lab.start_registers())?;
    load(lab)
}

/// Runs the micro-guest to its end, and says what it has loaded.
fn load(lab: &mut Lab) -> Result<u64, LabError> {
    match lab.run()? {
        Event::Port { .. } => Ok(lab.registers()?.rax),
        _ => Err(LabError::Layout(image::TARGET)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_is_enough() {
        let Ok(kvm) = crate::host::open_kvm() else {
            eprintln!("SKIPPED: forgetting_is_enough needs /dev/kvm");
            return;
        };
        let mut lab = Lab::new(&kvm, Ring::Three, programs::LOAD).unwrap();
        let mut shadows = Shadows::new(&lab.vm).unwrap();
        assert_eq!(loaded_after_change(&mut lab, |lab| shadows.forget(&lab.vm)).unwrap(), AFTER);
    }
}
