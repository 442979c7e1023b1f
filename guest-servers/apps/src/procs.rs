//! Processes, grants and counters in the form `ps`, `grants` and `faults` show them.

use core::fmt;

use refault_abi::grant::{DIRECT, INDIRECT, MAGIC, READ, State, TRY, VALID, WRITE, mark};
use refault_abi::kcall::rts;
use refault_abi::{Endpoint, counters};

/// Why a process does not run, in a word.
pub const fn state(flags: u32) -> &'static str {
    // What a server may be able to end comes behind what only VM or PM can.
    if flags == 0 {
        "runs"
    } else if flags & rts::STOPPED != 0 {
        "stopped"
    } else if flags & rts::INHIBITED != 0 {
        "new"
    } else if flags & rts::PAGEFAULT != 0 {
        "fault"
    } else if flags & rts::VMREQUEST != 0 {
        "copy"
    } else if flags & rts::SENDING != 0 {
        "sends"
    } else if flags & rts::RECEIVING != 0 {
        "waits"
    } else {
        "?"
    }
}

/// A peer: the endpoint's number, or a word for the special ones.
#[derive(Clone, Copy, Debug)]
pub struct Peer(
    /// Whom.
    pub i32,
);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match Endpoint::from_raw(self.0) {
            Endpoint::ANY => "any",
            Endpoint::NONE => "-",
            Endpoint::HARDWARE => "hardware",
            Endpoint::CLOCK => "clock",
            _ => return f.pad_integral(self.0 >= 0, "", itoa(&mut [0; 12], self.0)),
        };
        f.pad(name)
    }
}

/// The digits of a number, without its sign.
fn itoa(buffer: &mut [u8; 12], number: i32) -> &str {
    let mut left = number.unsigned_abs();
    let mut first = buffer.len();
    for (index, place) in buffer.iter_mut().enumerate().rev() {
        // A remainder of ten fits a byte.
        *place = b'0' + (left % 10) as u8;
        left /= 10;
        first = index;
        if left == 0 {
            break;
        }
    }
    buffer.get(first..).and_then(|digits| core::str::from_utf8(digits).ok()).unwrap_or("?")
}

/// What a grant is over, and what it allows: `direct rw-` and the like, with `t` for CPF_TRY and `!` for a mark.
pub fn grant_text(state: u64) -> Option<[u8; 11]> {
    let state = State(state);
    let flags = state.flags();
    if flags & VALID == 0 {
        return None;
    }
    let mut text = *b"?      ---  ";
    let kind: &[u8] = match flags & (DIRECT | MAGIC | INDIRECT) {
        DIRECT => b"direct",
        MAGIC => b"magic",
        INDIRECT => b"passed",
        _ => b"?",
    };
    for (place, byte) in text.iter_mut().zip(kind) {
        *place = *byte;
    }
    let letters = [
        (flags & READ != 0, b'r'),
        (flags & WRITE != 0, b'w'),
        (flags & TRY != 0, b't'),
        (state.mark() & mark::FAULTED != 0, b'!'),
    ];
    for (place, (set, letter)) in text.iter_mut().skip(7).zip(letters) {
        if set {
            *place = letter;
        }
    }
    text.first_chunk().copied()
}

/// The counters that `faults` shows: those about copies, faults, marks, repeats and restarts.
pub fn about_faults(key: &str) -> bool {
    const BEGINNINGS: [&str; 4] = ["soft_faults", "marks_", "vfs_", "vm_"];
    const KEYS: [&str; 8] = [
        "copies",
        "suspends",
        "resumes",
        "page_faults",
        "reflected_user",
        "fs_copy_failures",
        "fs_partial_results",
        "rs_restarts",
    ];
    BEGINNINGS.iter().any(|beginning| key.starts_with(beginning)) || KEYS.contains(&key)
}

/// Every counter that there is.
pub fn counters() -> impl Iterator<Item = (counters::Counter, &'static str)> {
    counters::ALL.iter().copied()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use refault_abi::grant::USED;

    use super::*;

    #[test]
    fn peers_fill_their_columns() {
        assert_eq!(format!("{:>6}|{:<4}|{}", Peer(32780), Peer(-3), Peer(7)), " 32780|clock|7");
        assert_eq!(format!("{:>6}|", Peer(31743)), "     -|");
        assert_eq!(format!("{:>6}|", Peer(-9)), "    -9|");
        assert_eq!(format!("{}", Peer(i32::MIN)), "-2147483648");
    }

    #[test]
    fn grants_in_words() {
        let text = |flags, mark| grant_text(State::new(flags, mark, 5).0);
        assert_eq!(text(USED, 0), None);
        assert_eq!(text(USED | VALID | DIRECT | READ, 0), Some(*b"direct r-- "));
        assert_eq!(text(USED | VALID | MAGIC | WRITE | TRY, mark::FAULTED), Some(*b"magic  -wt!"));
        assert_eq!(text(USED | VALID | INDIRECT, 0), Some(*b"passed --- "));
    }

    #[test]
    fn counters_are_chosen_by_their_keys() {
        assert!(about_faults("marks_set") && about_faults("vfs_repeats") && about_faults("suspends"));
        assert!(!about_faults("messages"));
        assert!(counters().any(|(_, key)| about_faults(key)));
    }

    #[test]
    fn the_gravest_reason_is_the_one_that_is_told() {
        assert_eq!(state(0), "runs");
        assert_eq!(state(rts::STOPPED | rts::RECEIVING), "stopped");
        assert_eq!(state(rts::SENDING | rts::RECEIVING), "sends");
    }
}
