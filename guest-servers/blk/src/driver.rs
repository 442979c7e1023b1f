//! Requests between the servers and the device.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use refault_abi::bdev::{Geometry, Transfer};
use refault_abi::counters::Counter;
use refault_abi::kcall::PhysRange;
use refault_abi::{Errno, GrantId, Message, Result, grant};
use refault_blk::device::feature;
use refault_blk::order;
use refault_blk::poll::Budget;
use refault_blk::request::{Direction, PIECES, Progress, SECTOR};
use refault_blk::ring::{Piece, Ring};
use refault_rt::ipc::Received;
use refault_rt::server::Answer;
use refault_rt::{diag, info, kernel};

use crate::hardware::{Hardware, REQUESTS};

/// Request types of the device.
const TYPE_READ: u32 = 0;
const TYPE_WRITE: u32 = 1;
const TYPE_FLUSH: u32 = 4;
/// Status byte: done.
const STATUS_OK: u8 = 0;
/// What the status byte holds until the device writes it.
const STATUS_NONE: u8 = 0xff;

/// What a server asked for.
enum Work {
    Transfer(Progress),
    Flush,
}

/// A request in flight.
struct InFlight {
    request: Received,
    work: Work,
    /// Its first descriptor.
    head: u16,
    /// Ticks that it has seen go by, see [`Driver::tick`].
    ticks: u32,
}

/// Ticks after which a device that has not answered is given up.
const TICKS_MAX: u32 = 2;

/// The device with everything in flight.
pub struct Driver {
    hardware: Hardware,
    ring: Ring<'static>,
    flights: [Option<InFlight>; REQUESTS],
    /// Requests for which there was no room, or whose turn it is not yet.
    waiting: Vec<(Received, Work)>,
    budget: Budget,
    broken: bool,
}

impl Driver {
    /// Over a device that has been started.
    pub fn new(hardware: Hardware) -> Driver {
        let agreed = hardware.agreed;
        let ring = Ring::new(&hardware.shared.ring, agreed.queue_size, agreed.has(feature::EVENT_INDEX));
        let flights = [const { None }; REQUESTS];
        Driver { hardware, ring, flights, waiting: Vec::new(), budget: Budget::new(), broken: false }
    }

    /// GEOMETRY.
    pub fn geometry(&self) -> Geometry {
        let agreed = &self.hardware.agreed;
        Geometry {
            result: 0,
            bytes: agreed.sectors.saturating_mul(SECTOR),
            block: agreed.block,
            read_only: u32::from(agreed.has(feature::READ_ONLY)),
        }
    }

    /// Begins READ or WRITE. Always true: it is under way.
    pub fn transfer(
        &mut self,
        request: &Received,
        transfer: &Transfer,
        direction: Direction,
    ) -> Result<bool> {
        info::count(Counter::BlkRequests, 1);
        let agreed = &self.hardware.agreed;
        let read_only = agreed.has(feature::READ_ONLY);
        let progress = Progress::check(transfer, direction, agreed.sectors, read_only)?;
        self.begin(request, Work::Transfer(progress))
    }

    /// Begins FLUSH. False when there is nothing to do: a device without the feature has no cache.
    pub fn flush(&mut self, request: &Received) -> Result<bool> {
        info::count(Counter::BlkRequests, 1);
        if !self.hardware.agreed.has(feature::FLUSH) {
            return Ok(false);
        }
        self.begin(request, Work::Flush)
    }

    /// The answer for a request that failed.
    pub fn failed(&self, error: Errno) -> Answer {
        info::count(Counter::BlkErrors, 1);
        Answer::unit(Err(error))
    }

    fn begin(&mut self, request: &Received, work: Work) -> Result<bool> {
        if self.broken {
            return Err(Errno::EIO);
        }
        match self.flights.iter().position(Option::is_none) {
            Some(slot) if !self.has_to_wait(request) => self.submit(slot, request, work)?,
            _ => self.waiting.push((*request, work)),
        }
        Ok(true)
    }

    /// Whether a request is a successor's, and its predecessor's are not over yet.
    fn has_to_wait(&self, request: &Received) -> bool {
        let sender = request.message.sender();
        self.flights.iter().flatten().any(|flight| order::waits_for(sender, flight.request.message.sender()))
    }

    /// Most pieces of data in a part.
    fn most_pieces(&self) -> usize {
        let agreed = &self.hardware.agreed;
        // Beside the data there are a header and a status byte.
        let room = usize::from(self.ring.size()).saturating_sub(2);
        let room = if agreed.has(feature::INDIRECT) { PIECES } else { room };
        PIECES.min(agreed.segments as usize).min(room).max(1)
    }

    /// Hands the next part of a request to the device.
    fn submit(&mut self, slot: usize, request: &Received, mut work: Work) -> Result<()> {
        let frame = self.hardware.shared.frames.get(slot).ok_or(Errno::EIO)?;
        let header = Piece { address: self.hardware.header(slot), bytes: 16, device_writes: false };
        let mut pieces = Vec::with_capacity(PIECES + 2);
        pieces.push(header);
        let (kind, sector) = match &mut work {
            Work::Flush => (TYPE_FLUSH, 0),
            Work::Transfer(progress) => {
                let most = self.most_pieces();
                progress.next_part(most).ok_or(Errno::EINVAL)?;
                let reads = progress.transfer.direction == Direction::Read;
                // Reading from the disk writes memory.
                let access = if reads { grant::WRITE } else { grant::READ };
                let mut ranges = [PhysRange::default(); PIECES];
                let granter = request.message.sender();
                let grant = GrantId(progress.transfer.grant);
                let count = kernel::vumap_grant(
                    granter,
                    grant,
                    progress.offset(),
                    progress.part,
                    access,
                    ranges.get_mut(..most).unwrap_or_default(),
                )?;
                let mut bytes = 0;
                for range in ranges.iter().take(count) {
                    let length = u32::try_from(range.bytes).map_err(|_| Errno::EIO)?;
                    pieces.push(Piece { address: range.address, bytes: length, device_writes: reads });
                    bytes += range.bytes;
                }
                if bytes != progress.part {
                    return Err(Errno::EIO);
                }
                (if reads { TYPE_READ } else { TYPE_WRITE }, progress.sector())
            }
        };
        frame.kind.store(kind, Ordering::Relaxed);
        frame.reserved.store(0, Ordering::Relaxed);
        frame.sector.store(sector, Ordering::Relaxed);
        frame.status.store(STATUS_NONE, Ordering::Relaxed);
        pieces.push(Piece { address: self.hardware.status(slot), bytes: 1, device_writes: true });
        let head = if self.hardware.agreed.has(feature::INDIRECT) {
            let table = self.hardware.shared.tables.get(slot).ok_or(Errno::EIO)?;
            self.ring.add_indirect(table, self.hardware.table(slot), &pieces)
        } else {
            self.ring.add(&pieces)
        };
        let Some(head) = head else {
            // Other requests hold the descriptors: this one has its turn when they are done.
            self.waiting.push((*request, work));
            return Ok(());
        };
        if let Some(place) = self.flights.get_mut(slot) {
            *place = Some(InFlight { request: *request, work, head, ticks: 0 });
        }
        self.ring.want_interrupt(false);
        if self.ring.publish() {
            self.hardware.notify();
        }
        Ok(())
    }

    /// Looks for answers for a while; then asks for an interrupt.
    pub fn poll(&mut self, done: &mut Vec<(Received, Message)>) {
        loop {
            let answered = (0..self.budget.turns()).any(|_| {
                core::hint::spin_loop();
                self.ring.has_used()
            });
            self.budget.learn(answered);
            if !answered {
                self.ring.want_interrupt(true);
                // An answer just before the wish was seen raises no interrupt.
                if !self.ring.has_used() {
                    return;
                }
                self.ring.want_interrupt(false);
            }
            self.collect(done);
            if self.broken || self.flights.iter().all(Option::is_none) {
                return;
            }
        }
    }

    /// Whether the device has something to do.
    pub fn is_busy(&self) -> bool {
        self.flights.iter().any(Option::is_some)
    }

    /// Whether a HARDWARE notification with these lines is about this device. The lines are counted modulo 64.
    pub fn is_interrupted(&self, lines: u64) -> bool {
        lines & 1_u64.wrapping_shl(self.hardware.line) != 0
    }

    /// Time has gone by. A device that does not answer is stopped, so that whoever waits for it does not for ever.
    pub fn tick(&mut self, done: &mut Vec<(Received, Message)>) {
        // What it has answered already is an answer, interrupt or not.
        self.collect(done);
        let mut oldest = 0;
        for flight in self.flights.iter_mut().flatten() {
            flight.ticks = flight.ticks.saturating_add(1);
            oldest = oldest.max(flight.ticks);
        }
        if oldest >= TICKS_MAX {
            diag!("blk: the device of line {} does not answer: given up", self.hardware.line);
            self.give_up(done);
        }
    }

    /// The device has interrupted.
    pub fn interrupt(&mut self, done: &mut Vec<(Received, Message)>) {
        self.hardware.acknowledge();
        self.collect(done);
        if !self.broken && self.flights.iter().any(Option::is_some) {
            self.poll(done);
        }
    }

    /// Takes every answer there is.
    fn collect(&mut self, done: &mut Vec<(Received, Message)>) {
        loop {
            match self.ring.next_used() {
                Ok(None) => break,
                Ok(Some(used)) => {
                    let slot = self
                        .flights
                        .iter()
                        .position(|flight| flight.as_ref().is_some_and(|flight| flight.head == used.head));
                    let flight = slot.and_then(|slot| self.flights.get_mut(slot)).and_then(Option::take);
                    if let (Some(slot), Some(flight)) = (slot, flight) {
                        self.answered(slot, flight, done);
                    }
                }
                Err(_) => {
                    diag!("blk: the device used a buffer it does not have: given up");
                    self.give_up(done);
                }
            }
        }
        self.admit(done);
    }

    /// Part or all of a request is done.
    fn answered(&mut self, slot: usize, flight: InFlight, done: &mut Vec<(Received, Message)>) {
        let status = self.hardware.shared.frames.get(slot).map(|frame| frame.status.load(Ordering::Acquire));
        let result = match flight.work {
            _ if status != Some(STATUS_OK) => Err(Errno::EIO),
            Work::Flush => Ok(0),
            Work::Transfer(mut progress) => {
                progress.part_done();
                if progress.done < progress.transfer.bytes {
                    match self.submit(slot, &flight.request, Work::Transfer(progress)) {
                        Ok(()) => return,
                        Err(error) => Err(error),
                    }
                } else {
                    Ok(progress.done)
                }
            }
        };
        let answer = match result {
            Ok(count) => Answer::status(Ok(count)),
            Err(error) => self.failed(error),
        };
        crate::answer(done, &flight.request, answer);
    }

    /// Begins requests that waited for room.
    fn admit(&mut self, done: &mut Vec<(Received, Message)>) {
        while !self.broken && !self.waiting.is_empty() {
            let Some(slot) = self.flights.iter().position(Option::is_none) else { return };
            let before = self.waiting.len();
            // In order: behind one that waits for a predecessor's last requests the others wait, too, which is not for long.
            if self.waiting.first().is_some_and(|(request, _)| self.has_to_wait(request)) {
                return;
            }
            let (request, work) = self.waiting.remove(0);
            if let Err(error) = self.submit(slot, &request, work) {
                crate::answer(done, &request, self.failed(error));
            } else if self.waiting.len() == before {
                // Still no descriptors.
                return;
            }
        }
    }

    /// Answers everything with EIO from now on.
    fn give_up(&mut self, done: &mut Vec<(Received, Message)>) {
        self.broken = true;
        // Before anybody uses the memory of these requests for something else.
        self.hardware.stop();
        let flights = self.flights.iter_mut().filter_map(Option::take).map(|flight| flight.request);
        let all: Vec<Received> = flights.chain(self.waiting.drain(..).map(|(request, _)| request)).collect();
        for request in all {
            crate::answer(done, &request, self.failed(Errno::EIO));
        }
    }
}
