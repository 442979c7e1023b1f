//! Checking a transfer, and cutting it into parts that a device takes at once.

use refault_abi::bdev::Transfer;
use refault_abi::layout::PAGE;
use refault_abi::{Errno, Result};

/// Bytes of a sector: the unit of positions.
pub const SECTOR: u64 = 512;
/// Most physical pieces of a part: what VUMAP answers at once.
pub const PIECES: usize = 64;

/// Direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the device into memory.
    Read,
    /// From memory to the device.
    Write,
}

/// A checked transfer and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The request.
    pub transfer: Checked,
    /// Bytes moved.
    pub done: u64,
    /// Bytes of the part under way.
    pub part: u64,
}

/// A transfer whose numbers make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Direction.
    pub direction: Direction,
    /// Byte position.
    pub position: u64,
    /// Grant id.
    pub grant: i64,
    /// Offset into the grant.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Progress {
    /// Checks a request against the device. EINVAL for odd numbers or a place behind the end, EROFS for
    /// writing to a read-only device.
    pub fn check(
        transfer: &Transfer,
        direction: Direction,
        sectors: u64,
        read_only: bool,
    ) -> Result<Progress> {
        let end = transfer.position.checked_add(transfer.bytes).ok_or(Errno::EINVAL)?;
        let whole = transfer.position.is_multiple_of(SECTOR) && transfer.bytes.is_multiple_of(SECTOR);
        if !whole || transfer.bytes == 0 || end > sectors.saturating_mul(SECTOR) {
            return Err(Errno::EINVAL);
        }
        transfer.offset.checked_add(transfer.bytes).ok_or(Errno::EINVAL)?;
        if direction == Direction::Write && read_only {
            return Err(Errno::EROFS);
        }
        let transfer = Checked {
            direction,
            position: transfer.position,
            grant: transfer.grant,
            offset: transfer.offset,
            bytes: transfer.bytes,
        };
        Ok(Progress { transfer, done: 0, part: 0 })
    }

    /// Begins the next part: at most so many bytes that they lie in at most `pieces` pages wherever they start.
    /// `None` when everything is done.
    pub fn next_part(&mut self, pieces: usize) -> Option<()> {
        let left = self.transfer.bytes.checked_sub(self.done).filter(|left| *left > 0)?;
        let pages = (pieces as u64).saturating_sub(1);
        self.part = left.min(pages.saturating_mul(PAGE).max(SECTOR));
        Some(())
    }

    /// First sector of the part under way.
    pub fn sector(&self) -> u64 {
        (self.transfer.position + self.done) / SECTOR
    }

    /// Offset into the grant of the part under way.
    pub fn offset(&self) -> u64 {
        self.transfer.offset + self.done
    }

    /// The part under way is done.
    pub fn part_done(&mut self) {
        self.done += self.part;
        self.part = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(position: u64, bytes: u64) -> Transfer {
        Transfer { position, grant: 5, offset: 100, bytes, disk: 0 }
    }

    #[test]
    fn parts_cover_the_transfer() {
        let mut progress =
            Progress::check(&transfer(1024, 300 * 1024), Direction::Read, 1000, false).unwrap();
        let mut seen = std::vec![];
        while progress.next_part(PIECES).is_some() {
            seen.push((progress.sector(), progress.offset(), progress.part));
            progress.part_done();
        }
        let most = 63 * 4096;
        assert_eq!(seen, [(2, 100, most), (2 + most / 512, 100 + most, 300 * 1024 - most)]);
        assert_eq!(progress.done, 300 * 1024);
        let mut one = Progress::check(&transfer(0, 1024), Direction::Read, 1000, false).unwrap();
        one.next_part(1).unwrap();
        assert_eq!(one.part, 512);
    }

    #[test]
    fn odd_numbers_are_refused() {
        for (position, bytes) in [(1, 512), (0, 0), (0, 100), (512 * 8, 512), (u64::MAX - 511, 512)] {
            let result = Progress::check(&transfer(position, bytes), Direction::Read, 8, false);
            assert_eq!(result, Err(Errno::EINVAL), "{position} {bytes}");
        }
        let far = Transfer { offset: u64::MAX - 1, ..transfer(0, 512) };
        assert_eq!(Progress::check(&far, Direction::Read, 8, false), Err(Errno::EINVAL));
        let write = Progress::check(&transfer(0, 512), Direction::Write, 8, true);
        assert_eq!(write, Err(Errno::EROFS));
    }
}
