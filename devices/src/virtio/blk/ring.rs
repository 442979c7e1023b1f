//! Heads in, heads out: a queue that never loses one and never takes one twice.
//!
//! A head comes out of [`Ring::next`] once and goes back through [`Ring::put`] once. A driver that offers a head
//! which is still out, or which does not exist, has broken the ring ([`Broken`]); accepting it would give one
//! piece of guest memory to two requests, and would let a driver grow the set of requests without end.
//!
//! What this is not: it does not look at what a chain holds.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::virtio::{Broken, GuestRam};

/// A started queue.
pub(super) struct Ring {
    queue: Queue,
    ram: GuestRam,
    /// By head: whether it is with us.
    out: Vec<bool>,
    /// Whether heads were put back since the driver was last considered for an interrupt.
    added: bool,
}

impl Ring {
    pub fn new(queue: Queue, ram: GuestRam) -> Self {
        let out = vec![false; usize::from(queue.size())];
        Self { queue, ram, out, added: false }
    }

    /// The queue's indices and addresses. Which heads are out is no part of it: a ring is saved when none is.
    pub fn save(&self) -> QueueState {
        self.queue.state()
    }

    /// A ring as it was saved.
    pub fn restore(saved: QueueState, ram: GuestRam) -> Result<Self, Error> {
        Ok(Self::new(Queue::try_from(saved)?, ram))
    }

    /// Chains that the driver has offered and nobody has taken.
    pub fn waiting(&self) -> Result<u16, Broken> {
        let offered = self.queue.avail_idx(&*self.ram, Ordering::Acquire).map_err(broken)?;
        Ok(offered.0.wrapping_sub(self.queue.next_avail()))
    }

    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// The next chain that the driver offers.
    pub fn next(&mut self) -> Result<Option<DescriptorChain<GuestRam>>, Broken> {
        let mut offered = self.queue.iter(self.ram.clone()).map_err(broken)?;
        let Some(chain) = offered.next() else { return Ok(None) };
        let head = chain.head_index();
        match self.out.get_mut(usize::from(head)) {
            None => Err(Broken::HeadOutOfTable(head)),
            Some(true) => Err(Broken::HeadInUse(head)),
            Some(out) => {
                *out = true;
                Ok(Some(chain))
            }
        }
    }

    /// Gives a head back; `len` bytes were written into its chain.
    pub fn put(&mut self, head: u16, len: u32) -> Result<(), Broken> {
        self.queue.add_used(&*self.ram, head, len).map_err(broken)?;
        if let Some(out) = self.out.get_mut(usize::from(head)) {
            *out = false;
        }
        self.added = true;
        Ok(())
    }

    /// Whether the driver is to be interrupted for what was put back since the last time this was asked.
    pub fn needs_interrupt(&mut self) -> Result<bool, Broken> {
        if !std::mem::take(&mut self.added) {
            return Ok(false);
        }
        // This also orders the used index before the read of what the driver wants.
        let wanted = self.queue.needs_notification(&*self.ram).map_err(broken)?;
        if self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        // Without the event index a driver may still ask for silence, by a flag.
        fence(Ordering::SeqCst);
        let flags: u16 = self
            .ram
            .load(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed)
            .map_err(|_| Broken::Memory)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Asks the driver not to notify, as the ring is being looked at anyway.
    pub fn quiet(&mut self) -> Result<(), Broken> {
        self.queue.disable_notification(&*self.ram).map_err(broken)
    }

    /// Asks the driver to notify again. Returns whether more chains have come in the meantime.
    pub fn listen(&mut self) -> Result<bool, Broken> {
        self.queue.enable_notification(&*self.ram).map_err(broken)
    }
}

fn broken(error: Error) -> Broken {
    match error {
        Error::InvalidAvailRingIndex => Broken::AvailIndex,
        _ => Broken::Memory,
    }
}
