//! A second party: the process `sys_peer`, which makes kernel calls as it is told and says what came of them.
//!
//! Orders and answers are messages. An order names a call and its operands; addresses are the peer's own, in memory that
//! [`Party::map`] has it map. The one thing to hold in mind: an order can be posted and its answer fetched later, which is how a
//! test does something while the peer is suspended in a call.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::message::REPLY;
use refault_abi::pattern;
use refault_abi::vm::MAP_POPULATE;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use refault_rt::grants::Grant;
use refault_rt::kernel::{self, Moved};
use refault_rt::{ipc, pages, user};

use super::suite::Explain;

/// Name of the peer's program.
pub const PROGRAM: &str = "sys_peer";

/// SAFECOPYFROM: granter, grant, offset, address, bytes.
const COPY_FROM: u16 = 0x7301;
/// SAFECOPYTO: the same.
const COPY_TO: u16 = 0x7302;
/// SAFEMEMSET: granter, grant, offset, byte, bytes.
const MEMSET: u16 = 0x7303;
/// Anonymous memory: bytes, MAP flags. Answers the address.
const MAP: u16 = 0x7304;
/// A pattern into memory: address, bytes, id, offset in the pattern.
const FILL: u16 = 0x7305;
/// How many bytes of memory are a pattern's: the same. Answers the prefix.
const MATCH: u16 = 0x7306;
/// A direct grant: grantee, address, bytes, access bits. Answers the id.
const GRANT: u16 = 0x7307;
/// An indirect grant: grantee, granter, id. Answers the id.
const PASS_ON: u16 = 0x7308;
/// Revokes what it granted: id. Answers 1 if it was marked.
const REVOKE: u16 = 0x7309;
/// Ends.
const END: u16 = 0x730a;

/// The peer, seen from the test.
#[derive(Debug)]
pub struct Party {
    endpoint: Endpoint,
}

/// Words of a message that name a process.
fn word(endpoint: Endpoint) -> u64 {
    endpoint.raw().cast_unsigned().into()
}

/// And back.
fn endpoint(word: u64) -> Endpoint {
    Endpoint::from_raw((word as u32).cast_signed())
}

/// The operands of an order to copy; `what` is the address of the peer's memory, or a byte.
fn copy_words(granter: Endpoint, grant: GrantId, offset: u64, what: u64, bytes: u64) -> [u64; 5] {
    [word(granter), grant.0.cast_unsigned(), offset, what, bytes]
}

impl Party {
    /// Starts one.
    pub fn start() -> core::result::Result<Party, String> {
        let me = user::getpid().explain("getpid")?;
        let own = format!("{}", me.raw());
        let endpoint = user::spawn([PROGRAM, &own]).explain("spawning the peer")?;
        Ok(Party { endpoint })
    }

    /// Who it is.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Gives an order without waiting for its answer.
    fn post(&self, order: u16, words: &[u64]) -> Result<()> {
        let mut message = Message::bare(order);
        for (place, word) in message.payload.iter_mut().zip(words) {
            *place = *word;
        }
        ipc::send(self.endpoint, &message)
    }

    /// The answer to an order: result and a value.
    fn answer(&self) -> Result<(Result<u64>, u64)> {
        let [result, value, ..] = ipc::receive(self.endpoint)?.message.payload;
        Ok((Errno::check(result.cast_signed()), value))
    }

    /// Whether the answer is there already.
    pub fn has_answered(&self) -> Option<Moved> {
        let [result, bytes, ..] = ipc::receivenb(self.endpoint).ok()?.message.payload;
        Some(Moved { bytes, result: Errno::check(result.cast_signed()).map(drop), fault: 0 })
    }

    fn order(&self, order: u16, words: &[u64]) -> Result<u64> {
        self.post(order, words)?;
        self.answer()?.0
    }

    fn copy(&self, order: u16, words: &[u64]) -> Moved {
        match self.post(order, words) {
            Ok(()) => self.copied(),
            Err(error) => Moved { bytes: 0, result: Err(error), fault: 0 },
        }
    }

    /// SAFECOPYFROM into the peer's memory.
    pub fn copy_from(
        &self,
        granter: Endpoint,
        grant: GrantId,
        offset: u64,
        address: u64,
        bytes: u64,
    ) -> Moved {
        self.copy(COPY_FROM, &copy_words(granter, grant, offset, address, bytes))
    }

    /// SAFECOPYTO out of the peer's memory.
    pub fn copy_to(&self, granter: Endpoint, grant: GrantId, offset: u64, address: u64, bytes: u64) -> Moved {
        self.copy(COPY_TO, &copy_words(granter, grant, offset, address, bytes))
    }

    /// The same, without waiting for the end.
    pub fn post_copy_to(
        &self,
        granter: Endpoint,
        grant: GrantId,
        offset: u64,
        address: u64,
        bytes: u64,
    ) -> Result<()> {
        self.post(COPY_TO, &copy_words(granter, grant, offset, address, bytes))
    }

    /// SAFECOPYFROM, without waiting for the end.
    pub fn post_copy_from(
        &self,
        granter: Endpoint,
        grant: GrantId,
        offset: u64,
        address: u64,
        bytes: u64,
    ) -> Result<()> {
        self.post(COPY_FROM, &copy_words(granter, grant, offset, address, bytes))
    }

    /// The end of a posted copy.
    pub fn copied(&self) -> Moved {
        match self.answer() {
            Ok((result, bytes)) => Moved { bytes, result: result.map(drop), fault: 0 },
            Err(error) => Moved { bytes: 0, result: Err(error), fault: 0 },
        }
    }

    /// SAFEMEMSET.
    pub fn memset(&self, granter: Endpoint, grant: GrantId, offset: u64, byte: u8, bytes: u64) -> Moved {
        self.copy(MEMSET, &copy_words(granter, grant, offset, byte.into(), bytes))
    }

    /// Anonymous memory of the peer: absent, or present at once.
    pub fn map(&self, bytes: u64, present: bool) -> core::result::Result<u64, String> {
        let flags = if present { MAP_POPULATE } else { 0 };
        self.order(MAP, &[bytes, flags.into()]).explain("the peer's memory")
    }

    /// A pattern into the peer's memory.
    pub fn fill(&self, address: u64, bytes: u64, id: u32, offset: u64) -> core::result::Result<(), String> {
        self.order(FILL, &[address, bytes, id.into(), offset]).explain("filling the peer's memory").map(drop)
    }

    /// How many bytes of the peer's memory are a pattern's.
    pub fn matching(
        &self,
        address: u64,
        bytes: u64,
        id: u32,
        offset: u64,
    ) -> core::result::Result<u64, String> {
        self.order(MATCH, &[address, bytes, id.into(), offset]).explain("looking at the peer's memory")
    }

    /// A direct grant of the peer.
    pub fn grant(
        &self,
        grantee: Endpoint,
        address: u64,
        bytes: u64,
        access: u16,
    ) -> core::result::Result<GrantId, String> {
        let id = self.order(GRANT, &[word(grantee), address, bytes, access.into()]);
        id.map(|id| GrantId(id.cast_signed())).explain("a grant of the peer")
    }

    /// An indirect grant of the peer.
    pub fn pass_on(
        &self,
        grantee: Endpoint,
        granter: Endpoint,
        id: GrantId,
    ) -> core::result::Result<GrantId, String> {
        let id = self.order(PASS_ON, &[word(grantee), word(granter), id.0.cast_unsigned()]);
        id.map(|id| GrantId(id.cast_signed())).explain("an indirect grant of the peer")
    }

    /// Ends a grant of the peer; whether it was marked.
    pub fn revoke(&self, id: GrantId) -> core::result::Result<bool, String> {
        self.order(REVOKE, &[id.0.cast_unsigned()])
            .explain("revoking a grant of the peer")
            .map(|marked| marked == 1)
    }

    /// Has it end, and waits until it has.
    pub fn end(self) -> core::result::Result<(), String> {
        self.post(END, &[]).explain("ending the peer")?;
        self.gone()
    }

    /// Waits until it has ended, for whatever reason.
    pub fn gone(self) -> core::result::Result<(), String> {
        loop {
            let (child, _) = user::wait().explain("waiting for the peer's end")?;
            if child == self.endpoint {
                return Ok(());
            }
        }
    }
}

/// The peer's side: obeys until it is told to end.
pub fn obey(master: Endpoint) {
    let mut grants: Vec<Grant> = Vec::new();
    while let Ok(received) = ipc::receive(master) {
        let [a, b, c, d, e, ..] = received.message.payload;
        let id = GrantId(b.cast_signed());
        let moved = |moved: Moved| (moved.result.map(|()| 0), moved.bytes);
        let value = |value: Result<u64>| (value, 0);
        let (result, extra) = match received.message.kind() {
            // SAFETY: the test names memory that it had this process map for it.
            COPY_FROM => moved(unsafe { kernel::safecopy_from_raw(endpoint(a), id, c, d, e) }),
            COPY_TO => moved(kernel::safecopy_to(endpoint(a), id, c, &*memory(d, e))),
            MEMSET => moved(kernel::safememset(endpoint(a), id, c, e, d as u8)),
            MAP => value(pages::map(a, b as u32)),
            FILL => {
                pattern::fill(c as u32, d, memory(a, b));
                value(Ok(0))
            }
            MATCH => value(Ok(pattern::matching_prefix(c as u32, d, &*memory(a, b)) as u64)),
            GRANT => {
                let mut builder = Grant::direct(endpoint(a), b, c);
                let bits = d as u16;
                if bits & refault_abi::grant::READ != 0 {
                    builder = builder.read();
                }
                if bits & refault_abi::grant::WRITE != 0 {
                    builder = builder.write();
                }
                value(keep(&mut grants, builder.try_only(bits & refault_abi::grant::TRY != 0).make()))
            }
            PASS_ON => {
                let made = Grant::indirect(endpoint(a), endpoint(b), GrantId(c.cast_signed())).make();
                value(keep(&mut grants, made))
            }
            REVOKE => {
                let found = grants.iter().position(|grant| grant.id().0 == a.cast_signed());
                let revoked = found.map(|index| grants.swap_remove(index).revoke());
                value(revoked.ok_or(Errno::EINVAL).map(|revoked| u64::from(revoked.fault.is_some())))
            }
            END => return,
            _ => value(Err(Errno::EBADREQUEST)),
        };
        let mut answer = Message::bare(REPLY);
        let [first, second, ..] = &mut answer.payload;
        *first = refault_abi::errno::raw_count(result).cast_unsigned();
        *second = extra;
        // A master that is gone needs no answer; the next receive says so.
        let _ = ipc::send(master, &answer);
    }
}

fn keep(grants: &mut Vec<Grant>, made: Result<Grant>) -> Result<u64> {
    made.map(|grant| {
        let id = grant.id().0.cast_unsigned();
        grants.push(grant);
        id
    })
}

/// Memory the test named.
fn memory(address: u64, bytes: u64) -> &'static mut [u8] {
    let start = core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: the test names memory that it had this process map, readable and writable, and that nothing else in this
    // process refers to; the slice is gone before the next order.
    unsafe { core::slice::from_raw_parts_mut(start, bytes as usize) }
}
