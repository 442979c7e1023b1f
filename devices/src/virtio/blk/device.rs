//! The disk as its transport sees it: features, configuration space, and its queue, started, stopped, kept and put back.
//!
//! The one thing to hold in mind: when a queue has been stopped, nothing of it is in flight, late answers included.

use virtio_bindings::virtio_blk as abi;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueState};

use super::image::SECTOR;
use super::ring::Ring;
use super::{Block, QUEUE_SIZE, Turn};
use crate::virtio::{StateError, VirtioDevice, Work};

/// Data descriptors that fit beside header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Bytes of configuration space that are told apart from zero.
const CONFIG_LEN: usize = 24;

impl VirtioDevice for Block {
    type State = BlockState;

    fn device_id(&self) -> u32 {
        virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        let always = 1 << abi::VIRTIO_BLK_F_FLUSH
            | 1 << abi::VIRTIO_BLK_F_BLK_SIZE
            | 1 << abi::VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX;
        always | u64::from(self.limits.read_only) << abi::VIRTIO_BLK_F_RO
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        // capacity, size_max (not offered), seg_max, geometry (not offered), blk_size
        let mut config = [0; CONFIG_LEN];
        let capacity = self.limits.sectors.to_le_bytes();
        let rest = [0, SEG_MAX, 0, SECTOR as u32].map(u32::to_le_bytes);
        for (to, from) in config.iter_mut().zip(capacity.iter().chain(rest.as_flattened())) {
            *to = *from;
        }
        for (to, from) in data.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn start_queue(&mut self, _index: usize, queue: Queue, features: u64) {
        self.flushes = features & 1 << abi::VIRTIO_BLK_F_FLUSH != 0;
        self.ring = Some(Ring::new(queue, self.ram.clone()));
    }

    fn stop_queue(&mut self, _index: usize) {
        self.ring = None;
        self.engine.drain(&mut self.done);
        self.done.clear();
        self.late.take_all();
        let dropped = self.pending.iter().flatten().filter(|pending| pending.fault.is_some()).count();
        self.counters.dropped(dropped as u64);
        self.pending.fill(None);
    }

    fn settle(&mut self) -> Work {
        let mut all = Work::default();
        loop {
            let Turn { work, more } = self.turn(|disk, ring| {
                let more = disk.take_requests(ring)?;
                disk.engine.drain(&mut disk.done);
                disk.complete_done(ring)?;
                let late = disk.late.take_all();
                disk.answer_late(ring, &late)?;
                Ok(more)
            });
            all.notify |= work.notify;
            all.broken = all.broken.or(work.broken);
            if !more {
                break;
            }
        }
        // A ring that was found broken has left requests behind that nobody waits for.
        self.engine.drain(&mut self.done);
        self.done.clear();
        all
    }

    fn save(&self) -> BlockState {
        BlockState { flushes: self.flushes, ring: self.ring.as_ref().map(Ring::save) }
    }

    fn restore(&mut self, state: &BlockState) -> Result<(), StateError> {
        let ring = state.ring.map(|ring| Ring::restore(ring, self.ram.clone())).transpose();
        self.ring = ring.map_err(|error| StateError::Ring(error.to_string()))?;
        self.flushes = state.flushes;
        Ok(())
    }
}

/// A disk's state when nothing is in flight: what it was given at the start of its queue, and how far it has come in it.
#[derive(Clone, Debug)]
pub struct BlockState {
    flushes: bool,
    ring: Option<QueueState>,
}
