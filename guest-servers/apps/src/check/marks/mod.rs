//! M1 to M12: CPF_TRY and the mark. The test is the granter; its second party copies.
//!
//! The one thing to hold in mind: what a mark says depends on how the machine keeps marks. `mark=atomic` says side, access,
//! stage and address; the seed's modes say only that there was a fault.

pub mod places;
pub mod rules;
pub mod storing;

use alloc::string::String;

use refault_abi::layout::PAGE;
use refault_abi::options::Mark;
use refault_abi::{Endpoint, pattern};
use refault_rt::grants::table::{Access, Side, SoftFault};
use refault_rt::grants::{Builder, Grant};
use refault_rt::user;

use super::buffer::{Buffer, Mapped, Stage};
use super::party::Party;
use super::schedule::Layout;
use super::suite::Explain;

/// Pattern of the peer's memory.
pub const THEIRS: u32 = 0x62;
/// Bytes of the peer's arena, which is present.
pub const ARENA: u64 = 8 * PAGE;

/// Everything the tests share.
pub struct World {
    /// The test itself.
    pub me: Endpoint,
    /// The second party.
    pub peer: Party,
    /// Memory of the peer, present, filled with [`THEIRS`].
    pub theirs: u64,
    /// How marks are kept.
    pub mark: Mark,
}

impl World {
    /// Starts the peer.
    pub fn new(mark: Mark) -> Result<World, String> {
        let peer = Party::start()?;
        let theirs = peer.map(ARENA, true)?;
        peer.fill(theirs, ARENA, THEIRS, 0)?;
        Ok(World { me: user::getpid().explain("getpid")?, peer, theirs, mark })
    }

    /// A grant with CPF_TRY over a buffer, for reading and writing.
    pub fn lend(&self, buffer: &Buffer) -> Builder {
        let bytes = buffer.layout().bytes;
        Grant::direct(self.peer.endpoint(), buffer.address(), bytes).read().write().try_only(true)
    }

    /// Whether a mark says what it has to say in this machine.
    pub fn check_mark(
        &self,
        seen: Option<SoftFault>,
        side: Side,
        access: Access,
        second_stage: bool,
        address: u64,
    ) -> Result<(), String> {
        let Some(fault) = seen else { return Err(String::from("no mark")) };
        if self.mark != Mark::Atomic {
            return Ok(());
        }
        let wanted = SoftFault { side, access, second_stage, address };
        super::suite::expect("the mark", fault, wanted)
    }
}

/// Anonymous memory with absent pages.
pub fn anonymous(layout: Layout, stage: Stage) -> Result<Buffer, String> {
    Buffer::new(Mapped::ANONYMOUS, layout, stage, true)
}

/// Whether bytes are the peer's pattern from `offset` on.
pub fn is_theirs(bytes: &[u8], offset: u64) -> bool {
    pattern::matching_prefix(THEIRS, offset, bytes) == bytes.len()
}
