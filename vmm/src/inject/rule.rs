//! Injection rules: which accesses lose their page, which requests of a disk go wrong, and what then happens.
//!
//! A rule is a filter and an action. Everything a rule does not mention matches. The one thing to hold in mind: a set of rules,
//! with a seed, applied to the same sequence of sites, touches or requests always decides the same; no rule looks at a clock.
//! This file is what rules are and how they are written; [`super::parse`] reads them, others carry them out.

use std::time::Duration;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The guest may have pages of its own taken away, by asking for it at the doorbell. Written `guest: allow`.
    Guest,
    /// About places in the guest kernel that are about to touch a page somebody lent.
    Site(SiteRule),
    /// About pages by their physical address, for any guest.
    Memory(MemoryRule),
    /// About requests to a disk.
    Disk(DiskRule),
}

/// Which fault sites. `None` matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRule {
    /// File system request, such as [`refault_abi::fs::READ`].
    pub operation: Option<u16>,
    /// The lender's request numbers.
    pub requests: Option<Vec<u32>>,
    /// Which copying calls of a request's attempt, counted from 1.
    pub copies: Option<Vec<u32>>,
    /// Positions in the range.
    pub pages: Option<Vec<Page>>,
    /// Attempts, counted from 1.
    pub attempts: Option<Vec<u32>>,
    /// Whose memory.
    pub side: Option<Side>,
    /// Reading or writing.
    pub access: Option<AccessKind>,
    /// Processors.
    pub vcpus: Option<Vec<u32>>,
    /// Which of all sites, counted from 1 since the start or the ready mark.
    pub nth: Option<Vec<u64>>,
    /// A random share of them.
    pub share: Option<Share>,
    /// What to do.
    pub action: Action,
}

/// Which pages, by physical address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryRule {
    /// Where; `None` for all RAM.
    pub ranges: Option<Vec<Span>>,
    /// Only the first of each so many pages of a range.
    pub every: Option<u64>,
    /// A random share of them.
    pub share: Option<Share>,
    /// Pages of this class, which are left alone by rules that do not name it.
    pub class: Option<PageClass>,
    /// Touches of this kind; others are let through.
    pub access: Option<AccessKind>,
    /// Touches by these processors; others are let through.
    pub vcpus: Option<Vec<u32>>,
    /// What to do.
    pub action: Action,
}

/// Which requests of a disk. `None` matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRule {
    /// Which disk, counted from 0.
    pub disk: Option<u32>,
    /// What the request does.
    pub op: Option<DiskOp>,
    /// Which of the disk's requests that match everything else, counted from 1.
    pub nth: Option<Vec<u64>>,
    /// Requests that touch one of these 512-byte sectors.
    pub sectors: Option<Vec<Span>>,
    /// A random share of them.
    pub share: Option<Share>,
    /// What to do.
    pub action: DiskAction,
}

/// Whose memory the access goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The lender's: the memory a grant names.
    Granter,
    /// The copier's own.
    Grantee,
}

/// What the access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads the page.
    Read,
    /// Writes the page.
    Write,
}

/// One position in a range of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Counted from 0.
    Index(u32),
    /// The last one, whatever its number.
    Last,
}

/// Addresses or sectors from a first to a last one, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last, not less than the first.
    pub last: u64,
}

/// Pages that go away only if a rule names their class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageClass {
    /// The kernel's image: code, data, stacks in it.
    Kernel,
    /// Page tables.
    PageTables,
    /// The descriptor tables, the task state and the stacks it names.
    Descriptors,
    /// Rings of virtio devices.
    Virtqueues,
    /// Registered tables of grants.
    GrantTables,
    /// Registered tables of asynchronous messages.
    Messages,
}

/// A part of all, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

impl Share {
    /// All of them.
    pub const ALL: u32 = 1_000_000;
}

/// How often a matching page is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// So many times.
    Count(u32),
    /// At every attempt.
    Forever,
}

/// What happens at the trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The guest gets a page fault and the page stays away until it asks for it.
    Reflect(Times),
    /// The access is let through later; the guest notices nothing else.
    Delay(Delay),
    /// The guest gets a machine check, and the page never comes back.
    Poison,
}

/// For how long an access is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// For a time, at most [`DELAY_LIMIT`].
    For(Duration),
    /// Until something else has happened, but at most [`UNTIL_LIMIT`].
    Until(Awaited),
}

/// The longest delay that can be asked for.
pub const DELAY_LIMIT: Duration = Duration::from_secs(10);
/// The longest time that anything is waited for: what is waited for may need the processor that waits.
pub const UNTIL_LIMIT: Duration = Duration::from_secs(1);

/// What an access can be held up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// A disk answers a request.
    Disk,
    /// The guest passes a fault site that the monitor is told of.
    Site,
    /// Another page that is away is touched.
    Trap,
}

/// What a request to a disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Has what was written put on stable storage.
    Flush,
}

/// What becomes of a request to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAction {
    /// It fails, and nothing is transferred.
    Error,
    /// It is answered later by so much, at most [`DELAY_LIMIT`].
    Delay(Duration),
    /// Only so many sectors are carried out, and it is answered as if all were.
    Torn(u64),
    /// Only so many sectors are carried out, and it fails.
    Short(u64),
}

/// Operations that a rule can name.
pub const OPERATIONS: [u16; 8] = {
    use refault_abi::fs;
    [fs::READ, fs::WRITE, fs::BREAD, fs::BWRITE, fs::GETDENTS, fs::RDLINK, fs::SLINK, fs::STAT]
};

impl SiteRule {
    /// A rule that wants every site.
    pub fn all(action: Action) -> Self {
        Self {
            operation: None,
            requests: None,
            copies: None,
            pages: None,
            attempts: None,
            side: None,
            access: None,
            vcpus: None,
            nth: None,
            share: None,
            action,
        }
    }
}

impl MemoryRule {
    /// A rule that wants all RAM.
    pub fn all(action: Action) -> Self {
        Self { ranges: None, every: None, share: None, class: None, access: None, vcpus: None, action }
    }
}

impl DiskRule {
    /// A rule that wants every request of every disk.
    pub fn all(action: DiskAction) -> Self {
        Self { disk: None, op: None, nth: None, sectors: None, share: None, action }
    }
}

impl Rule {
    /// Whether the rule is about guest memory: whether pages have to be taken away for it.
    pub fn is_about_memory(&self) -> bool {
        !matches!(self, Rule::Disk(_))
    }
}
