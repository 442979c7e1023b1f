//! Console input: carries bytes from a descriptor to a serial line, in the device loop.
//!
//! The one thing to hold in mind: bytes are read from the descriptor only when the line has room for them, so
//! what the guest does not read stays with whoever is typing. While the line is full the descriptor is not
//! watched at all (watching it would wake the loop without end), and is watched again when the line has room.
//!
//! A regular file cannot be watched by epoll. It is always readable, so it is read whenever there is room.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::Serial;

/// Bytes taken from the descriptor at a time: the size of the line's FIFO.
const CHUNK: usize = 64;

/// How the descriptor stands with the event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Watched: the loop says when there is something to read.
    Watched,
    /// Not watched because the line is full.
    Paused,
    /// Cannot be watched, always readable.
    File,
    /// At its end, or broken.
    Ended,
}

/// The event subscriber that feeds a [`Serial`].
pub struct SerialInput {
    line: Arc<Serial>,
    room: EventFd,
    from: File,
    source: Source,
    /// What is typed at the descriptor's end.
    end: Option<u8>,
    /// How often it still is to be typed.
    ends_left: usize,
}

impl SerialInput {
    /// Feeds `line` from `from`, which should be non-blocking unless nobody else reads from it.
    pub fn new(line: Arc<Serial>, from: OwnedFd) -> io::Result<Self> {
        let room = line.room().try_clone()?;
        Ok(Self { line, room, from: File::from(from), source: Source::Paused, end: None, ends_left: 0 })
    }

    /// Types `character` when the descriptor has come to its end, and a second time behind a line that is not ended: a
    /// serial line has no end of its own, terminals have a character for it.
    pub fn ending_with(self, character: u8) -> Self {
        Self { end: Some(character), ends_left: 1, ..self }
    }

    /// Whether the descriptor has come to its end.
    pub fn ended(&self) -> bool {
        self.source == Source::Ended
    }

    fn watch(&mut self, ops: &mut EventOps) {
        self.source = match ops.add(Events::new(&self.from, EventSet::IN)) {
            Ok(()) => Source::Watched,
            Err(_) => Source::File,
        };
    }

    fn unwatch(&mut self, ops: &mut EventOps, next: Source) {
        if self.source == Source::Watched {
            let _ = ops.remove(Events::new(&self.from, EventSet::IN));
        }
        self.source = next;
    }

    /// Moves one FIFO's worth of bytes.
    fn transfer(&mut self, ops: &mut EventOps) {
        let room = self.line.input_room().min(CHUNK);
        let mut bytes = [0; CHUNK];
        let Some(bytes) = bytes.get_mut(..room).filter(|b| !b.is_empty()) else {
            if self.source == Source::Watched {
                self.unwatch(ops, Source::Paused);
            }
            return;
        };
        match self.from.read(bytes) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // One that cannot be read has come to its end, too: the guest must not wait for more.
            end @ (Ok(0) | Err(_)) => {
                if let Err(e) = end {
                    tracing::warn!(error = %e, "serial input ended");
                }
                if let Some(end) = self.end {
                    bytes.fill(end);
                    let now = self.ends_left.min(bytes.len());
                    let taken = bytes.get(..now).map_or(0, |b| self.line.enqueue(b));
                    // In loop-back mode nothing is taken: then the end is lost like any other byte.
                    self.ends_left = if taken == 0 { 0 } else { self.ends_left.saturating_sub(taken) };
                }
                // Without room for all of them the end is seen again when there is room.
                if self.end.is_none() || self.ends_left == 0 {
                    self.unwatch(ops, Source::Ended);
                }
            }
            Ok(n) => {
                let in_line = bytes.get(..n).and_then(<[u8]>::last).is_some_and(|last| *last != b'\n');
                self.ends_left = if in_line { 2 } else { 1 };
                // Only the device loop enqueues, so the room seen above is still there.
                let taken = bytes.get(..n).map_or(0, |b| self.line.enqueue(b));
                if taken < n {
                    tracing::warn!(lost = n.saturating_sub(taken), "serial input lost in loop-back mode");
                }
            }
        }
    }
}

impl MutEventSubscriber for SerialInput {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(e) = ops.add(Events::new(&self.room, EventSet::IN)) {
            tracing::error!(error = %e, "serial input cannot be watched");
        }
        self.watch(ops);
        if self.source == Source::File {
            self.transfer(ops);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        use std::os::fd::AsRawFd;
        if events.fd() == self.room.as_raw_fd() {
            let _ = self.room.read();
            match self.source {
                Source::Paused => self.watch(ops),
                Source::File => self.transfer(ops),
                Source::Watched | Source::Ended => {}
            }
        } else if events.fd() == self.from.as_raw_fd() {
            self.transfer(ops);
        }
    }
}
