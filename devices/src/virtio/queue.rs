//! A queue as the driver describes it, and the checks that make it one the device will use.
//!
//! Registers are kept as written, halves of addresses in any order. Everything is checked once, when the driver
//! declares the queue ready, and only then does a [`virtio_queue::Queue`] come into being. That type silently
//! keeps an old value where a new one is not aligned, so it is never given one that is not.
//!
//! The one thing to hold in mind: guest memory is fixed while a machine runs, so "in memory" checked here stays
//! true for as long as the queue lives.

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory, Permissions};

use super::DeviceMemory;

#[cfg(test)]
mod tests;

/// One of the three areas of a split ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Descriptor table.
    Descriptors,
    /// Available ring, written by the driver.
    Available,
    /// Used ring, written by the device.
    Used,
}

/// Why a queue cannot be made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Not a power of two, zero, or above the device's maximum.
    #[error("queue size {size} is not a power of two from 1 to {max}")]
    Size {
        /// What the driver set.
        size: u32,
        /// What the device allows.
        max: u16,
    },
    /// The area does not start at a multiple of what the specification demands.
    #[error("{area:?} at {address:#x} is not aligned to {align} bytes")]
    Alignment {
        /// Which area.
        area: Area,
        /// Where the driver put it.
        address: u64,
        /// What it must be a multiple of, bytes.
        align: u64,
    },
    /// The area is not, or not wholly, in guest memory; or it is at address zero.
    #[error("{area:?} at {address:#x}, {len} bytes, is not in guest memory")]
    NotMemory {
        /// Which area.
        area: Area,
        /// Where the driver put it.
        address: u64,
        /// Its length, bytes.
        len: u64,
    },
}

/// The registers that describe one queue.
#[derive(Clone, Debug)]
pub struct QueueSetup {
    /// Largest size the device takes.
    pub max: u16,
    /// Size chosen by the driver.
    pub size: u32,
    /// Whether the driver has declared the queue ready, and it was found so.
    pub ready: bool,
    /// Address of the descriptor table.
    pub descriptors: u64,
    /// Address of the available ring.
    pub available: u64,
    /// Address of the used ring.
    pub used: u64,
}

impl QueueSetup {
    /// A queue nobody has described yet.
    pub fn new(max: u16) -> Self {
        Self { max, size: u32::from(max), ready: false, descriptors: 0, available: 0, used: 0 }
    }

    /// Checks the description and makes the queue.
    pub fn build(&self, ram: &DeviceMemory) -> Result<Queue, QueueError> {
        let bad_size = QueueError::Size { size: self.size, max: self.max };
        let size = u16::try_from(self.size).map_err(|_| bad_size)?;
        if size > self.max || !size.is_power_of_two() {
            return Err(bad_size);
        }
        let n = u64::from(size);
        // Lengths of the three areas, event words included whether negotiated or not.
        for (area, address, len, align) in [
            (Area::Descriptors, self.descriptors, n.saturating_mul(16), 16),
            (Area::Available, self.available, n.saturating_mul(2).saturating_add(6), 2),
            (Area::Used, self.used, n.saturating_mul(8).saturating_add(6), 4),
        ] {
            if !address.is_multiple_of(align) {
                return Err(QueueError::Alignment { area, address, align });
            }
            let bytes = usize::try_from(len).unwrap_or(usize::MAX);
            let in_ram = GuestMemory::check_range(ram, GuestAddress(address), bytes, Permissions::ReadWrite);
            // Page zero is memory, but an address of zero is a register that was never written.
            if address == 0 || !in_ram {
                return Err(QueueError::NotMemory { area, address, len });
            }
        }
        let mut queue = Queue::new(self.max).map_err(|_| bad_size)?;
        queue.set_size(size);
        queue.set_desc_table_address(Some(low(self.descriptors)), Some(high(self.descriptors)));
        queue.set_avail_ring_address(Some(low(self.available)), Some(high(self.available)));
        queue.set_used_ring_address(Some(low(self.used)), Some(high(self.used)));
        queue.set_ready(true);
        Ok(queue)
    }
}

fn low(address: u64) -> u32 {
    (address & u64::from(u32::MAX)) as u32
}

fn high(address: u64) -> u32 {
    (address >> 32) as u32
}
