//! Arithmetic of positions and lengths, which are numbers a process chose.
//!
//! The one thing to hold in mind: a position never exceeds `i64::MAX`, so that it can travel as a result. It
//! is arithmetic only: who may move a position, and when, is decided where the open file is locked.

use refault_abi::layout::USER_END;
use refault_abi::vfs::{SEEK_CUR, SEEK_END, SEEK_SET};
use refault_abi::{Errno, Result};

/// The largest position.
pub const POSITION_MAX: u64 = i64::MAX as u64;

/// Where LSEEK leads.
pub fn seek(position: u64, size: u64, offset: i64, whence: u32) -> Result<u64> {
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => position,
        SEEK_END => size,
        _ => return Err(Errno::EINVAL),
    };
    match base.checked_add_signed(offset) {
        Some(target) if target <= POSITION_MAX => Ok(target),
        _ => Err(Errno::EINVAL),
    }
}

/// An explicit position: not negative.
pub fn explicit(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// Bytes a read of `bytes` at `position` can deliver from a file of `size` bytes.
pub fn readable(position: u64, size: u64, bytes: u64) -> u64 {
    bytes.min(size.saturating_sub(position))
}

/// Bytes a write of `bytes` at `position` may write; EFBIG when not one byte fits.
pub fn writable(position: u64, bytes: u64) -> Result<u64> {
    match POSITION_MAX.saturating_sub(position) {
        0 if bytes > 0 => Err(Errno::EFBIG),
        room => Ok(bytes.min(room)),
    }
}

/// Checks that `[address, address + bytes)` can be a process's memory.
pub fn user_range(address: u64, bytes: u64) -> Result<()> {
    match address.checked_add(bytes) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeking() {
        assert_eq!(seek(10, 100, 5, SEEK_SET), Ok(5));
        assert_eq!(seek(10, 100, -10, SEEK_CUR), Ok(0));
        assert_eq!(seek(10, 100, -11, SEEK_CUR), Err(Errno::EINVAL));
        assert_eq!(seek(10, 100, 1000, SEEK_END), Ok(1100), "past the end is allowed");
        assert_eq!(seek(10, 100, -1, SEEK_SET), Err(Errno::EINVAL));
        assert_eq!(seek(10, 100, 0, 3), Err(Errno::EINVAL));
        assert_eq!(seek(0, 0, i64::MAX, SEEK_SET), Ok(POSITION_MAX));
        assert_eq!(seek(1, 0, i64::MAX, SEEK_CUR), Err(Errno::EINVAL));
        assert_eq!(seek(POSITION_MAX, 0, i64::MIN, SEEK_CUR), Err(Errno::EINVAL));
    }

    #[test]
    fn lengths() {
        assert_eq!((readable(0, 10, 4), readable(8, 10, 4), readable(11, 10, 4)), (4, 2, 0));
        assert_eq!(readable(0, u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(writable(POSITION_MAX - 3, 10), Ok(3));
        assert_eq!(writable(POSITION_MAX, 1), Err(Errno::EFBIG));
        assert_eq!(writable(POSITION_MAX, 0), Ok(0));
        assert_eq!(explicit(-1), Err(Errno::EINVAL));
    }

    #[test]
    fn ranges() {
        assert_eq!(user_range(0, 0), Ok(()));
        assert_eq!(user_range(USER_END - 1, 1), Ok(()));
        assert_eq!(user_range(USER_END - 1, 2), Err(Errno::EFAULT));
        assert_eq!(user_range(u64::MAX, 2), Err(Errno::EFAULT));
        assert_eq!(user_range(0xffff_8000_0000_0000, 1), Err(Errno::EFAULT));
    }
}
