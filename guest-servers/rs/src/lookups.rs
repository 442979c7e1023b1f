//! Servers that wait for the successor of a dead one.

use alloc::vec::Vec;

use refault_abi::Endpoint;

/// Most that wait: every server may have one request under way, and VFS a few.
pub const LOOKUPS_MAX: usize = 64;

/// The queue. `T` is what it takes to answer.
#[derive(Clone, Debug, Default)]
pub struct Lookups<T> {
    waiting: Vec<(i32, Endpoint, T)>,
}

impl<T> Lookups<T> {
    /// Nobody.
    pub const fn new() -> Lookups<T> {
        Lookups { waiting: Vec::new() }
    }

    /// Waits until `slot` has another endpoint than `dead`. The asker comes back when there are too many.
    pub fn add(&mut self, slot: i32, dead: Endpoint, asker: T) -> Result<(), T> {
        if self.waiting.len() >= LOOKUPS_MAX {
            return Err(asker);
        }
        self.waiting.push((slot, dead, asker));
        Ok(())
    }

    /// Those whose waiting is over, because `slot` has `endpoint` now.
    pub fn found(&mut self, slot: i32, endpoint: Endpoint) -> Vec<T> {
        let mut over = Vec::new();
        let mut index = 0;
        while let Some((waits_for, dead, _)) = self.waiting.get(index) {
            if *waits_for == slot && *dead != endpoint {
                over.push(self.waiting.remove(index).2);
            } else {
                index += 1;
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_successor_ends_the_waiting() {
        let mut lookups = Lookups::new();
        let (old, new) = (Endpoint::BLK, Endpoint::BLK.next_generation());
        lookups.add(3, old, 'a').unwrap();
        lookups.add(3, new, 'b').unwrap();
        lookups.add(10, old, 'c').unwrap();
        assert_eq!(lookups.found(3, old), ['b']);
        lookups.add(3, new, 'd').unwrap();
        assert_eq!(lookups.found(3, new), ['a']);
        assert_eq!(lookups.found(3, new), []);
        for index in 2..LOOKUPS_MAX {
            assert!(lookups.add(3, new, 'e').is_ok(), "{index}");
        }
        assert_eq!(lookups.add(3, new, 'f'), Err('f'));
    }
}
