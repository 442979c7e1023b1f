//! Putting a virtio device back to an earlier moment.
//!
//! A machine that is put back has three parts that must agree: guest memory, processors, devices. The order is the caller's, and
//! this is the one that is safe while the device loop runs:
//!
//! 1. The processors stand still, so that nobody writes a register or a ring, and no kick is under way.
//! 2. [`VirtioMmio::park`]: what is in flight ends without an answer, and from here on the device touches no guest memory.
//! 3. Guest memory and the processors are put back. Interrupts that the device raised before may still be on their way into the
//!    interrupt controller; whoever owns the lines flushes them before *its* state is put back.
//! 4. [`VirtioMmio::restore`].
//!
//! The one thing to hold in mind: the loop reads its descriptors while it holds the device's lock ([`VirtioMmio::drive`]), and
//! parking and restoring empty them under the same lock. So a wake-up has either been dealt with wholly before, or it is forgotten;
//! there is no thread that has read a kick and still has to act on it.
//!
//! What this is not: a format. A state is for the machine it was taken from.

use super::{QueueSetup, State, StateError, VirtioDevice, VirtioMmio};
use crate::sync::lock;

/// Registers, interrupt status and device at a moment at which nothing was in flight.
#[derive(Clone, Debug)]
pub struct MmioState<S> {
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueSetup>,
    interrupt_status: u32,
    device: S,
}

impl<D: VirtioDevice> VirtioMmio<D> {
    /// Lets the device finish and answer everything, and returns its state. The processors have to stand still. An interrupt that
    /// this raises belongs to the saved moment: save the interrupt controller after it.
    pub fn save(&self) -> MmioState<D::State> {
        let mut state = lock(&self.state);
        let work = state.device.settle();
        // All that was offered has been taken.
        self.forget_kicks();
        self.conclude(&mut state, work);
        MmioState {
            status: state.status,
            device_features_sel: state.device_features_sel,
            driver_features_sel: state.driver_features_sel,
            driver_features: state.driver_features,
            queue_sel: state.queue_sel,
            queues: state.queues.clone(),
            interrupt_status: self.interrupt.status(),
            device: state.device.save(),
        }
    }

    /// Ends what is in flight without answering it, and leaves guest memory alone until [`VirtioMmio::restore`].
    pub fn park(&self) {
        self.stop_all(&mut lock(&self.state));
    }

    /// Puts the device back to `saved`, with no wake-up and no interrupt left over from what came after. Guest memory has to be
    /// that of the saved moment already.
    pub fn restore(&self, saved: &MmioState<D::State>) -> Result<(), StateError> {
        let mut state = lock(&self.state);
        self.stop_all(&mut state);
        let (found, expected) = (saved.queues.len(), state.queues.len());
        if found != expected {
            return Err(StateError::Queues { found, expected });
        }
        state.device.restore(&saved.device)?;
        state.status = saved.status;
        state.device_features_sel = saved.device_features_sel;
        state.driver_features_sel = saved.driver_features_sel;
        state.driver_features = saved.driver_features;
        state.queue_sel = saved.queue_sel;
        state.queues.clone_from(&saved.queues);
        self.interrupt.restore(saved.interrupt_status);
        Ok(())
    }

    fn stop_all(&self, state: &mut State<D>) {
        for index in 0..state.queues.len() {
            state.device.stop_queue(index);
        }
        self.forget_kicks();
    }

    fn forget_kicks(&self) {
        for kick in &self.kicks {
            // An empty counter is what is wanted.
            let _ = kick.read();
        }
    }
}
