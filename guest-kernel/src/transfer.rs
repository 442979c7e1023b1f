//! The copy between address spaces, page by page, with exact progress.
//!
//! The one thing to hold in mind: whatever moved before a fault stays moved, and is counted. Both sides of a
//! piece are translated before any of it is touched; an absent page is a fault without a #PF, a page that
//! vanishes during the move (a trap reflected by the monitor) is the same fault with one. What is not here:
//! what a fault means to the caller (`system`).

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

/// Why a copy stopped, and after how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// A page was not there.
    Soft(SoftFault),
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
    /// The kernel address that faulted, and whether the trap was reflected from the second stage.
    pub fault: Option<(u64, bool)>,
}

/// Memory as the copy needs it.
pub trait Memory: Tables {
    /// The kernel's address of physical address `physical`, if that is RAM.
    fn direct(&self, physical: u64) -> Option<u64>;
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

/// One end while the copy runs.
struct Cursor {
    place: Place,
    /// The page last translated (its user address), and the kernel address of it.
    page: u64,
    direct: u64,
    /// Physical address of the page, for sites.
    physical: u64,
    fresh: bool,
}

const NO_PAGE: u64 = u64::MAX;

impl Cursor {
    fn new(place: Place) -> Cursor {
        Cursor { place, page: NO_PAGE, direct: 0, physical: 0, fresh: false }
    }

    /// The kernel address `done` bytes into this end, and how many bytes can be moved there at once.
    #[inline(always)]
    fn at(&mut self, memory: &impl Memory, end: End, done: u64) -> Result<(u64, u64), Stopped> {
        let (root, start) = match self.place {
            Place::User { root, address } => (root, address),
            Place::Kernel(start) => return Ok((start + done, u64::MAX)),
            Place::Fill(_) => return Ok((0, u64::MAX)),
        };
        // The range was checked, so this neither wraps nor leaves the user half.
        let address = start + done;
        let page = address & !(PAGE - 1);
        if page != self.page {
            let missing = |reason| match reason {
                Missing::Absent => Stopped::Soft(SoftFault { end, address, second_stage: false }),
                Missing::Broken => Stopped::Outside,
            };
            self.physical = translate(memory, root, page, end == End::To).map_err(missing)?;
            self.direct = memory.direct(self.physical).ok_or(Stopped::Outside)?;
            self.page = page;
            self.fresh = true;
        }
        let offset = address - page;
        Ok((self.direct + offset, PAGE - offset))
    }

    fn visit(&mut self, memory: &mut impl Memory, sites: &Sites, end: End, done: u64, total: u64) {
        let Place::User { address: start, .. } = self.place else { return };
        let granted = end == sites.granted;
        let (base, length) = if granted { (sites.base, sites.length) } else { (start, total) };
        let address = start + done;
        let pages_to = |address: u64| (address / PAGE).wrapping_sub(base / PAGE) as u32;
        memory.site(&Site {
            gpa: self.physical + (address - self.page),
            gva: self.direct + (address - self.page),
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
        });
    }
}

/// Whether `bytes` from `place` on are user memory without wrapping.
fn in_range(place: Place, bytes: u64) -> bool {
    match place {
        Place::User { address, .. } => address.checked_add(bytes).is_some_and(|end| end <= USER_END),
        Place::Kernel(_) | Place::Fill(_) => true,
    }
}

/// Moves `bytes` from one place to another, or as many of them as can be moved.
pub fn transfer<M: Memory>(
    memory: &mut M,
    from: Place,
    to: Place,
    bytes: u64,
    sites: Option<&Sites>,
) -> Progress {
    if !in_range(from, bytes) || !in_range(to, bytes) {
        return Progress { bytes: 0, stopped: Some(Stopped::Outside) };
    }
    let (mut source, mut target) = (Cursor::new(from), Cursor::new(to));
    let mut done = 0;
    while done < bytes {
        let ends = match source.at(memory, End::From, done) {
            Ok(from) => target.at(memory, End::To, done).map(|to| (from, to)),
            Err(stopped) => Err(stopped),
        };
        let ((from_at, from_room), (to_at, to_room)) = match ends {
            Ok(ends) => ends,
            Err(stopped) => return Progress { bytes: done, stopped: Some(stopped) },
        };
        let piece = from_room.min(to_room).min(bytes - done);
        if let Some(sites) = sites
            && memory.sites_wanted()
        {
            let granted_first = match sites.granted {
                End::From => [(&mut source, End::From), (&mut target, End::To)],
                End::To => [(&mut target, End::To), (&mut source, End::From)],
            };
            for (cursor, end) in granted_first {
                if cursor.fresh {
                    cursor.visit(memory, sites, end, done, bytes);
                }
            }
        }
        (source.fresh, target.fresh) = (false, false);
        let moved = match from {
            Place::Fill(byte) => memory.fill(to_at, byte, piece),
            _ => memory.copy(to_at, from_at, piece),
        };
        done += moved.bytes.min(piece);
        if let Some((fault, second_stage)) = moved.fault {
            let stopped = match_fault(&source, &target, fault, second_stage);
            return Progress { bytes: done, stopped: Some(stopped) };
        }
    }
    Progress { bytes: done, stopped: None }
}

/// Names the user address behind a kernel address that faulted. When both ends are the same page, the source
/// is read first.
fn match_fault(source: &Cursor, target: &Cursor, fault: u64, second_stage: bool) -> Stopped {
    let page = fault & !(PAGE - 1);
    for (cursor, end) in [(source, End::From), (target, End::To)] {
        if cursor.page != NO_PAGE && cursor.direct == page {
            let address = cursor.page + (fault - page);
            return Stopped::Soft(SoftFault { end, address, second_stage });
        }
    }
    Stopped::Outside
}

#[cfg(test)]
mod tests;
