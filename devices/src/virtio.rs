//! Virtio 1.2 devices: what a device is, apart from how the guest reaches it.
//!
//! [`VirtioDevice`] is the seam between the transport ([`mmio`], registers and negotiation) and a device
//! ([`blk`]). The transport never looks into a ring, and the device never sees a register.
//!
//! The one thing to hold in mind: a device does not interrupt. Its work returns [`Work`], and the transport
//! turns that into an interrupt, or into the DEVICE_NEEDS_RESET state for a ring that makes no sense.
//!
//! What this is not: legacy virtio (below 1.0), packed rings, or PCI.

use std::fmt::Debug;
use std::sync::Arc;

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vm_memory::bitmap::AtomicBitmap;

pub mod blk;
pub mod interrupt;
pub mod mmio;
pub mod queue;

/// The view of guest memory in which no page is ever taken away. It remembers which pages were written through it; pieces of it that
/// are handed to the kernel to be written are marked when they are handed out.
pub type DeviceMemory = GuestMemoryMmap<AtomicBitmap>;

/// Guest memory as devices see it.
pub type GuestRam = Arc<DeviceMemory>;

/// How a driver broke a ring so that the device cannot go on before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The driver's index is further ahead of ours than the ring has entries.
    #[error("the available ring's index claims more entries than the ring has")]
    AvailIndex,
    /// A head that is not in the descriptor table.
    #[error("the available ring holds descriptor {0}, which is not in the table")]
    HeadOutOfTable(u16),
    /// A head offered again before it was used: its memory would belong to two requests at once.
    #[error("the available ring holds descriptor {0}, which is still in use")]
    HeadInUse(u16),
    /// The ring's own memory could not be read or written.
    #[error("the ring's memory cannot be accessed")]
    Memory,
}

/// What a device's work leaves for the transport to do.
#[must_use = "the driver waits for the interrupt"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The driver is to be told that buffers were used.
    pub notify: bool,
    /// The ring is beyond use.
    pub broken: Option<Broken>,
}

/// A state that cannot be put into this device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It has other queues than the device.
    #[error(
        "the state is of a device with {found} queues, this one has {expected}; restore it where it was saved"
    )]
    Queues {
        /// Queues in the state.
        found: usize,
        /// Queues of the device.
        expected: usize,
    },
    /// Its ring is none.
    #[error("the state's ring cannot be used ({0}); restore it where it was saved")]
    Ring(String),
}

/// A virtio device behind a transport.
pub trait VirtioDevice: Send {
    /// What the device is apart from its registers, at a moment at which nothing is in flight.
    type State: Clone + Debug + Send + Sync;

    /// Device type number of the specification (2 is a block device).
    fn device_id(&self) -> u32;

    /// Feature bits offered, without VERSION_1, which the transport adds.
    fn features(&self) -> u64;

    /// Largest size of each queue, each a power of two.
    fn queue_sizes(&self) -> &[u16];

    /// Fills `data` from the configuration space at `offset`. Bytes past its end read as zero.
    fn read_config(&self, offset: usize, data: &mut [u8]);

    /// Takes over a checked queue. `features` is what driver and device agreed on.
    fn start_queue(&mut self, index: usize, queue: Queue, features: u64);

    /// Lets go of a queue. On return no request of it is in flight, and its memory is touched no more.
    fn stop_queue(&mut self, index: usize);

    /// Takes all that the driver has offered, waits for it and answers it. Only for a driver that stands still, since one that
    /// goes on offering has no end.
    fn settle(&mut self) -> Work;

    /// The device's state. Meaningful only when nothing is in flight: after [`VirtioDevice::settle`].
    fn save(&self) -> Self::State;

    /// Puts a state back into a device whose queues have been stopped.
    fn restore(&mut self, state: &Self::State) -> Result<(), StateError>;
}
