//! The virtio block device.
//!
//! A request goes through three files: `ring.rs` hands out a chain, `request.rs` reads it into a value that
//! needs no second look at guest memory, and an [`engine`] carries it out. [`Block`] ties them together, keeping
//! for each head in flight a `PendingRequest` with all that completion needs. `device.rs` is what the transport sees of it.
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

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use virtio_bindings::virtio_blk as abi;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use self::counters::{Counters, add};
use self::engine::overlay::{Overlay, OverlayEngine};
use self::engine::{Completion, Engine, EngineChoice, EngineError, GuestIov, Job, Op};
use self::faults::{DiskFault, FaultPlan, Planned};
use self::image::Image;
use self::late::{Late, LateAnswer};
use self::request::{Ask, ID_LEN, Limits, Request};
use self::ring::Ring;
use super::{Broken, GuestRam, Work};

pub mod counters;
mod device;
pub mod engine;
pub mod faults;
mod id;
pub mod image;
mod late;
mod request;
mod ring;
pub mod subscriber;
#[cfg(test)]
mod tests;

pub use device::BlockState;
pub use id::{BadDiskId, DiskId};

/// Largest queue size, and most requests in flight.
pub const QUEUE_SIZE: u16 = 256;

const STATUS_OK: u8 = abi::VIRTIO_BLK_S_OK as u8;
const STATUS_IOERR: u8 = abi::VIRTIO_BLK_S_IOERR as u8;
const STATUS_UNSUPP: u8 = abi::VIRTIO_BLK_S_UNSUPP as u8;

/// What completing a request in flight needs. Made when the chain is read, so that nothing is read again.
#[derive(Clone, Copy, Debug)]
struct PendingRequest {
    status: GuestAddress,
    op: Op,
    /// Bytes of data.
    bytes: u64,
    /// What the plan has for it.
    fault: Option<DiskFault>,
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
    plan: Option<Planned>,
    late: Late,
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
        Self::with_engine(image.sectors(), image.readonly(), id, engine, ram)
    }

    /// A disk in memory, over an image that stays as it is.
    pub fn on_overlay(
        overlay: &Overlay,
        readonly: bool,
        id: DiskId,
        ram: GuestRam,
    ) -> Result<Self, EngineError> {
        let engine = OverlayEngine::new(overlay.clone()).map_err(EngineError::Overlay)?;
        Self::with_engine(overlay.sectors(), readonly, id, Box::new(engine), ram)
    }

    fn with_engine(
        sectors: u64,
        read_only: bool,
        id: DiskId,
        engine: Box<dyn Engine>,
        ram: GuestRam,
    ) -> Result<Self, EngineError> {
        let late = Late::new().map_err(EngineError::Timer)?;
        let limits = Limits { sectors, read_only, descriptors: usize::from(QUEUE_SIZE) };
        Ok(Self {
            ram,
            limits,
            id,
            engine,
            counters: Arc::default(),
            ring: None,
            pending: vec![None; usize::from(QUEUE_SIZE)],
            flushes: false,
            plan: None,
            late,
            done: Vec::new(),
        })
    }

    /// Makes `plan` decide what becomes of requests from now on, instead of the plan until now. Those already taken keep what was
    /// decided for them.
    pub fn set_plan(&mut self, plan: Option<Box<dyn FaultPlan>>) {
        self.plan = plan.map(Planned::new);
    }

    /// A descriptor that is readable when a late answer is due. Not to be read.
    pub fn timer(&self) -> io::Result<OwnedFd> {
        self.late.timer()
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

    /// Gives the late answers whose time has come.
    pub(crate) fn on_timer(&mut self) -> Turn {
        let due = self.late.take_due(Instant::now());
        self.turn(|disk, ring| disk.answer_late(ring, &due).map(|()| false))
    }

    fn answer_late(&mut self, ring: &mut Ring, late: &[LateAnswer]) -> Result<(), Broken> {
        late.iter().try_for_each(|&LateAnswer { head, ok, .. }| match self.take_pending(head) {
            Some(pending) => self.finish(ring, head, pending, ok),
            None => Ok(()),
        })
    }

    fn take_pending(&mut self, head: u16) -> Option<PendingRequest> {
        self.pending.get_mut(usize::from(head)).and_then(Option::take)
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
        mut data: GuestIov,
    ) -> Result<(), Broken> {
        let bytes = data.len();
        let fault = self.plan.as_mut().and_then(|plan| plan.decide(op, offset, bytes));
        let pending = PendingRequest { status, op, bytes, fault };
        if let Some(fault) = fault {
            tracing::debug!(head, ?op, offset, bytes, ?fault, "disk fault");
            data.truncate(fault.carries(bytes));
        }
        let nothing = match op {
            // Of a flush there is all or nothing.
            Op::Flush => fault.is_some_and(|fault| !matches!(fault, DiskFault::Delay(_))),
            _ => data.is_empty(),
        };
        match self.pending.get_mut(usize::from(head)) {
            Some(slot) => *slot = Some(pending),
            None => return Err(Broken::HeadOutOfTable(head)),
        }
        if nothing {
            // Done already.
            return self.ended(ring, head, true);
        }
        self.engine.submit(Job { token: head, op, offset, data });
        Ok(())
    }

    fn complete(&mut self, ring: &mut Ring, completion: &Completion) -> Result<(), Broken> {
        let head = completion.token;
        if let Err(error) = &completion.result {
            tracing::warn!(head, %error, "disk request failed");
        }
        self.ended(ring, head, completion.result.is_ok())
    }

    /// A request has been carried out as far as it is going to be: answers it, now or later.
    fn ended(&mut self, ring: &mut Ring, head: u16, ok: bool) -> Result<(), Broken> {
        let Some(pending) = self.take_pending(head) else { return Ok(()) };
        let (Some(DiskFault::Delay(delay)), Some(slot)) =
            (pending.fault, self.pending.get_mut(usize::from(head)))
        else {
            return self.finish(ring, head, pending, ok);
        };
        *slot = Some(pending);
        self.late.hold(head, ok, Instant::now(), delay);
        Ok(())
    }

    /// Counts and answers a request that was carried out, or failed.
    fn finish(&self, ring: &mut Ring, head: u16, pending: PendingRequest, ok: bool) -> Result<(), Broken> {
        let PendingRequest { status, op, bytes, fault } = pending;
        let c = &self.counters;
        if let Some(fault) = fault {
            c.answered(fault);
        }
        let carried = fault.map_or(bytes, |fault| fault.carries(bytes));
        if !ok || fault.is_some_and(DiskFault::fails) {
            add(&c.errors, 1);
            return self.answer(ring, head, status, STATUS_IOERR, 0);
        }
        let written = match op {
            Op::Read => {
                add(&c.reads, 1);
                add(&c.bytes_read, carried);
                bytes
            }
            Op::Write { .. } => {
                add(&c.writes, 1);
                add(&c.bytes_written, carried);
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
