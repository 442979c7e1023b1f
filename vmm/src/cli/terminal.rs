//! The terminal while a guest reads from it.
//!
//! Characters are passed on as they are typed and not echoed (the guest does that). Ctrl-C is the guest's, too, for its
//! programs; Ctrl-\ ends the machine. The guard restores the terminal on every way out that runs destructors, and every way
//! out of the command does: signals end the machine by returning from its future, never by exiting the process.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Restores the terminal when dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: libc::termios,
}

impl RawMode {
    /// Switches standard input, if it is a terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let mut before = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: the descriptor is open and the structure is valid for writing.
        if unsafe { libc::tcgetattr(terminal.as_raw_fd(), before.as_mut_ptr()) } != 0 {
            let why = io::Error::last_os_error();
            return if why.raw_os_error() == Some(libc::ENOTTY) { Ok(None) } else { Err(why) };
        }
        // SAFETY: zero-initialised and filled in by the successful call.
        let before = unsafe { before.assume_init() };
        let mut raw = before;
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::IEXTEN);
        // Ctrl-Z would leave the terminal as it is now; Ctrl-C is for the guest's programs.
        for key in [libc::VINTR, libc::VSUSP] {
            if let Some(character) = raw.c_cc.get_mut(key) {
                *character = libc::_POSIX_VDISABLE;
            }
        }
        // A read that gives nothing means the end; some terminals are left with a count of zero by others.
        for (key, count) in [(libc::VMIN, 1), (libc::VTIME, 0)] {
            if let Some(value) = raw.c_cc.get_mut(key) {
                *value = count;
            }
        }
        raw.c_iflag &= !(libc::ICRNL | libc::INLCR | libc::IXON);
        let guard = Self { terminal, before };
        guard.set(&raw)?;
        Ok(Some(guard))
    }

    fn set(&self, to: &libc::termios) -> io::Result<()> {
        // SAFETY: the descriptor is open and `to` is a complete structure that came from tcgetattr.
        match unsafe { libc::tcsetattr(self.terminal.as_raw_fd(), libc::TCSANOW, to) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = self.set(&self.before);
    }
}
