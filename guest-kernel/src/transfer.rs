//! The copy between address spaces, page by page, with exact progress.
//!
//! The one thing to hold in mind: whatever moved before a fault stays moved, and is counted. Both sides of a
//! piece are translated before any of it is touched; an absent page is a fault without a #PF, a page that
//! vanishes during the move (a trap reflected by the monitor) is the same fault with one, and a poisoned page ends the
//! copy in the same way but is no fault that anybody could repair. What is not here: what a fault means to the caller (`system`).

use refault_abi::Endpoint;
use refault_abi::doorbell::Site;
use refault_abi::layout::{PAGE, USER_END};

use crate::walk::{Missing, Tables, translate};

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// User memory: address space and address.
    User {
        /// Physical address of the top-level page table.
        root: u64,
        /// First address.
        address: u64,
    },
    /// The kernel's own memory, valid for the whole copy. Never faults.
    Kernel(u64),
    /// Only as a source: this byte, over and over.
    Fill(u8),
}

/// Which end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The memory read.
    From,
    /// The memory written.
    To,
}

/// A page fault in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftFault {
    /// Which end.
    pub end: End,
    /// The user address that is missing.
    pub address: u64,
    /// Taken away at the second stage.
    pub second_stage: bool,
}

/// A poisoned page in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Which end.
    pub end: End,
    /// The user address.
    pub address: u64,
    /// Physical address of the page.
    pub page: u64,
}

/// How an access of a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// By a page fault of the guest's own making.
    Absent,
    /// By a reflected trap: the page is away at the second stage.
    Away,
    /// By a machine check: the page is poisoned.
    Poisoned,
}

/// Why a copy stopped, and after how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// A page was not there.
    Soft(SoftFault),
    /// A page's contents are lost, and nobody can bring them back.
    Poison(Poison),
    /// An address is not user memory, or what is mapped there is no RAM: nothing VM could repair.
    Outside,
}

/// How far a copy came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes moved.
    pub bytes: u64,
    /// Why not all of them.
    pub stopped: Option<Stopped>,
}

/// Result of moving one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes moved.
    pub bytes: u64,
    /// The kernel address that could not be reached, and how.
    pub fault: Option<(u64, Lost)>,
}

/// Memory as the copy needs it.
pub trait Memory: Tables {
    /// The kernel's address of physical address `physical`, if that is RAM.
    fn direct(&self, physical: u64) -> Option<u64>;
    /// The physical address of an address that [`Memory::direct`] gave.
    fn physical(&self, direct: u64) -> u64;
    /// Moves bytes between kernel addresses. User pages are not crossed.
    fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Moved;
    /// Stores a byte repeatedly.
    fn fill(&mut self, to: u64, byte: u8, bytes: u64) -> Moved;
    /// Whether the monitor counts fault sites now.
    fn sites_wanted(&self) -> bool;
    /// A granted page is about to be touched.
    fn site(&mut self, site: &Site);
}

/// What is known about a copy through a grant, for the fault sites on its way.
#[derive(Clone, Copy, Debug)]
pub struct Sites {
    /// Which end is the granter's.
    pub granted: End,
    /// Number of the copying kernel call.
    pub copy: u64,
    /// The granter's note.
    pub tag: u64,
    /// Granter.
    pub granter: Endpoint,
    /// Grantee.
    pub grantee: Endpoint,
    /// First address of the granted range (not of this copy).
    pub base: u64,
    /// Bytes of the granted range.
    pub length: u64,
}

/// One end while the copy runs: each kind of place is compiled by itself, because most copies are between two users.
trait Side {
    /// The kernel address `done` bytes into this end, and how many bytes can be moved there at once.
    fn at(&mut self, memory: &impl Memory, end: End, done: u64) -> Result<(u64, u64), Stopped>;
    /// The place as user memory.
    fn user(&self) -> Option<User>;
    /// The byte that is stored, where it is always the same.
    fn byte(&self) -> Option<u8> {
        None
    }
}

/// User memory.
#[derive(Clone, Copy)]
struct User {
    root: u64,
    start: u64,
    /// The page last translated (its user address), and the kernel address of it.
    page: u64,
    direct: u64,
}

/// The kernel's own memory.
struct Own(u64);
/// One byte, over and over.
struct Fill(u8);

const NO_PAGE: u64 = u64::MAX;

impl Side for User {
    #[inline(always)]
    fn at(&mut self, memory: &impl Memory, end: End, done: u64) -> Result<(u64, u64), Stopped> {
        // The range was checked, so this neither wraps nor leaves the user half.
        let address = self.start + done;
        let page = address & !(PAGE - 1);
        if page != self.page {
            let physical = match translate(memory, self.root, page, end == End::To) {
                Ok(physical) => physical,
                Err(Missing::Absent) => {
                    return Err(Stopped::Soft(SoftFault { end, address, second_stage: false }));
                }
                Err(Missing::Broken) => return Err(Stopped::Outside),
            };
            let Some(direct) = memory.direct(physical) else { return Err(Stopped::Outside) };
            (self.page, self.direct) = (page, direct);
        }
        let offset = address - page;
        Ok((self.direct + offset, PAGE - offset))
    }

    #[inline(always)]
    fn user(&self) -> Option<User> {
        Some(*self)
    }
}

impl Side for Own {
    #[inline(always)]
    fn at(&mut self, _: &impl Memory, _: End, done: u64) -> Result<(u64, u64), Stopped> {
        Ok((self.0 + done, u64::MAX))
    }

    fn user(&self) -> Option<User> {
        None
    }
}

impl Side for Fill {
    #[inline(always)]
    fn at(&mut self, _: &impl Memory, _: End, _: u64) -> Result<(u64, u64), Stopped> {
        Ok((0, u64::MAX))
    }

    fn user(&self) -> Option<User> {
        None
    }

    fn byte(&self) -> Option<u8> {
        Some(self.0)
    }
}

impl User {
    #[inline(always)]
    fn new(root: u64, start: u64) -> User {
        User { root, start, page: NO_PAGE, direct: 0 }
    }

    /// Tells the monitor of a page, if this is where the copy comes to it.
    fn visit(&self, memory: &mut impl Memory, sites: &Sites, end: End, done: u64, total: u64) {
        let address = self.start + done;
        if done != 0 && address & (PAGE - 1) != 0 {
            return;
        }
        let granted = end == sites.granted;
        let (base, length) = if granted { (sites.base, sites.length) } else { (self.start, total) };
        let gva = self.direct + (address - self.page);
        let pages_to = |address: u64| (address / PAGE).wrapping_sub(base / PAGE) as u32;
        let site = Site {
            gpa: memory.physical(gva),
            gva,
            address,
            tag: sites.tag,
            copy: sites.copy,
            granter: sites.granter.raw(),
            grantee: sites.grantee.raw(),
            page: pages_to(address),
            pages: pages_to(base.saturating_add(length.saturating_sub(1))).saturating_add(1),
            side: u32::from(!granted),
            access: u32::from(end == End::To),
            reserved: [0; 8],
        };
        memory.site(&site);
    }
}

/// Whether `bytes` from `address` on are user memory without wrapping.
#[inline(always)]
fn in_range(address: u64, bytes: u64) -> bool {
    address.checked_add(bytes).is_some_and(|end| end <= USER_END)
}

const OUTSIDE: Progress = Progress { bytes: 0, stopped: Some(Stopped::Outside) };

/// Moves `bytes` from one place to another, or as many of them as can be moved.
pub fn transfer<M: Memory>(
    memory: &mut M,
    from: Place,
    to: Place,
    bytes: u64,
    sites: Option<&Sites>,
) -> Progress {
    let sites = || sites.copied();
    let place = |place| match place {
        Place::User { root, address } => in_range(address, bytes).then_some(User::new(root, address)),
        Place::Kernel(_) | Place::Fill(_) => None,
    };
    match (from, to) {
        (Place::User { root, address }, Place::User { root: to, address: at }) => {
            transfer_user(memory, (root, address), (to, at), bytes, sites)
        }
        (_, Place::Kernel(at)) => match place(from) {
            Some(from) => run(memory, from, Own(at), bytes, sites),
            None => OUTSIDE,
        },
        (Place::Kernel(at), _) => match place(to) {
            Some(to) => run(memory, Own(at), to, bytes, sites),
            None => OUTSIDE,
        },
        (Place::Fill(byte), _) => match place(to) {
            Some(to) => run(memory, Fill(byte), to, bytes, sites),
            None => OUTSIDE,
        },
        // Nothing can be stored in a byte.
        (_, Place::Fill(_)) => OUTSIDE,
    }
}

/// [`transfer`] from user memory to user memory: address spaces and addresses. `sites` is asked only when the monitor wants to
/// know.
#[inline(always)]
pub fn transfer_user<M: Memory>(
    memory: &mut M,
    (from_root, from): (u64, u64),
    (to_root, to): (u64, u64),
    bytes: u64,
    sites: impl Fn() -> Option<Sites>,
) -> Progress {
    if !in_range(from, bytes) || !in_range(to, bytes) {
        return OUTSIDE;
    }
    run(memory, User::new(from_root, from), User::new(to_root, to), bytes, sites)
}

#[inline(always)]
fn run<M: Memory, F: Side, T: Side>(
    memory: &mut M,
    mut source: F,
    mut target: T,
    bytes: u64,
    sites: impl Fn() -> Option<Sites>,
) -> Progress {
    let mut done = 0;
    while done < bytes {
        let (from_at, from_room) = match source.at(memory, End::From, done) {
            Ok(found) => found,
            Err(stopped) => return Progress { bytes: done, stopped: Some(stopped) },
        };
        let (to_at, to_room) = match target.at(memory, End::To, done) {
            Ok(found) => found,
            Err(stopped) => return Progress { bytes: done, stopped: Some(stopped) },
        };
        let piece = from_room.min(to_room).min(bytes - done);
        if memory.sites_wanted() {
            visit(memory, source.user(), target.user(), done, bytes, sites());
        }
        let moved = match source.byte() {
            Some(byte) => memory.fill(to_at, byte, piece),
            None => memory.copy(to_at, from_at, piece),
        };
        done += moved.bytes.min(piece);
        if let Some((fault, lost)) = moved.fault {
            let page = memory.physical(fault & !(PAGE - 1));
            let stopped = match_fault(source.user(), target.user(), fault, page, lost);
            return Progress { bytes: done, stopped: Some(stopped) };
        }
    }
    Progress { bytes: done, stopped: None }
}

/// Tells the monitor of the pages that a piece touches first, the granter's before the grantee's. It takes the ends by value, as
/// [`match_fault`] does, so that they stay in registers as long as nothing happens.
#[inline(never)]
fn visit<M: Memory>(
    memory: &mut M,
    source: Option<User>,
    target: Option<User>,
    done: u64,
    bytes: u64,
    sites: Option<Sites>,
) {
    let Some(sites) = sites else { return };
    let ends = match sites.granted {
        End::From => [(source, End::From), (target, End::To)],
        End::To => [(target, End::To), (source, End::From)],
    };
    for (side, end) in ends {
        if let Some(side) = side {
            side.visit(memory, &sites, end, done, bytes);
        }
    }
}

/// Names the user address behind a kernel address that faulted. When both ends are the same page, the source
/// is read first.
#[inline(never)]
fn match_fault(source: Option<User>, target: Option<User>, fault: u64, physical: u64, lost: Lost) -> Stopped {
    let page = fault & !(PAGE - 1);
    for (side, end) in [(source, End::From), (target, End::To)] {
        if let Some(side) = side
            && side.page != NO_PAGE
            && side.direct == page
        {
            let address = side.page + (fault - page);
            return match lost {
                Lost::Absent => Stopped::Soft(SoftFault { end, address, second_stage: false }),
                Lost::Away => Stopped::Soft(SoftFault { end, address, second_stage: true }),
                Lost::Poisoned => Stopped::Poison(Poison { end, address, page: physical }),
            };
        }
    }
    Stopped::Outside
}

#[cfg(test)]
mod tests;
