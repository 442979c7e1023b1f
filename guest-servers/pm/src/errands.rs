//! Requests to other servers whose answers PM does not wait for.
//!
//! The one thing to hold in mind: an answer is believed only from the server that was asked, under a number that is
//! under way; everything else is nobody's answer.

use alloc::vec::Vec;

use refault_abi::Endpoint;

/// What is under way, and what to go on with (`T`) when the answer has come.
#[derive(Debug)]
pub struct Errands<T> {
    last: u16,
    open: Vec<(u16, Endpoint, T)>,
}

impl<T> Errands<T> {
    /// Nothing.
    pub const fn new() -> Errands<T> {
        Errands { last: 0, open: Vec::new() }
    }

    /// One more; answers the transaction id for the request. Bounded by the number of processes, each of which waits for
    /// one at most, plus one for each that ends.
    pub fn add(&mut self, server: Endpoint, errand: T) -> u16 {
        loop {
            self.last = self.last.wrapping_add(1);
            // Zero stands for no transaction.
            if self.last != 0 && self.open.iter().all(|(id, ..)| *id != self.last) {
                break;
            }
        }
        self.open.push((self.last, server, errand));
        self.last
    }

    /// The errand an answer under this id from this server belongs to.
    pub fn take(&mut self, id: u16, server: Endpoint) -> Option<T> {
        let index = self.open.iter().position(|(open, asked, _)| (*open, *asked) == (id, server))?;
        Some(self.open.swap_remove(index).2)
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl<T> Default for Errands<T> {
    fn default() -> Self {
        Errands::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_and_from_the_one_who_was_asked() {
        let mut errands = Errands::new();
        let id = errands.add(Endpoint::VFS, "close");
        assert_eq!(errands.take(id, Endpoint::VM), None);
        assert_eq!(errands.take(id, Endpoint::VFS), Some("close"));
        assert_eq!(errands.take(id, Endpoint::VFS), None);
        assert!(errands.is_empty());
    }

    #[test]
    fn ids_are_never_zero_and_never_under_way_twice() {
        let mut errands = Errands::new();
        let first = errands.add(Endpoint::VM, 0u32);
        for _ in 0..70_000u32 {
            let id = errands.add(Endpoint::VM, 1);
            assert!(id != 0 && id != first);
            assert_eq!(errands.take(id, Endpoint::VM), Some(1));
        }
        assert_eq!(errands.len(), 1);
    }
}
