//! Endpoints: process addresses that a restart invalidates.
//!
//! `endpoint = generation * 32768 + slot` (specification 1.1). Whoever stores an endpoint compares all
//! of it: that is what keeps a restarted server from inheriting its dead predecessor's grants.

use core::fmt;

/// Address of one incarnation of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Endpoint(i32);

/// Slots per generation.
const GENERATION_SIZE: i32 = 32768;
/// Lowest slot of the layout (kernel tasks are negative).
const MIN_SLOT: i32 = -1023;
/// The last generation; the next one is 1, because 0 is the boot processes' for ever.
pub const MAX_GENERATION: i32 = 65534;
/// Process slots this kernel has.
pub const NR_PROCS: usize = 64;

impl Endpoint {
    /// Any source; any grantee.
    pub const ANY: Endpoint = Endpoint(31744);
    /// No process.
    pub const NONE: Endpoint = Endpoint(31743);
    /// The caller itself.
    pub const SELF: Endpoint = Endpoint(31742);

    /// The process manager.
    pub const PM: Endpoint = Endpoint(0);
    /// The virtual file system.
    pub const VFS: Endpoint = Endpoint(1);
    /// The reincarnation server.
    pub const RS: Endpoint = Endpoint(2);
    /// The block driver.
    pub const BLK: Endpoint = Endpoint(3);
    /// The second file system, when there is a second disk: mounted at `/mnt`.
    pub const MFS2: Endpoint = Endpoint(4);
    /// The terminal.
    pub const TTY: Endpoint = Endpoint(5);
    /// Virtual memory.
    pub const VM: Endpoint = Endpoint(8);
    /// The pipe file system.
    pub const PIPEFS: Endpoint = Endpoint(9);
    /// The root file system.
    pub const MFS: Endpoint = Endpoint(10);
    /// The first user process.
    pub const INIT: Endpoint = Endpoint(11);
    /// First slot for processes created at run time.
    pub const FIRST_DYNAMIC_SLOT: usize = 12;

    /// Source of notifications about finished asynchronous sends.
    pub const ASYNCM: Endpoint = Endpoint(-5);
    /// Source of clock notifications.
    pub const CLOCK: Endpoint = Endpoint(-3);
    /// Source of interrupt notifications and of signals from the kernel.
    pub const HARDWARE: Endpoint = Endpoint(-1);

    /// The endpoint of `slot` in `generation`.
    pub const fn new(generation: i32, slot: i32) -> Endpoint {
        Endpoint(generation * GENERATION_SIZE + slot)
    }

    /// Whatever a message or register said; nothing is checked.
    pub const fn from_raw(raw: i32) -> Endpoint {
        Endpoint(raw)
    }

    /// The number as it travels.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Slot part, negative for kernel tasks.
    pub const fn slot(self) -> i32 {
        (self.0.wrapping_sub(MIN_SLOT)).rem_euclid(GENERATION_SIZE) + MIN_SLOT
    }

    /// Generation part.
    pub const fn generation(self) -> i32 {
        self.0.wrapping_sub(MIN_SLOT).div_euclid(GENERATION_SIZE)
    }

    /// Index into a table of process slots, if the slot exists.
    pub const fn index(self) -> Option<usize> {
        let slot = self.slot();
        if slot >= 0 && (slot as usize) < NR_PROCS && self.generation() >= 0 {
            Some(slot as usize)
        } else {
            None
        }
    }

    /// The next incarnation of the same slot.
    pub const fn next_generation(self) -> Endpoint {
        let generation = self.generation();
        let next = if generation >= MAX_GENERATION { 1 } else { generation + 1 };
        Endpoint::new(next, self.slot())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Endpoint::ANY => f.write_str("ANY"),
            Endpoint::NONE => f.write_str("NONE"),
            Endpoint::SELF => f.write_str("SELF"),
            _ => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for (generation, slot) in [(0, 0), (0, -5), (1, 63), (7, -3), (MAX_GENERATION, 12)] {
            let endpoint = Endpoint::new(generation, slot);
            assert_eq!((endpoint.generation(), endpoint.slot()), (generation, slot));
        }
    }

    #[test]
    fn special_endpoints_are_no_slots() {
        for special in [Endpoint::ANY, Endpoint::NONE, Endpoint::SELF] {
            assert_eq!(special.generation(), 0);
            assert_eq!(special.index(), None);
        }
        assert_eq!(Endpoint::from_raw(i32::MIN).index(), None);
    }

    #[test]
    fn generations_wrap_to_one() {
        assert_eq!(Endpoint::new(MAX_GENERATION, 3).next_generation(), Endpoint::new(1, 3));
        assert_eq!(Endpoint::VFS.next_generation(), Endpoint::new(1, 1));
    }
}
