//! Whose requests come after whose.
//!
//! The one thing to hold in mind: a device answers in any order, and it goes on working for a file system that has died. What its
//! successor reads must be what the dead one's last writes left, and once the successor has read something, the dead one's memory is
//! given to others. So a successor's requests begin when its predecessor's are over. Between living servers there is no order.

use refault_abi::Endpoint;

/// Whether a request of `newcomer` waits until those of `earlier` are over.
pub fn waits_for(newcomer: Endpoint, earlier: Endpoint) -> bool {
    newcomer.slot() == earlier.slot() && newcomer != earlier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_successors_wait() {
        let successor = Endpoint::MFS.next_generation();
        assert!(waits_for(successor, Endpoint::MFS));
        assert!(waits_for(successor.next_generation(), Endpoint::MFS));
        assert!(!waits_for(Endpoint::MFS, Endpoint::MFS));
        assert!(!waits_for(successor, Endpoint::MFS2));
    }
}
