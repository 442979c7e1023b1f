//! What the server stands on, as a trait: the block driver, VM, copies to and from users.
//!
//! In the guest these are messages and kernel calls (`guest.rs`); in the tests they are memory.

use core::fmt;

use refault_abi::bdev::Geometry;
use refault_abi::counters::Counter;
use refault_abi::{Endpoint, GrantId, Result};
use refault_rt::kernel::Moved;

/// Bytes of a page of a file, which is a page of the machine.
pub const PAGE: usize = refault_abi::layout::PAGE as usize;

/// The mount's device, as seen through its driver. Clones are handles to the same device.
///
/// Positions and lengths are multiples of 512. An error ends a request, never the server.
pub trait Disk: Clone {
    /// Size and kind.
    fn geometry(&mut self) -> Result<Geometry>;
    /// Fills `buffer` from byte `position` on.
    fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<()>;
    /// Fills each buffer from its position on, in as few requests as the driver can make of it. After an error the
    /// contents of all are unknown.
    fn read_many(&mut self, parts: &mut [(u64, &mut [u8])]) -> Result<()> {
        parts.iter_mut().try_for_each(|(position, buffer)| self.read(*position, buffer))
    }
    /// Stores `buffer` from byte `position` on.
    fn write(&mut self, position: u64, buffer: &[u8]) -> Result<()>;
    /// Everything written so far is on stable storage.
    fn flush(&mut self) -> Result<()>;
}

/// A page's place among all files: what VM knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    /// Inode number.
    pub inode: u32,
    /// Page of the file, in units of [`PAGE`].
    pub index: u32,
}

impl PageKey {
    /// Its first byte's offset into the file.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.index).saturating_mul(PAGE as u64)
    }
}

/// Everything outside of the server.
pub trait System {
    /// A page of the server's memory, exactly [`PAGE`] bytes, which can be lent to VM.
    type Page: AsRef<[u8]> + AsMut<[u8]>;
    /// The device.
    type Disk: Disk;

    /// A disk of a driver, by the driver's number.
    fn disk(&mut self, driver: Endpoint, disk: u32) -> Self::Disk;

    /// A page, present and of unknown contents.
    fn page(&mut self) -> Result<Self::Page>;
    /// Gives a page back. One that was announced is still VM's, and maybe mapped by somebody: it must not be used
    /// for anything else here.
    fn release(&mut self, page: Self::Page, announced: bool);

    /// Tells VM that this page holds that page of a file; `once` if it is to serve one use only.
    fn announce(&mut self, device: u64, key: PageKey, page: &Self::Page, once: bool) -> Result<()>;
    /// Maps the page that VM still has for that page of a file, if any. It counts as announced.
    fn adopt(&mut self, device: u64, key: PageKey) -> Result<Option<Self::Page>>;
    /// Tells VM that a page of a file is gone.
    fn forget(&mut self, device: u64, key: PageKey);
    /// Has VM drop every page of the device that nobody maps.
    fn clear(&mut self, device: u64);

    /// Copies into granted memory.
    fn copy_to(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: &[u8]) -> Moved;
    /// Copies out of granted memory.
    fn copy_from(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: &mut [u8]) -> Moved;

    /// Fills granted memory with zeroes.
    fn zero(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: u64) -> Moved;

    /// Adds to a counter.
    fn count(&mut self, counter: Counter, amount: u64);
    /// A line for the log.
    fn log(&mut self, line: fmt::Arguments<'_>);
}
