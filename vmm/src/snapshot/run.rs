//! A run of a session: what it is given, and what came of it.
//!
//! The one thing to hold in mind: every figure here is of this run alone. Counters that go on over the life of a machine are given
//! as they were at the ready mark and as they are at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::inject::injector::FaultEvent;
use crate::inject::matcher::SiteName;
use crate::inject::{FaultCounters, Rule};
use crate::vm::End;
use crate::vm::outcome::GuestEvent;

/// What a run is given.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Injection rules, of guest memory and of disks. Request numbers in them count the requests seen since the ready mark, from 1.
    pub rules: Vec<Rule>,
    /// What the guest's program reads from the doorbell's ARGUMENT.
    pub argument: u64,
    /// What random shares in the rules are drawn from.
    pub seed: u64,
    /// How long it may take; `None` for no limit.
    pub timeout: Option<Duration>,
    /// Whether every fault site passed is to be named in [`Ran::sites`], wanted by a rule or not.
    pub log_sites: bool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// Injection.
    pub counters: FaultCounters,
    /// Faults one by one, as far as they were kept.
    pub faults: Vec<FaultEvent>,
    /// Sites passed, in order, if [`Run::log_sites`]; request numbers count from 1 since the ready mark.
    pub sites: Vec<SiteName>,
    /// Words of the guest's counters page at the ready mark.
    pub guest_before: Arc<[u64]>,
    /// The same at the end.
    pub guest_after: Vec<u64>,
    /// Texts the guest reported, in order.
    pub reports: Vec<String>,
    /// Events the guest signalled, in order.
    pub events: Vec<GuestEvent>,
    /// What it printed.
    pub console: String,
    /// Its disks as they are at the end, in the order of their announcement.
    pub disks: Vec<DiskContents>,
    /// Faults that its disks carried out.
    pub disk_faults: u64,
    /// What was not at rest when the guest ended: requests of disks that were never answered. Empty when all is well.
    pub unfinished: Vec<String>,
    /// From the decision to put the machine back until its processor could run.
    pub restore: Duration,
    /// From there to the end.
    pub took: Duration,
}

/// Bytes of a piece in which a disk's changes are kept.
pub const DISK_BLOCK: usize = refault_devices::virtio::blk::engine::overlay::PIECE;

/// A disk's contents: an image that nobody changes, and what differs from it.
#[derive(Debug, Clone)]
pub struct DiskContents {
    /// The image that the machine was started with.
    pub base: Arc<[u8]>,
    /// Changed pieces by their number; each [`DISK_BLOCK`] bytes, the last one of an image perhaps less.
    pub changed: Arc<BTreeMap<u64, Box<[u8]>>>,
}

impl DiskContents {
    /// The whole image.
    pub fn image(&self) -> Vec<u8> {
        let mut image = self.base.to_vec();
        for (number, bytes) in self.changed.iter() {
            let at = usize::try_from(*number).ok().and_then(|number| number.checked_mul(DISK_BLOCK));
            let place = at.and_then(|at| image.get_mut(at..at.checked_add(bytes.len())?));
            if let Some(place) = place {
                place.copy_from_slice(bytes);
            }
        }
        image
    }
}
