//! Faults of the disk itself: which requests fail, come late, or are carried out in part only.
//!
//! The one thing to hold in mind: a plan decides once for each request, when the device takes it, and what it decides is what
//! becomes of it. What this is not: the rules of the command line. Whoever has rules turns them into a [`FaultPlan`].

use std::time::Duration;

use super::engine::Op;
use super::image::SECTOR;

/// A request that the device has taken and understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestSeen {
    /// What it does.
    pub op: Op,
    /// Byte offset on the disk; 0 for a flush.
    pub offset: u64,
    /// Bytes of data; 0 for a flush.
    pub bytes: u64,
    /// Its number among all that the device has taken since the plan was made its plan, from 1.
    pub number: u64,
}

/// What becomes of a request instead of its being carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing is transferred; the answer is IOERR.
    Error,
    /// It is carried out, and answered this much later.
    Delay(Duration),
    /// Of a write, the first so many sectors reach the disk, and the answer is OK: power that failed in the middle. Of a read, the
    /// rest of the buffer keeps what it held, and the answer is OK. A flush is not carried out, and the answer is OK.
    Torn {
        /// Sectors carried out.
        sectors: u64,
    },
    /// The first so many sectors are carried out, and the answer is IOERR: the guest knows that it is not all. A flush is not carried
    /// out, and the answer is IOERR.
    Short {
        /// Sectors carried out.
        sectors: u64,
    },
}

impl DiskFault {
    /// How many of a request's `bytes` of data are carried.
    pub(super) fn carries(self, bytes: u64) -> u64 {
        match self {
            Self::Error => 0,
            Self::Delay(_) => bytes,
            Self::Torn { sectors } | Self::Short { sectors } => sectors.saturating_mul(SECTOR).min(bytes),
        }
    }

    /// Whether the answer is IOERR even if all that was to be carried was.
    pub(super) fn fails(self) -> bool {
        matches!(self, Self::Error | Self::Short { .. })
    }
}

/// Decides what becomes of requests.
pub trait FaultPlan: Send {
    /// What becomes of this one; `None` leaves it alone.
    fn decide(&mut self, request: &RequestSeen) -> Option<DiskFault>;
}

/// A disk's plan, and how many requests it was asked about.
pub(super) struct Planned {
    plan: Box<dyn FaultPlan>,
    taken: u64,
}

impl Planned {
    pub fn new(plan: Box<dyn FaultPlan>) -> Self {
        Self { plan, taken: 0 }
    }

    /// What becomes of the next request.
    pub fn decide(&mut self, op: Op, offset: u64, bytes: u64) -> Option<DiskFault> {
        self.taken = self.taken.saturating_add(1);
        self.plan.decide(&RequestSeen { op, offset, bytes, number: self.taken })
    }
}
