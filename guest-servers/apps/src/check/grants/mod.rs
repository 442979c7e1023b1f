//! G1 to G10: grants without a file system. The granter is the test, the grantee its second party, and the other way round.

pub mod chains;
pub mod errors;
pub mod lifetime;
pub mod vectors;

use alloc::string::String;

use refault_abi::grant::{DIRECT, USED, VALID};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, GrantId, pattern, vm};
use refault_rt::{pages, user};

use super::party::Party;
use super::suite::Explain;
use super::table::{RawEntry, RawTable};

/// Pattern of what is granted.
pub const GRANTED: u32 = 0x61;
/// A usable entry.
pub const READY: u16 = USED | VALID;
/// Entries of the test's own table.
pub const ENTRIES: usize = 64;
/// Bytes of the arenas.
pub const ARENA: u64 = 4 * PAGE;

/// Everything the tests share.
pub struct World {
    /// The test itself.
    pub me: Endpoint,
    /// The second party.
    pub peer: Party,
    /// Memory of the test, filled with [`GRANTED`].
    pub mine: u64,
    /// Memory of the peer, present.
    pub theirs: u64,
    /// The test's own table.
    pub table: RawTable,
}

impl World {
    /// Starts the peer and maps both arenas. The table is not registered yet.
    pub fn new() -> Result<World, String> {
        let peer = Party::start()?;
        let theirs = peer.map(ARENA, true)?;
        let mine = pages::map(ARENA, vm::MAP_POPULATE).explain("memory")?;
        let world = World {
            me: user::getpid().explain("getpid")?,
            peer,
            mine,
            theirs,
            table: RawTable::new(ENTRIES).explain("a table")?,
        };
        pattern::fill(GRANTED, 0, world.arena());
        Ok(world)
    }

    /// The test's arena.
    #[expect(clippy::mut_from_ref, reason = "the kernel writes it, too; each caller looks at once")]
    pub fn arena(&self) -> &mut [u8] {
        let start = core::ptr::with_exposed_provenance_mut::<u8>(self.mine as usize);
        // SAFETY: mapped for this purpose, readable and writable; no caller keeps the slice across a request or another call.
        unsafe { core::slice::from_raw_parts_mut(start, ARENA as usize) }
    }

    /// A direct entry to anybody.
    pub fn direct(&self, flags: u16, start: u64, length: u64) -> RawEntry {
        RawEntry {
            flags: READY | DIRECT | flags,
            sequence: 7,
            grantee: self.peer.endpoint(),
            other: Endpoint::NONE,
            start,
            length,
        }
    }

    /// The peer copies 8 bytes out of a grant of the test: the bare outcome.
    pub fn copy(&self, id: GrantId) -> refault_abi::Result<u64> {
        self.peer.copy_from(self.me, id, 0, self.theirs, 8).whole()
    }
}
