//! Guest memory at the ready mark, and putting back what has changed since.
//!
//! KVM says which pages processors have written (the dirty log of each memory slot); the device view says which pages devices and
//! the monitor have. Only those are copied back, through the device view.
//!
//! The one thing to hold in mind: nobody may run while this works, and no device may be in the middle of a transfer.

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

use crate::layout::PAGE_SIZE;
use crate::memory::{GuestRam, RamPiece};

use super::processor::{StateError, failed};

/// Memory as it was.
pub struct MemoryImage {
    ram: Arc<GuestRam>,
    /// One copy for each piece, in order.
    pieces: Vec<(RamPiece, Vec<u8>)>,
}

impl MemoryImage {
    /// Copies all of the memory, and has KVM note what is written from now on.
    ///
    /// # Errors
    /// KVM cannot note it, or memory cannot be read.
    pub fn take(vm: &VmFd, ram: Arc<GuestRam>) -> Result<Self, StateError> {
        for (slot, piece) in (0..).zip(ram.pieces()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: KVM_MEM_LOG_DIRTY_PAGES,
                guest_phys_addr: piece.gpa,
                memory_size: piece.len,
                userspace_addr: piece.vcpu_hva,
            };
            // SAFETY: the same slot with the same memory as before, to which only a flag is added.
            unsafe { vm.set_user_memory_region(region) }
                .map_err(failed("KVM_SET_USER_MEMORY_REGION with a dirty log"))?;
        }
        let unreadable = |_| failed("reading guest memory")(kvm_ioctls::Error::new(libc::EFAULT));
        let mut pieces = Vec::new();
        for piece in ram.pieces() {
            let mut bytes = vec![0; usize::try_from(piece.len).unwrap_or(0)];
            ram.device_view().read_slice(&mut bytes, GuestAddress(piece.gpa)).map_err(unreadable)?;
            pieces.push((*piece, bytes));
        }
        let image = Self { ram, pieces };
        // What was noted until now is in the copy.
        image.written(vm)?;
        Ok(image)
    }

    /// Copies back what was written since it was taken or last put back; how many pages that were.
    ///
    /// # Errors
    /// KVM did not say what was written, or memory could not be.
    pub fn put_back(&self, vm: &VmFd) -> Result<usize, StateError> {
        let unwritable = |_| failed("writing guest memory")(kvm_ioctls::Error::new(libc::EFAULT));
        let mut pages = 0;
        for gpa in self.written(vm)? {
            let Some(bytes) = self.page(gpa) else { continue };
            self.ram.device_view().write_slice(bytes, GuestAddress(gpa)).map_err(unwritable)?;
            pages += 1;
        }
        // The copying itself went through the device view.
        self.ram.take_device_dirty();
        Ok(pages)
    }

    /// The first page that is not as it was; for tests, because it looks at all of them.
    pub fn first_difference(&self) -> Option<u64> {
        let mut now = vec![0; PAGE_SIZE as usize];
        for (piece, bytes) in &self.pieces {
            for (gpa, then) in (piece.gpa..).step_by(PAGE_SIZE as usize).zip(bytes.chunks(PAGE_SIZE as usize))
            {
                let read = self.ram.device_view().read_slice(&mut now, GuestAddress(gpa));
                if read.is_err() || now != then {
                    return Some(gpa);
                }
            }
        }
        None
    }

    fn page(&self, gpa: u64) -> Option<&[u8]> {
        let inside = |piece: &RamPiece| gpa.checked_sub(piece.gpa).filter(|offset| *offset < piece.len);
        let (offset, bytes) = self.pieces.iter().find_map(|(piece, bytes)| Some((inside(piece)?, bytes)))?;
        let offset = usize::try_from(offset).ok()?;
        bytes.get(offset..offset.checked_add(PAGE_SIZE as usize)?)
    }

    /// Pages written since this was last asked, each once.
    fn written(&self, vm: &VmFd) -> Result<Vec<u64>, StateError> {
        let mut pages = self.ram.take_device_dirty();
        for (slot, (piece, bytes)) in (0..).zip(&self.pieces) {
            let log = vm.get_dirty_log(slot, bytes.len()).map_err(failed("KVM_GET_DIRTY_LOG"))?;
            for (word, bits) in (0_u64..).zip(log) {
                let mut left = bits;
                while left != 0 {
                    let bit = u64::from(left.trailing_zeros());
                    left &= left - 1;
                    pages.push(piece.gpa + (word * 64 + bit) * PAGE_SIZE);
                }
            }
        }
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }
}
