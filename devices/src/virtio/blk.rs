//! The virtio block device.
//!
//! A request goes through three files: `ring.rs` hands out a chain, `request.rs` reads it into a value that
//! needs no second look at guest memory, and an [`engine`] carries it out. [`Block`] ties them together, keeping
//! for each head in flight a `PendingRequest` with all that completion needs.
//!
//! The one thing to hold in mind: a head that was taken goes back, exactly once, whatever it pointed at. With a
//! status where the chain has a byte for one; with a used length of 0 where it has none.
//!
//! **Used length** is the number of bytes the device wrote: on success the data of a read and the status
//! byte, on failure the status byte alone, since the data is then not to be relied on.
//!
//! Offered: FLUSH, BLK_SIZE, SEG_MAX, RO, indirect descriptors, event index. Not offered, and answered with
//! UNSUPP: discard, write zeroes, zones, lifetime. Writes of a driver that did not accept FLUSH are made durable
//! before they complete, as the specification demands.

use std::sync::Arc;

use virtio_bindings::virtio_blk as abi;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueState};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use self::counters::{Counters, add};
use self::engine::overlay::{Overlay, OverlayEngine};
use self::engine::{Completion, Engine, EngineChoice, EngineError, GuestIov, Job, Op};
use self::image::Image;
use self::request::{Ask, ID_LEN, Limits, Request};
use self::ring::Ring;
use super::{Broken, GuestRam, StateError, VirtioDevice, Work};

pub mod counters;
pub mod engine;
pub mod faults;
pub mod image;
mod request;
mod ring;
pub mod subscriber;
#[cfg(test)]
mod tests;

/// Largest queue size, and most requests in flight.
pub const QUEUE_SIZE: u16 = 256;
/// Data descriptors that fit beside header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Bytes of configuration space that are told apart from zero.
const CONFIG_LEN: usize = 24;

const STATUS_OK: u8 = abi::VIRTIO_BLK_S_OK as u8;
const STATUS_IOERR: u8 = abi::VIRTIO_BLK_S_IOERR as u8;
const STATUS_UNSUPP: u8 = abi::VIRTIO_BLK_S_UNSUPP as u8;

/// A disk's name as the guest reads it: up to 20 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskId([u8; ID_LEN]);

/// Not a name for a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The disk serial {0:?} is not 1 to {ID_LEN} printable ASCII characters; give a shorter or plainer one"
)]
pub struct BadDiskId(pub String);

impl std::str::FromStr for DiskId {
    type Err = BadDiskId;

    fn from_str(name: &str) -> Result<Self, BadDiskId> {
        let mut id = [0; ID_LEN];
        let printable = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        match id.get_mut(..name.len()) {
            Some(front) if printable => front.copy_from_slice(name.as_bytes()),
            _ => return Err(BadDiskId(name.to_owned())),
        }
        Ok(Self(id))
    }
}

/// What completing a request in flight needs. Made when the chain is read, so that nothing is read again.
#[derive(Clone, Copy, Debug)]
struct PendingRequest {
    status: GuestAddress,
    op: Op,
    /// Bytes of data.
    bytes: u64,
}

/// The virtio block device. See the [module documentation](self).
pub struct Block {
    ram: GuestRam,
    limits: Limits,
    id: DiskId,
    engine: Box<dyn Engine>,
    counters: Arc<Counters>,
    ring: Option<Ring>,
    /// By head.
    pending: Vec<Option<PendingRequest>>,
    /// Whether the driver knows of flushes.
    flushes: bool,
    /// Taken from the engine and not yet completed. Empty between turns, kept for its memory.
    done: Vec<Completion>,
}

/// What a turn at the queue left.
pub(crate) struct Turn {
    pub work: Work,
    /// There may be more chains; come back without waiting for the driver.
    pub more: bool,
}

impl Block {
    /// A disk on `image`.
    pub fn new(image: &Image, id: DiskId, engine: EngineChoice, ram: GuestRam) -> Result<Self, EngineError> {
        let engine = engine::start(engine, image.file().clone(), QUEUE_SIZE)?;
        Ok(Self::with_engine(image.sectors(), image.readonly(), id, engine, ram))
    }

    /// A disk in memory, over an image that stays as it is.
    pub fn on_overlay(
        overlay: &Overlay,
        readonly: bool,
        id: DiskId,
        ram: GuestRam,
    ) -> Result<Self, EngineError> {
        let engine = OverlayEngine::new(overlay.clone()).map_err(EngineError::Overlay)?;
        Ok(Self::with_engine(overlay.sectors(), readonly, id, Box::new(engine), ram))
    }

    fn with_engine(
        sectors: u64,
        read_only: bool,
        id: DiskId,
        engine: Box<dyn Engine>,
        ram: GuestRam,
    ) -> Self {
        let limits = Limits { sectors, read_only, descriptors: usize::from(QUEUE_SIZE) };
        Self {
            ram,
            limits,
            id,
            engine,
            counters: Arc::default(),
            ring: None,
            pending: vec![None; usize::from(QUEUE_SIZE)],
            flushes: false,
            done: Vec::new(),
        }
    }

    /// What the disk has done, readable at any time.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Name of the engine in use.
    pub fn engine(&self) -> &'static str {
        self.engine.name()
    }

    /// Signalled when requests have ended.
    pub fn completion_event(&self) -> &EventFd {
        self.engine.completion_event()
    }

    /// Requests that the driver has offered and that were not answered yet, taken or not.
    pub fn unanswered(&self) -> usize {
        let waiting = self.ring.as_ref().map_or(0, |ring| ring.waiting().unwrap_or(0));
        self.in_flight().saturating_add(usize::from(waiting))
    }

    /// Requests that were taken and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.pending.iter().flatten().count()
    }

    /// Whether the driver waits for nothing.
    pub fn at_rest(&self) -> bool {
        self.unanswered() == 0
    }

    /// Takes what the driver offers: at most a queue's worth, so that one disk cannot occupy the device loop.
    pub(crate) fn on_kick(&mut self) -> Turn {
        add(&self.counters.kicks, 1);
        self.turn(|disk, ring| {
            let more = disk.take_requests(ring)?;
            if disk.engine.synchronous() {
                disk.engine.take(&mut disk.done);
                disk.complete_done(ring)?;
            }
            Ok(more)
        })
    }

    /// Completes the requests that the engine is done with.
    pub(crate) fn on_completion(&mut self) -> Turn {
        self.engine.take(&mut self.done);
        let turn = self.turn(|disk, ring| disk.complete_done(ring).map(|()| false));
        // Without a ring there is nobody to answer.
        self.done.clear();
        turn
    }

    /// Completes what was taken from the engine.
    fn complete_done(&mut self, ring: &mut Ring) -> Result<(), Broken> {
        let mut done = std::mem::take(&mut self.done);
        let outcome = done.iter().try_for_each(|completion| self.complete(ring, completion));
        done.clear();
        self.done = done;
        outcome
    }

    /// Runs `work` on the started ring; a ring it finds broken is given up.
    fn turn(&mut self, work: impl FnOnce(&mut Self, &mut Ring) -> Result<bool, Broken>) -> Turn {
        let Some(mut ring) = self.ring.take() else {
            return Turn { work: Work::default(), more: false };
        };
        let outcome = work(self, &mut ring);
        // Whatever was put back before the ring was found broken has still to be announced.
        let notify = ring.needs_interrupt();
        if let Ok(true) = notify {
            add(&self.counters.interrupts, 1);
        }
        let broken = outcome.err().or(notify.err());
        let work = Work { notify: notify == Ok(true), broken };
        if broken.is_none() {
            self.ring = Some(ring);
        }
        Turn { work, more: broken.is_none() && outcome == Ok(true) }
    }

    fn take_requests(&mut self, ring: &mut Ring) -> Result<bool, Broken> {
        let mut budget = ring.size();
        let outcome = loop {
            if let Err(broken) = ring.quiet() {
                break Err(broken);
            }
            match self.take_batch(ring, &mut budget) {
                Ok(()) if budget == 0 => break Ok(true),
                Ok(()) => {}
                Err(broken) => break Err(broken),
            }
            match ring.listen() {
                // Each turn of this loop costs budget, so a driver cannot keep it going.
                Ok(true) => budget = budget.saturating_sub(1),
                end => break end,
            }
        };
        // Also when the ring is broken: what was accepted is carried out.
        self.engine.push();
        outcome
    }

    fn take_batch(&mut self, ring: &mut Ring, budget: &mut u16) -> Result<(), Broken> {
        while *budget > 0 {
            let Some(chain) = ring.next()? else { return Ok(()) };
            *budget = budget.saturating_sub(1);
            let request = request::parse(chain, &self.ram, self.limits);
            self.begin(ring, request)?;
        }
        Ok(())
    }

    fn begin(&mut self, ring: &mut Ring, request: Request) -> Result<(), Broken> {
        let Request { head, status: Some(status), ask } = request else {
            // There is no way to say what became of the request, so it is not carried out.
            add(&self.counters.without_status, 1);
            return ring.put(request.head, 0);
        };
        let counters = self.counters.clone();
        match ask {
            Ask::Read { offset, data } => self.start(ring, head, status, Op::Read, offset, data),
            Ask::Write { offset, data } => {
                let op = Op::Write { durable: !self.flushes };
                self.start(ring, head, status, op, offset, data)
            }
            Ask::Flush => self.start(ring, head, status, Op::Flush, 0, GuestIov::none(self.ram.clone())),
            Ask::Id { at } => {
                let mut rest = self.id.0.as_slice();
                for (at, len) in at {
                    let (piece, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
                    self.ram.write_slice(piece, at).map_err(|_| Broken::Memory)?;
                    rest = after;
                }
                add(&counters.ids, 1);
                self.answer(ring, head, status, STATUS_OK, ID_LEN as u64)
            }
            Ask::Unsupported => {
                add(&counters.unsupported, 1);
                self.answer(ring, head, status, STATUS_UNSUPP, 0)
            }
            Ask::Bad(malformed) => {
                tracing::debug!(head, %malformed, "disk request refused");
                add(&counters.errors, 1);
                self.answer(ring, head, status, STATUS_IOERR, 0)
            }
        }
    }

    fn start(
        &mut self,
        ring: &mut Ring,
        head: u16,
        status: GuestAddress,
        op: Op,
        offset: u64,
        data: GuestIov,
    ) -> Result<(), Broken> {
        let pending = PendingRequest { status, op, bytes: data.len() };
        if op != Op::Flush && data.is_empty() {
            // Nothing to carry: done already.
            return self.finish(ring, head, pending, true);
        }
        match self.pending.get_mut(usize::from(head)) {
            Some(slot) => *slot = Some(pending),
            None => return Err(Broken::HeadOutOfTable(head)),
        }
        self.engine.submit(Job { token: head, op, offset, data });
        Ok(())
    }

    fn complete(&mut self, ring: &mut Ring, completion: &Completion) -> Result<(), Broken> {
        let head = completion.token;
        let slot = self.pending.get_mut(usize::from(head));
        let Some(pending) = slot.and_then(Option::take) else { return Ok(()) };
        if let Err(error) = &completion.result {
            tracing::warn!(head, op = ?pending.op, %error, "disk request failed");
        }
        self.finish(ring, head, pending, completion.result.is_ok())
    }

    /// Counts and answers a request that was carried out, or failed.
    fn finish(&self, ring: &mut Ring, head: u16, pending: PendingRequest, ok: bool) -> Result<(), Broken> {
        let PendingRequest { status, op, bytes } = pending;
        let c = &self.counters;
        if !ok {
            add(&c.errors, 1);
            return self.answer(ring, head, status, STATUS_IOERR, 0);
        }
        let written = match op {
            Op::Read => {
                add(&c.reads, 1);
                add(&c.bytes_read, bytes);
                bytes
            }
            Op::Write { .. } => {
                add(&c.writes, 1);
                add(&c.bytes_written, bytes);
                0
            }
            Op::Flush => {
                add(&c.flushes, 1);
                0
            }
        };
        self.answer(ring, head, status, STATUS_OK, written)
    }

    /// Gives a chain back with a status; `written` bytes of data were written into it.
    fn answer(
        &self,
        ring: &mut Ring,
        head: u16,
        at: GuestAddress,
        status: u8,
        written: u64,
    ) -> Result<(), Broken> {
        self.ram.write_obj(status, at).map_err(|_| Broken::Memory)?;
        // A chain has at most 2^32 - 1 bytes, the status among them.
        ring.put(head, u32::try_from(written.saturating_add(1)).unwrap_or(u32::MAX))
    }
}

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
        let rest = [0, SEG_MAX, 0, image::SECTOR as u32].map(u32::to_le_bytes);
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
        self.pending.fill(None);
    }

    fn settle(&mut self) -> Work {
        let mut all = Work::default();
        loop {
            let Turn { work, more } = self.turn(|disk, ring| {
                let more = disk.take_requests(ring)?;
                disk.engine.drain(&mut disk.done);
                disk.complete_done(ring)?;
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
