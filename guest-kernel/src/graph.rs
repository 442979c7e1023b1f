//! The wait-for graph: who waits for whom, also where message passing cannot see it.
//!
//! The one thing to hold in mind: the kernel knows why a process is blocked, but a server that serves many at once is never
//! blocked; what its unfinished requests wait for it writes into a table of its own memory ([`refault_abi::kcall::Wait`]), which
//! is read only here. So an edge goes from a request (a process, and for whom it works) to a request, and a circle of edges
//! is a deadlock. What is not here: when to look (`watchdog`), and breaking circles.

use core::fmt;

use refault_abi::Endpoint;
use refault_abi::endpoint::NR_PROCS;
use refault_abi::ipc::{AsyncEntry, Call, senda};
use refault_abi::kcall::{Wait, rts};

use crate::table::Table;

/// Most edges that are kept; more are only counted.
pub const EDGES: usize = 128;
/// No edge.
const NO_EDGE: u8 = 0xff;
const _: () = assert!(EDGES < NO_EDGE as usize);
const _: () = assert!(NR_PROCS < NO_EDGE as usize);

/// What the graph needs to see of processes' memory. `None` for a page that is not there.
pub trait Declarations {
    /// An entry of a table of waits in the address space `root`.
    fn wait(&mut self, root: u64, address: u64) -> Option<Wait>;
    /// An entry of a table of asynchronous sends.
    fn asynchronous(&mut self, root: u64, address: u64) -> Option<AsyncEntry>;
}

/// Who waits, or is waited for: the slot of a process, and the slot of the process it works for (its own, when it works for
/// nobody else).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The process.
    pub slot: u8,
    /// For whom.
    pub subject: u8,
}

/// Why somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its request has not been received yet.
    Request,
    /// Its message has not been received yet.
    Message,
    /// It waits for the answer of a request.
    Answer,
    /// It waits for any message of this process.
    Receive,
    /// A copy needs the page at this address of the process in this slot.
    Copy {
        /// Address.
        address: u64,
        /// Slot.
        target: u8,
    },
    /// Its own access needs the page at this address.
    PageFault(u64),
    /// It has sent asynchronously, and the message has not been received yet.
    Undelivered,
    /// It says so itself: text, and its number.
    Declared([u8; 40], u64),
}

/// One edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who waits.
    pub from: Node,
    /// For whom.
    pub to: Node,
    /// Why.
    pub why: Why,
}

impl Edge {
    /// Whether what it waits for is what `next` waits with: the same process for the same one, or a process that is blocked
    /// as a whole.
    fn leads_to(&self, next: &Edge) -> bool {
        let same = self.to.subject == next.from.subject;
        self.to.slot == next.from.slot && (same || !matches!(next.why, Why::Declared(..)))
    }
}

const NOBODY: Node = Node { slot: NO_EDGE, subject: NO_EDGE };
const NOTHING: Edge = Edge { from: NOBODY, to: NOBODY, why: Why::Answer };

/// The graph at one moment.
#[derive(Clone, Debug)]
pub struct Graph {
    edges: [Edge; EDGES],
    used: usize,
    /// Edges there was no room for.
    pub dropped: usize,
}

impl Graph {
    /// Nobody waits for anybody.
    pub const EMPTY: Graph = Graph { edges: [NOTHING; EDGES], used: 0, dropped: 0 };

    /// The edges.
    pub fn edges(&self) -> &[Edge] {
        self.edges.get(..self.used).unwrap_or_default()
    }

    /// Looks at everybody anew.
    pub fn build(&mut self, table: &Table, memory: &mut impl Declarations) {
        (self.used, self.dropped) = (0, 0);
        for slot in 0..NR_PROCS {
            if table.procs[slot].flags & rts::FREE != 0 {
                continue;
            }
            self.blocked(table, slot);
            self.declared(table, memory, slot);
            self.undelivered(table, memory, slot);
        }
    }

    fn add(&mut self, from: Node, to: Node, why: Why) {
        match self.edges.get_mut(self.used) {
            Some(place) => {
                *place = Edge { from, to, why };
                self.used += 1;
            }
            None => self.dropped += 1,
        }
    }

    /// What the kernel itself knows: at most one edge, because one thing at a time blocks a process.
    fn blocked(&mut self, table: &Table, slot: usize) {
        let process = &table.procs[slot];
        let (target, why) = if process.flags & rts::VMREQUEST != 0 {
            let target = table.lookup(process.vm.target).unwrap_or(slot) as u8;
            (Endpoint::VM, Why::Copy { address: process.vm.address, target })
        } else if process.flags & rts::PAGEFAULT != 0 {
            (Endpoint::VM, Why::PageFault(process.vm.address))
        } else if process.flags & rts::SENDING != 0 {
            let request = process.sending_call == Call::SendRec as u8;
            (process.send_to, if request { Why::Request } else { Why::Message })
        } else if process.flags & rts::RECEIVING != 0 {
            (process.receive_from, if process.reply_pending { Why::Answer } else { Why::Receive })
        } else {
            return;
        };
        // ANY and the kernel's own sources are nobody in particular.
        let Some(target) = table.lookup(target) else { return };
        let me = Node { slot: slot as u8, subject: slot as u8 };
        self.add(me, Node { slot: target as u8, subject: slot as u8 }, why);
    }

    /// What it has declared.
    fn declared(&mut self, table: &Table, memory: &mut impl Declarations, slot: usize) {
        let process = &table.procs[slot];
        let whose = |raw: i32, or: u8| match Endpoint::from_raw(raw) {
            Endpoint::SELF => Some(slot as u8),
            Endpoint::NONE => Some(or),
            other => table.lookup(other).map(|slot| slot as u8),
        };
        for index in 0..process.waits.entries {
            // WAITS has checked that the whole table lies in user memory.
            let place = process.waits.address + index * size_of::<Wait>() as u64;
            let Some(wait) = memory.wait(process.root, place) else { return };
            if wait.serial == 0 {
                continue;
            }
            let Some(subject) = whose(wait.subject, slot as u8) else { continue };
            let Some(target) = whose(wait.target, NO_EDGE).filter(|target| *target != NO_EDGE) else {
                continue;
            };
            let Some(for_whom) = whose(wait.target_subject, subject) else { continue };
            let from = Node { slot: slot as u8, subject };
            self.add(from, Node { slot: target, subject: for_whom }, Why::Declared(wait.reason, wait.serial));
        }
    }

    /// Asynchronous messages that nobody has taken yet.
    fn undelivered(&mut self, table: &Table, memory: &mut impl Declarations, slot: usize) {
        let process = &table.procs[slot];
        for index in 0..process.async_length {
            // SENDA has checked that the whole table lies in user memory.
            let place = process.async_address + index * size_of::<AsyncEntry>() as u64;
            let Some(entry) = memory.asynchronous(process.root, place) else { return };
            if entry.flags & (senda::VALID | senda::DONE) != senda::VALID {
                continue;
            }
            let Some(target) = table.lookup(Endpoint::from_raw(entry.destination)) else { continue };
            let me = slot as u8;
            let to = Node { slot: target as u8, subject: me };
            self.add(Node { slot: me, subject: me }, to, Why::Undelivered);
        }
    }

    /// Whether the edge at `index` can be part of a circle: not for a message that is just on its way. What a process has
    /// declared holds also while it runs, to answer a heartbeat for one: when a wait is over, it says so.
    fn binds(&self, index: usize) -> bool {
        self.edges[index].why != Why::Undelivered
    }

    /// A circle of edges, if there is one, in order. The way through the graph is always the same, so
    /// that an unchanged graph has the same circle.
    pub fn circle(&self) -> Option<Circle> {
        let mut seen = [false; EDGES];
        let mut path = Circle { edges: [NO_EDGE; EDGES], first: 0, end: 0 };
        // Where the search goes on behind each edge of the path.
        let mut next = [0u8; EDGES];
        for start in 0..self.used {
            if seen[start] || !self.binds(start) {
                continue;
            }
            seen[start] = true;
            path.edges[0] = start as u8;
            next[0] = 0;
            path.end = 1;
            while let Some(last) = path.end.checked_sub(1) {
                let at = &self.edges[usize::from(path.edges[last])];
                let behind = |index: &usize| at.leads_to(&self.edges[*index]) && self.binds(*index);
                let Some(found) = (usize::from(next[last])..self.used).find(behind) else {
                    path.end -= 1;
                    continue;
                };
                next[last] = found as u8 + 1;
                let on_path = path.edges.iter().take(path.end).position(|edge| usize::from(*edge) == found);
                if let Some(first) = on_path {
                    path.first = first;
                    return Some(path);
                }
                if !seen[found] {
                    // Every edge is entered once, so the path is never longer than the graph.
                    seen[found] = true;
                    path.edges[path.end] = found as u8;
                    next[path.end] = 0;
                    path.end += 1;
                }
            }
        }
        None
    }

    /// A number that differs when a circle is not the same one in the same state.
    pub fn fingerprint(&self, circle: &Circle) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |value: u64| hash = (hash ^ value).wrapping_mul(0x100_0000_01b3);
        for edge in circle.edges(self) {
            add(u64::from(edge.from.slot) | u64::from(edge.to.slot) << 8);
            add(match edge.why {
                Why::Copy { address, .. } | Why::PageFault(address) => address,
                Why::Declared(_, serial) => serial,
                Why::Request => 1,
                Why::Message => 2,
                Why::Answer => 3,
                Why::Receive => 4,
                Why::Undelivered => 5,
            });
        }
        hash
    }

    /// The graph as text: a line per edge, and the circle.
    pub fn text<'g>(&'g self, table: &'g Table, circle: Option<&'g Circle>) -> Text<'g> {
        Text { graph: self, table, circle }
    }
}

/// Edges, each of which waits for the next, and the last for the first.
#[derive(Clone, Debug)]
pub struct Circle {
    edges: [u8; EDGES],
    first: usize,
    end: usize,
}

impl Circle {
    /// The edges, in order.
    pub fn edges<'g>(&'g self, graph: &'g Graph) -> impl Iterator<Item = &'g Edge> {
        let indices = self.edges.get(self.first..self.end).unwrap_or_default();
        indices.iter().filter_map(|index| graph.edges.get(usize::from(*index)))
    }
}

/// [`Graph::text`].
pub struct Text<'g> {
    graph: &'g Graph,
    table: &'g Table,
    circle: Option<&'g Circle>,
}

impl Text<'_> {
    fn name(&self, slot: u8) -> &str {
        self.table.procs.get(usize::from(slot)).map_or("?", |process| process.name())
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for edge in self.graph.edges() {
            write!(f, "wait-for: {} -> {} (", self.name(edge.from.slot), self.name(edge.to.slot))?;
            match &edge.why {
                Why::Request => f.write_str("its request is not received")?,
                Why::Message => f.write_str("its message is not received")?,
                Why::Answer => f.write_str("for the answer")?,
                Why::Receive => f.write_str("for a message")?,
                Why::Copy { address, target } => {
                    write!(f, "copy suspended: page {address:#x} of {}", self.name(*target))?;
                }
                Why::PageFault(address) => write!(f, "page fault at {address:#x}")?,
                Why::Undelivered => f.write_str("its asynchronous message is not received")?,
                Why::Declared(text, _) => {
                    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                    f.write_str(core::str::from_utf8(text).unwrap_or("?"))?;
                    if edge.from.subject != edge.from.slot {
                        write!(f, ", for {}", self.name(edge.from.subject))?;
                    }
                    if edge.to.subject != edge.from.subject && edge.to.slot == edge.from.slot {
                        write!(f, ", held for {}", self.name(edge.to.subject))?;
                    }
                }
            }
            f.write_str(")\n")?;
        }
        if self.graph.dropped > 0 {
            writeln!(f, "wait-for: and {} more", self.graph.dropped)?;
        }
        if let Some(circle) = self.circle {
            f.write_str("circle:")?;
            let mut first = None;
            for edge in circle.edges(self.graph) {
                first = first.or(Some(edge.from.slot));
                write!(f, " {} ->", self.name(edge.from.slot))?;
            }
            writeln!(f, " {}", self.name(first.unwrap_or(NO_EDGE)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
