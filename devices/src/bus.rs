//! Port and memory-mapped buses: which device answers an address.
//!
//! A [`Bus`] is a fixed table of address windows, filled before the first vCPU runs and only read afterwards,
//! so a lookup takes no lock. The same type serves both address spaces: a port is an address below 65,536.
//!
//! The one thing to hold in mind: an access always has an answer. Where nobody answers, a read gives all-ones
//! and a write is dropped, as on real hardware, and the caller learns it from the returned [`Access`].
//!
//! What a device needs done by the virtual machine monitor (end the machine, give a page back) is not done
//! here but returned, as a value of a type `A` that the monitor chooses. `A` is the monitor's own: devices of
//! this crate only ask that it can be made from what they have to say (see [`crate::exit_port::EndVm`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg(test)]
mod tests;

/// What came of one access.
#[must_use = "an access may ask the virtual machine monitor to act, or may have been refused"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<A> {
    /// The device took it; nothing further to do.
    Done,
    /// The device took it, and the monitor has to do `A` before the vCPU goes on.
    Then(A),
    /// Nothing happened. A read has given all-ones, a write was dropped.
    Refused(Refusal),
}

/// Why an access had no effect. All of these are the guest's doing and none is an error of the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No device has this address, or the access runs over the end of the device's window.
    Unclaimed,
    /// The device has no register at this offset.
    NoRegister,
    /// The register exists, but not for accesses of this width or alignment.
    Width,
    /// A read of a register that can only be written.
    WriteOnly,
    /// A write to a register that can only be read.
    ReadOnly,
    /// The value, or the moment, is one the device's specification forbids.
    Forbidden,
}

/// A device on a bus.
///
/// Called by any vCPU thread at any time, hence `&self`: a device keeps its registers behind a lock of its own.
/// `offset` counts from the start of the device's window and `offset + data.len()` never exceeds its length.
/// `data` is never empty; its length is whatever the guest used.
pub trait Device<A>: Send + Sync {
    /// Fills `data`, which arrives holding all-ones.
    fn read(&self, offset: u64, data: &mut [u8]) -> Access<A>;
    /// Takes `data`.
    fn write(&self, offset: u64, data: &[u8]) -> Access<A>;
}

/// A window of addresses, in bytes (or ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First address.
    pub base: u64,
    /// Number of addresses.
    pub len: u64,
}

impl Window {
    /// Last address of the window; `None` if the window is empty or runs over the end of the address space.
    pub fn last(self) -> Option<u64> {
        self.base.checked_add(self.len.checked_sub(1)?)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.base, self.len)
    }
}

/// Why a device could not be put on a bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BusError {
    /// The window has no addresses, or its end is not an address.
    #[error("The window {window} of device {name} is empty or runs over the end of the address space")]
    BadWindow {
        /// Device that was to be added.
        name: String,
        /// The window asked for.
        window: Window,
    },
    /// Two devices would answer the same address.
    #[error("The window {window} of device {name} overlaps {other_window}, which belongs to {other}")]
    Overlap {
        /// Device that was to be added.
        name: String,
        /// The window asked for.
        window: Window,
        /// Device that is there already.
        other: String,
        /// The window it has.
        other_window: Window,
    },
}

/// Accesses that a bus has seen, by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounts {
    /// Reads and writes taken by a device.
    pub claimed: u64,
    /// Reads that no device answered.
    pub unclaimed_reads: u64,
    /// Writes that no device took.
    pub unclaimed_writes: u64,
    /// Accesses that a device refused.
    pub refused: u64,
}

struct Slot<A> {
    window: Window,
    last: u64,
    name: String,
    device: Arc<dyn Device<A>>,
}

/// A table of devices by address. See the [module documentation](self).
pub struct Bus<A> {
    /// Sorted by address; windows are disjoint.
    slots: Vec<Slot<A>>,
    claimed: AtomicU64,
    unclaimed_reads: AtomicU64,
    unclaimed_writes: AtomicU64,
    refused: AtomicU64,
}

impl<A> Default for Bus<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> Bus<A> {
    /// A bus with no devices.
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            claimed: AtomicU64::new(0),
            unclaimed_reads: AtomicU64::new(0),
            unclaimed_writes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Gives `device` the addresses of `window`. `name` is only for messages.
    pub fn insert(&mut self, name: &str, window: Window, device: Arc<dyn Device<A>>) -> Result<(), BusError> {
        let last = window.last().ok_or_else(|| BusError::BadWindow { name: name.to_owned(), window })?;
        if let Some(other) = self.slots.iter().find(|s| s.window.base <= last && window.base <= s.last) {
            return Err(BusError::Overlap {
                name: name.to_owned(),
                window,
                other: other.name.clone(),
                other_window: other.window,
            });
        }
        let at = self.slots.partition_point(|s| s.window.base < window.base);
        self.slots.insert(at, Slot { window, last, name: name.to_owned(), device });
        Ok(())
    }

    /// Reads `data.len()` bytes at `addr`. Whatever is returned, `data` holds what the guest shall see.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> Access<A> {
        data.fill(0xff);
        let Some((device, offset)) = self.find(addr, data.len()) else {
            self.unclaimed_reads.fetch_add(1, Relaxed);
            return Access::Refused(Refusal::Unclaimed);
        };
        let access = device.read(offset, data);
        if let Access::Refused(_) = access {
            data.fill(0xff);
        }
        self.count(access)
    }

    /// Writes `data` at `addr`.
    pub fn write(&self, addr: u64, data: &[u8]) -> Access<A> {
        let Some((device, offset)) = self.find(addr, data.len()) else {
            self.unclaimed_writes.fetch_add(1, Relaxed);
            return Access::Refused(Refusal::Unclaimed);
        };
        let access = device.write(offset, data);
        self.count(access)
    }

    /// Port read of `data.len() / width` transfers from `port`, `width` bytes each: more than one for a string
    /// instruction. Ends early, with all-ones for the rest, if a transfer asks the monitor to act.
    pub fn port_in(&self, port: u16, width: usize, data: &mut [u8]) -> Access<A> {
        data.fill(0xff);
        let mut answer = Access::Done;
        for transfer in data.chunks_mut(width.max(1)) {
            match self.read(u64::from(port), transfer) {
                Access::Done => {}
                refused @ Access::Refused(_) => answer = refused,
                then @ Access::Then(_) => return then,
            }
        }
        answer
    }

    /// Port write of `data.len() / width` transfers to `port`, `width` bytes each. Ends early if a transfer asks
    /// the monitor to act.
    pub fn port_out(&self, port: u16, width: usize, data: &[u8]) -> Access<A> {
        let mut answer = Access::Done;
        for transfer in data.chunks(width.max(1)) {
            match self.write(u64::from(port), transfer) {
                Access::Done => {}
                refused @ Access::Refused(_) => answer = refused,
                then @ Access::Then(_) => return then,
            }
        }
        answer
    }

    /// The windows in use with their devices' names, in order of address.
    pub fn windows(&self) -> impl Iterator<Item = (&str, Window)> {
        self.slots.iter().map(|s| (s.name.as_str(), s.window))
    }

    /// What the bus has seen so far.
    pub fn counts(&self) -> BusCounts {
        BusCounts {
            claimed: self.claimed.load(Relaxed),
            unclaimed_reads: self.unclaimed_reads.load(Relaxed),
            unclaimed_writes: self.unclaimed_writes.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    fn count(&self, access: Access<A>) -> Access<A> {
        let counter = match access {
            Access::Refused(_) => &self.refused,
            _ => &self.claimed,
        };
        counter.fetch_add(1, Relaxed);
        access
    }

    fn find(&self, addr: u64, len: usize) -> Option<(&dyn Device<A>, u64)> {
        let after = self.slots.partition_point(|s| s.window.base <= addr);
        let slot = self.slots.get(after.checked_sub(1)?)?;
        let offset = addr.checked_sub(slot.window.base)?;
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        (len != 0 && end <= slot.window.len).then_some((slot.device.as_ref(), offset))
    }
}

impl<A> fmt::Debug for Bus<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.windows()).finish()
    }
}
