//! Whether a server that does not answer may be waiting for somebody else.
//!
//! A file system that waits for its driver cannot answer, and ending it for the driver's failure would make things worse; the
//! driver is watched itself. A driver that waits for its device has patience of its own.

use refault_abi::Endpoint;
use refault_abi::kcall::{ProcInfo, rts};

/// From what the kernel knows about the server.
pub fn is_excused(info: &ProcInfo) -> bool {
    let waits = rts::SENDING | rts::RECEIVING | rts::VMREQUEST | rts::PAGEFAULT;
    let for_one = !matches!(Endpoint::from_raw(info.waits_for), Endpoint::ANY | Endpoint::NONE);
    info.flags & rts::STOPPED == 0 && info.flags & waits != 0 && for_one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_and_a_stop_are_no_excuse() {
        let info = |flags, waits_for: Endpoint| ProcInfo {
            flags,
            waits_for: waits_for.raw(),
            ..ProcInfo::default()
        };
        assert!(!is_excused(&info(0, Endpoint::NONE)));
        assert!(!is_excused(&info(rts::RECEIVING, Endpoint::ANY)));
        assert!(!is_excused(&info(rts::STOPPED | rts::RECEIVING, Endpoint::BLK)));
        assert!(is_excused(&info(rts::RECEIVING, Endpoint::BLK)));
        assert!(is_excused(&info(rts::RECEIVING, Endpoint::HARDWARE)));
        assert!(is_excused(&info(rts::VMREQUEST, Endpoint::VM)));
    }
}
