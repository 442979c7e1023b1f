//! The retry: how a soft fault in the middle of an operation never becomes a short result.
//!
//! A file system copies to or from a user's memory through a magic grant with CPF_TRY. A copy that meets an
//! absent page fails at once, because whoever would have to bring the page in may need that very file system,
//! and leaves a mark in the grant. What the file system then answers (an error, a partial count, even success)
//! does not matter: VFS looks at the mark when it revokes the grant, has VM bring the memory in, and repeats the
//! whole operation from its frozen inputs.
//!
//! The one thing to hold in mind: an attempt returns nothing. Positions, sizes and counts are taken from the
//! last answer only, the one whose grant came back without a mark ([`run`] is the only way to get an answer),
//! and every attempt is built from the same [`Frozen`], which has no way to change.
//!
//! Attempts are bounded by [`Budget`]: each page may fault [`FAULTS_PER_PAGE`] times in one operation, then the
//! operation ends with EFAULT. What it is not: a resume. An attempt does not go on where the last one stopped,
//! because a count that a file system answered after a fault is exactly what cannot be believed.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;

use refault_abi::counters::Counter;
use refault_abi::grant::Tag;
use refault_abi::layout::{PAGE, page_ceil, page_floor};
use refault_abi::message::Status;
use refault_abi::options::Retry;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, fs};

use crate::kernel::{Access, Fault, Granted, Kernel, Side, UserMemory};
use crate::seeded;
use crate::server::Vfs;
use crate::transport::NOT_SENT;
use crate::vnode::Vnode;

/// Faults a page may have in one operation. A page that VM has just made present faults again only if somebody
/// takes it away again; eight times in a row is no coincidence any more.
pub const FAULTS_PER_PAGE: u8 = 8;

/// Why repeating an operation is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// A later attempt overwrites what an earlier one left, identically.
    Replayable,
    /// The file system makes its effect visible after the last copy only: if it says that it succeeded, every
    /// copy did, and repeating would meet the effect of the first time.
    CommitAfterCopy,
}

impl Replay {
    /// How the operation `code` of [`fs`] is declared.
    pub const fn of(code: u16) -> Replay {
        match code {
            fs::SLINK => Replay::CommitAfterCopy,
            _ => Replay::Replayable,
        }
    }
}

/// The inputs of an operation, fixed before its first attempt.
#[derive(Clone, Copy, Debug)]
pub struct Frozen {
    /// Request code of [`fs`].
    pub operation: u16,
    /// Inode.
    pub inode: u64,
    /// Position; for an append the size the file had.
    pub position: u64,
    /// The user's memory.
    pub memory: UserMemory,
    /// Why repeating is safe.
    pub replay: Replay,
    /// The position is where the file ended. Only a seeded mistake asks.
    pub append: bool,
}

impl Frozen {
    /// An operation on an inode, from its beginning.
    pub fn new(operation: u16, inode: u64, memory: UserMemory) -> Frozen {
        Frozen { operation, inode, position: 0, memory, replay: Replay::of(operation), append: false }
    }

    /// The request of an attempt whose memory is granted as `grant`.
    pub fn io(&self, grant: GrantId) -> Message {
        let Frozen { operation, inode, position, memory, .. } = *self;
        Message::new(operation, &fs::Io { inode, grant: grant.0, position, bytes: memory.bytes })
    }
}

/// What to do before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Make all of the user's range present.
    WholeRange,
    /// Make the user's range present from the page of this address on.
    From(u64),
    /// Make this page of the grantee present.
    Grantee(u64),
}

/// What follows from an answer and a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The answer is the operation's result.
    Final,
    /// The last attempt that the policy allows has met a fault, too: whatever was answered, the result is EFAULT.
    GiveUp,
    /// Cure, then repeat with or without CPF_TRY.
    Repeat {
        /// First this.
        cure: Cure,
        /// Then this.
        cpf_try: bool,
    },
}

/// The policies, as a pure function of what is known after an attempt (from 1).
pub fn decide(
    policy: Retry,
    replay: Replay,
    attempt: u16,
    answer: Result<u64>,
    mark: Option<Fault>,
) -> Decision {
    let once = Decision::Repeat { cure: Cure::WholeRange, cpf_try: false };
    match (policy, mark) {
        (Retry::Efault, _) if attempt == 1 && answer == Err(Errno::EFAULT) => once,
        (Retry::Mark, Some(_)) if attempt == 1 => once,
        (Retry::Mark, Some(_)) => Decision::GiveUp,
        (Retry::Hardened, Some(_)) if replay == Replay::CommitAfterCopy && answer.is_ok() => Decision::Final,
        (Retry::Hardened, Some(fault)) => {
            let cure = match fault.side {
                Side::Granted => Cure::From(fault.address),
                Side::Grantee => Cure::Grantee(fault.address),
                Side::Unknown => Cure::WholeRange,
            };
            Decision::Repeat { cure, cpf_try: true }
        }
        (Retry::Efault | Retry::Mark | Retry::Hardened, _) => Decision::Final,
    }
}

/// How many faults one operation may still have.
#[derive(Debug)]
pub struct Budget {
    pages: BTreeMap<u64, u8>,
    // For faults that name no page of the range. The grantee may use another buffer in each attempt, so its
    // pages are bounded together.
    others: u64,
}

impl Budget {
    /// For an operation on `[address, address + bytes)`.
    pub fn new(address: u64, bytes: u64) -> Budget {
        let pages = (page_ceil(address.saturating_add(bytes)) - page_floor(address)) / PAGE;
        Budget { pages: BTreeMap::new(), others: (pages + 1).saturating_mul(u64::from(FAULTS_PER_PAGE)) }
    }

    /// Takes note of a fault; whether the operation may be repeated once more.
    pub fn spend(&mut self, fault: Fault) -> bool {
        if fault.side == Side::Granted {
            let count = self.pages.entry(page_floor(fault.address)).or_insert(0);
            *count = count.saturating_add(1);
            *count <= FAULTS_PER_PAGE
        } else {
            self.others = self.others.saturating_sub(1);
            self.others > 0
        }
    }
}

/// Runs `frozen` on the file system of `vnode` until it has a result that no fault has touched: the file system's last answer,
/// or why there is none. `request` builds an attempt's message around its grant, for the process that will get both; what else
/// it returns lives as long as the attempt.
pub async fn run<K: Kernel, X>(
    vfs: &Vfs<K>,
    vnode: &Rc<Vnode>,
    frozen: &Frozen,
    request: impl Fn(&Frozen, Endpoint, GrantId) -> Result<(Message, X)>,
) -> Result<Message> {
    let memory = &frozen.memory;
    let bug = vfs.options.bug;
    let number = vfs.next_request();
    let mut budget = Budget::new(memory.address, memory.bytes);
    let mut attempt: u16 = 1;
    let mut cpf_try = vfs.options.cpf_try;
    let mut last = None;
    loop {
        let turn = vfs.turn(vnode).await?;
        let grantee = turn.endpoint();
        let tag = Tag::new(frozen.operation, attempt, number);
        let grant = vfs.kernel.grant_user(grantee, memory, cpf_try, tag)?;
        let (message, _others) = request(&seeded::inputs(bug, frozen, last.as_ref()), grantee, grant.id())?;
        let answer = vfs.exchange(turn, message).await;
        let mark = grant.revoke();
        if mark.is_some() {
            vfs.kernel.count(Counter::VfsMarksSeen);
        }
        let message = match answer {
            Ok(message) => message,
            // Nobody has seen this attempt.
            Err(NOT_SENT) => continue,
            // Who has may have done any part of it.
            Err(error) => return Err(error),
        };
        let result = message.get::<Status>().check();
        let decision = decide(vfs.options.retry, frozen.replay, attempt, result, mark);
        let (cure, keep_try) = match seeded::decision(bug, decision, frozen.operation, attempt, result, mark)
        {
            Decision::Final => {
                return result.map(|_| message).inspect_err(|_| seeded::after_error(vfs, frozen, grantee));
            }
            Decision::GiveUp => {
                vfs.kernel.count(Counter::VfsGivenUp);
                return Err(Errno::EFAULT);
            }
            Decision::Repeat { cure, cpf_try } => (cure, cpf_try),
        };
        if mark.is_some_and(|fault| !budget.spend(fault)) {
            vfs.kernel.count(Counter::VfsGivenUp);
            return Err(Errno::EFAULT);
        }
        if !seeded::skips_cure(bug) {
            cured(vfs, grantee, memory, cure, mark).await?;
        }
        vfs.kernel.count(Counter::VfsRepeats);
        attempt = attempt.saturating_add(1);
        cpf_try = keep_try && vfs.options.cpf_try;
        last = Some(message);
    }
}

/// [`run`] for an operation whose message is an [`fs::Io`].
pub async fn transfer<K: Kernel>(vfs: &Vfs<K>, vnode: &Rc<Vnode>, frozen: &Frozen) -> Result<Message> {
    run(vfs, vnode, frozen, |inputs, _, grant| Ok((inputs.io(grant), ()))).await
}

/// Has VM do `cure`.
async fn cured<K: Kernel>(
    vfs: &Vfs<K>,
    grantee: Endpoint,
    memory: &UserMemory,
    cure: Cure,
    mark: Option<Fault>,
) -> Result<()> {
    let end = memory.address.saturating_add(memory.bytes);
    let write = memory.access == Access::Write;
    match cure {
        Cure::WholeRange => vfs.handle_memory(memory.owner, memory.address, memory.bytes, write).await,
        Cure::From(fault) => {
            let from = page_floor(fault).max(memory.address);
            // A mark that names no page of the range would cure nothing; then all of it is asked for.
            let from = if from < end { from } else { memory.address };
            vfs.handle_memory(memory.owner, from, end - from, write).await
        }
        Cure::Grantee(fault) => {
            let write = mark.is_some_and(|mark| mark.write);
            // A grantee that cannot be helped is bounded by the budget, and is not the user's bad address.
            let _ = vfs.handle_memory(grantee, page_floor(fault), PAGE, write).await;
            Ok(())
        }
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
