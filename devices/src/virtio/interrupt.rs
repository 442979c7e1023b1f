//! A virtio device's interrupt: the status register and the event descriptor behind it.
//!
//! Kept apart from the transport's lock, because the guest reads and acknowledges the status in its interrupt
//! handler and should not wait there for the device loop.
//!
//! The one thing to hold in mind: the status bit is set before the descriptor is signalled, so that a handler
//! never finds an empty status for an interrupt that was just raised.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::EventFd;

/// Interrupt status, and the line it is raised on.
#[derive(Debug)]
pub struct Interrupt {
    status: AtomicU32,
    line: EventFd,
    raised: AtomicU64,
}

impl Interrupt {
    /// An interrupt that signals `line`, which the monitor registers as an irqfd (edge-triggered).
    pub fn new(line: EventFd) -> Self {
        Self { status: AtomicU32::new(0), line, raised: AtomicU64::new(0) }
    }

    /// Says that buffers were used.
    pub fn used_buffers(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// Says that the configuration or the device's state changed.
    pub fn config_changed(&self) {
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// The status register.
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    /// Clears the bits of `handled`.
    pub fn acknowledge(&self, handled: u32) {
        self.status.fetch_and(!handled, Ordering::SeqCst);
    }

    /// Interrupts raised since the device was made.
    pub fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    /// Puts the status register back, and forgets a signal that nobody has taken from the line.
    pub(crate) fn restore(&self, status: u32) {
        self.status.store(status, Ordering::SeqCst);
        // An empty counter is what is wanted.
        let _ = self.line.read();
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        self.raised.fetch_add(1, Ordering::Relaxed);
        // The write can only fail when 2^64 - 1 interrupts wait in the descriptor: one is pending anyway.
        let _ = self.line.write(1);
    }
}
