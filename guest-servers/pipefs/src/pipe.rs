//! One pipe: bytes in the order in which they came, and two ends that are open or not.
//!
//! The bytes lie together, never around a corner, so that a request is one copy whatever its size: half of a request's
//! bytes can then not be consumed while the other half waits for a page. The price is that they are moved to the front of
//! the buffer when the room behind them is too small.

use alloc::boxed::Box;
use alloc::vec;

/// Bytes a pipe holds.
pub const CAPACITY: usize = 64 << 10;
/// Writes of up to so many bytes go in whole or not at all (POSIX asks for 512, Linux has 4096).
pub const ATOMIC: usize = 4096;

/// One of the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where bytes come out.
    Reading,
    /// Where they go in.
    Writing,
}

/// A pipe.
#[derive(Debug)]
pub struct Pipe {
    buffer: Box<[u8]>,
    /// The bytes are `buffer[first..last]`.
    first: usize,
    last: usize,
    reader: bool,
    writer: bool,
}

impl Pipe {
    /// An empty pipe with both ends open.
    #[must_use]
    pub fn new() -> Pipe {
        Pipe { buffer: vec![0; CAPACITY].into_boxed_slice(), first: 0, last: 0, reader: true, writer: true }
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.last.saturating_sub(self.first)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an end is open.
    #[must_use]
    pub fn is_open(&self, end: End) -> bool {
        match end {
            End::Reading => self.reader,
            End::Writing => self.writer,
        }
    }

    /// Nobody has the end any more.
    pub fn close(&mut self, end: End) {
        match end {
            End::Reading => self.reader = false,
            End::Writing => self.writer = false,
        }
    }

    /// The next bytes, at most `most`. They stay until they are [consumed](Pipe::consume).
    #[must_use]
    pub fn front(&self, most: usize) -> &[u8] {
        let end = self.first.saturating_add(most).min(self.last);
        self.buffer.get(self.first..end).unwrap_or_default()
    }

    /// Forgets the next `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.first = self.first.saturating_add(count).min(self.last);
        if self.first == self.last {
            (self.first, self.last) = (0, 0);
        }
    }

    /// How many bytes of a write of `wanted` bytes go in now: all, as many as there is room for, or none when the pipe is
    /// full or the write must not be divided.
    #[must_use]
    pub fn room(&self, wanted: usize) -> usize {
        let free = CAPACITY.saturating_sub(self.len());
        if wanted <= free {
            wanted
        } else if wanted <= ATOMIC {
            0
        } else {
            free
        }
    }

    /// A place for `count` more bytes, at most [`Pipe::room`]. They are in the pipe once they are [added](Pipe::add).
    pub fn back(&mut self, count: usize) -> &mut [u8] {
        if count > CAPACITY.saturating_sub(self.last) {
            let length = self.len();
            self.buffer.copy_within(self.first..self.last, 0);
            (self.first, self.last) = (0, length);
        }
        let end = self.last.saturating_add(count).min(CAPACITY);
        self.buffer.get_mut(self.last..end).unwrap_or_default()
    }

    /// The first `count` bytes of the place that [`Pipe::back`] gave are in the pipe.
    pub fn add(&mut self, count: usize) {
        self.last = self.last.saturating_add(count).min(CAPACITY);
    }
}

impl Default for Pipe {
    fn default() -> Self {
        Pipe::new()
    }
}
