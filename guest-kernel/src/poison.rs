//! Poisoned pages that were touched and that VM has not been told of yet.
//!
//! The one thing to hold in mind: whoever's memory it was has been stopped before anything is written here, so nothing is
//! urgent, and each process is to be ended once; forgetting any other page costs nothing but another machine check later.
//! What is not here: the machine check itself (`arch`), and what becomes of the page (VM).

use refault_abi::Endpoint;
use refault_abi::endpoint::NR_PROCS;

/// Room for a page of each process, and as many again.
const ROOM: usize = 2 * NR_PROCS;

/// A poisoned page, and whose memory it was when it was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poisoned {
    /// Physical address of the page.
    pub page: u64,
    /// The process, which is to be ended; NONE for one whose end had already begun.
    pub owner: Endpoint,
    /// Its address of what was touched.
    pub address: u64,
}

/// They, in the order in which they were touched.
#[derive(Clone, Debug)]
pub struct Poisons {
    list: [Poisoned; ROOM],
    used: usize,
}

impl Poisons {
    /// None.
    pub const EMPTY: Poisons =
        Poisons { list: [Poisoned { page: 0, owner: Endpoint::NONE, address: 0 }; ROOM], used: 0 };

    /// Remembers a page. Whether there was room: there always is for one whose process is to be ended.
    pub fn remember(&mut self, new: Poisoned) -> bool {
        if new.owner == Endpoint::NONE && self.used >= NR_PROCS {
            return false;
        }
        let Some(place) = self.list.get_mut(self.used) else { return false };
        *place = new;
        self.used += 1;
        true
    }

    /// Takes the oldest one out.
    pub fn take(&mut self) -> Option<Poisoned> {
        let oldest = *self.list.get(..self.used)?.first()?;
        self.list.copy_within(1..self.used, 0);
        self.used -= 1;
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(slot: i32, page: u64) -> Poisoned {
        Poisoned { page, owner: Endpoint::new(1, slot), address: 0x1000 }
    }

    #[test]
    fn first_come_first_told() {
        let mut poisons = Poisons::EMPTY;
        assert_eq!(poisons.take(), None);
        for page in [7, 5, 6] {
            assert!(poisons.remember(of(3, page)));
        }
        let told: Vec<u64> = std::iter::from_fn(|| poisons.take()).map(|told| told.page).collect();
        assert_eq!(told, [7, 5, 6]);
    }

    #[test]
    fn pages_of_the_dead_leave_room_for_every_process() {
        let mut poisons = Poisons::EMPTY;
        let page = |page| Poisoned { page, owner: Endpoint::NONE, address: 0 };
        let kept = (0..1000).filter(|index| poisons.remember(page(*index))).count();
        assert_eq!(kept, NR_PROCS);
        for slot in 0..NR_PROCS as i32 {
            assert!(poisons.remember(of(slot, 1)), "{slot}");
            assert!(!poisons.remember(page(2)), "{slot}");
        }
    }
}
