//! Where in a buffer pages are absent, and how the buffer lies on its pages.
//!
//! A schedule is a position (which byte's page is absent) and a boundary (how far that byte is from a page boundary). The
//! fifteen of them are the fault positions of every request's test.

use refault_abi::layout::PAGE;

/// Which pages are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first byte's.
    First,
    /// The middle byte's.
    Middle,
    /// The last byte's.
    Last,
    /// All of them.
    Every,
    /// The second, the fourth, and so on; the first if there is no other.
    EverySecond,
}

/// Which pages are absent and where a page boundary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Which pages are absent.
    pub position: Position,
    /// How many bytes behind the byte of interest a page boundary lies: -1, 0 or 1. For [`Position::Last`] counted from the
    /// end of the buffer, for the middle from the middle byte, for all others from its beginning.
    pub boundary: i64,
}

/// A buffer on its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of its first byte in its first page.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Pages it lies on, at most 64.
    pub pages: u64,
    /// The absent ones, one bit for each page.
    pub absent: u64,
}

impl Layout {
    /// A buffer of `bytes` at `offset` into its first page, nothing absent.
    pub fn plain(offset: u64, bytes: u64) -> Layout {
        let offset = offset % PAGE;
        let pages = offset.saturating_add(bytes).div_ceil(PAGE).clamp(1, 64);
        Layout { offset, bytes, pages, absent: 0 }
    }

    /// The same with these pages absent.
    pub fn without(self, absent: u64) -> Layout {
        let all = u64::MAX >> (64 - self.pages.clamp(1, 64));
        Layout { absent: absent & all, ..self }
    }

    /// The page of byte `index`.
    pub fn page_of(&self, index: u64) -> u64 {
        (self.offset.saturating_add(index)) / PAGE
    }

    /// Whether a page is absent.
    pub fn is_absent(&self, page: u64) -> bool {
        page < 64 && self.absent >> page & 1 == 1
    }

    /// The first absent page below the end of `moved` bytes.
    pub fn first_absent(&self, moved: u64) -> Option<u64> {
        let end = self.page_of(moved.checked_sub(1)?);
        (0..=end).find(|page| self.is_absent(*page))
    }
}

impl Schedule {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Schedule> {
        const POSITIONS: [Position; 5] =
            [Position::First, Position::Middle, Position::Last, Position::Every, Position::EverySecond];
        POSITIONS
            .into_iter()
            .flat_map(|position| [-1, 0, 1].into_iter().map(move |boundary| Schedule { position, boundary }))
    }

    /// The position's name.
    pub const fn position_name(&self) -> &'static str {
        match self.position {
            Position::First => "first",
            Position::Middle => "middle",
            Position::Last => "last",
            Position::Every => "every",
            Position::EverySecond => "second",
        }
    }

    /// The boundary's name.
    pub const fn boundary_name(&self) -> &'static str {
        match self.boundary {
            -1 => "-1",
            0 => "0",
            _ => "+1",
        }
    }

    /// How a buffer of `bytes` (at least 2), of which `moved` are touched, lies, and what of it is absent.
    pub fn layout(&self, bytes: u64, moved: u64) -> Layout {
        let moved = moved.clamp(1, bytes.max(1));
        let page = PAGE as i64;
        // Where, counted from the buffer's beginning, the boundary lies.
        let from = match self.position {
            Position::Last => moved as i64,
            Position::Middle => (moved / 2) as i64,
            _ => 0,
        };
        // The buffer's beginning is a boundary plus this.
        let offset = (self.boundary - from).rem_euclid(page) as u64;
        let layout = Layout::plain(offset, bytes);
        let absent = match self.position {
            Position::First => 1,
            Position::Middle => 1 << layout.page_of(moved / 2).min(63),
            Position::Last => 1 << layout.page_of(moved - 1).min(63),
            Position::Every => u64::MAX,
            Position::EverySecond if layout.page_of(moved - 1) == 0 => 1,
            Position::EverySecond => 0xaaaa_aaaa_aaaa_aaaa,
        };
        layout.without(absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_where_they_are_said_to_be() {
        for bytes in [72, 900, 4096, 5 * PAGE + 100] {
            for schedule in Schedule::all() {
                let layout = schedule.layout(bytes, bytes);
                let interest = match schedule.position {
                    Position::Last => layout.offset + bytes,
                    Position::Middle => layout.offset + bytes / 2,
                    _ => layout.offset,
                };
                assert_eq!(
                    interest % PAGE,
                    schedule.boundary.rem_euclid(PAGE as i64) as u64,
                    "{schedule:?} {bytes}"
                );
                assert!(layout.first_absent(bytes).is_some(), "{schedule:?} {bytes}: {layout:?}");
                assert_eq!(layout.pages, (layout.offset + bytes).div_ceil(PAGE));
            }
        }
    }

    #[test]
    fn pages_are_those_of_the_bytes() {
        let layout = Schedule { position: Position::Last, boundary: 1 }.layout(3 * PAGE, 3 * PAGE);
        assert_eq!((layout.offset, layout.pages, layout.absent), (1, 4, 0b1000));
        let layout = Schedule { position: Position::First, boundary: -1 }.layout(100, 100);
        assert_eq!((layout.offset, layout.pages, layout.absent), (PAGE - 1, 2, 1));
        let layout = Schedule { position: Position::EverySecond, boundary: 0 }.layout(4 * PAGE, 4 * PAGE);
        assert_eq!(layout.absent, 0b1010);
        let layout = Schedule { position: Position::EverySecond, boundary: 0 }.layout(72, 72);
        assert_eq!((layout.pages, layout.absent), (1, 1));
        // Only what is touched counts: a large buffer for a short answer.
        let layout = Schedule { position: Position::Last, boundary: 0 }.layout(3 * PAGE, 60);
        assert_eq!((layout.offset + 60, layout.absent), (PAGE, 1));
        assert_eq!(Layout::plain(0, 8 * PAGE).without(0b100).first_absent(2 * PAGE), None);
    }
}
