//! Exit codes of the `refault` command.
//!
//! A guest that ends by itself gives its status, 0 to 127 (larger ones come out as 127). Everything that the VMM has to
//! say for itself lies above, clear of 128 + signal number as shells use it, so that a script can tell the two apart.

use crate::vm::End;

/// Codes that are not a guest's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Ended by a signal from outside (SIGINT and the like), the guest with it.
    Interrupted = 130,
    /// The command line could not be understood.
    Usage = 160,
    /// The kernel or boot image cannot be booted.
    Kernel = 161,
    /// A disk image cannot be used, or `--disk` could not be understood.
    Disk = 162,
    /// An injection rule could not be understood.
    Rule = 163,
    /// There is no usable /dev/kvm.
    NoKvm = 164,
    /// /dev/kvm may not be opened by this user.
    KvmPermission = 165,
    /// The host refused something else, or the VMM failed.
    Host = 166,
    /// Pages cannot be taken away on this host.
    Mechanism = 167,
    /// An image could not be made by `mkfs`.
    Mkfs = 168,
    /// A report could not be written.
    Output = 169,
    /// The guest's kernel panicked.
    GuestPanic = 170,
    /// The guest brought its machine into a state from which it could not go on.
    GuestCrash = 171,
    /// The time allowed by `--timeout` was over.
    Timeout = 172,
    /// The demo did not show what it must show.
    Demo = 173,
    /// The guest's kernel found that nothing in it can go on.
    Wedged = 174,
    /// A guest test failed.
    Tests = 175,
    /// A run of a campaign violated an oracle.
    Campaign = 176,
    /// Coverage is below the floor.
    Coverage = 177,
    /// A replay did not come to what was expected.
    Replay = 178,
    /// Records of a campaign cannot be read.
    Records = 179,
}

/// Largest guest status that is passed through.
const LAST_STATUS: u32 = 127;

/// The exit code for the end of a machine.
pub fn of_end(end: &End) -> u8 {
    match end {
        End::Exited(status) => (*status).min(LAST_STATUS) as u8,
        End::Panicked(_) => ExitCode::GuestPanic as u8,
        End::Wedged(_) => ExitCode::Wedged as u8,
        End::TimedOut(_) => ExitCode::Timeout as u8,
        End::Crashed(_) => ExitCode::GuestCrash as u8,
        End::Failed(_) => ExitCode::Host as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_status_never_looks_like_the_vmms() {
        for status in [0, 1, 127, 128, 160, 255, u32::MAX] {
            assert!(of_end(&End::Exited(status)) <= 127);
        }
        assert_eq!(of_end(&End::Exited(3)), 3);
        assert_eq!(of_end(&End::Panicked(Some(0))), 170);
        assert_eq!(of_end(&End::Wedged(Vec::new())), 174);
    }
}
