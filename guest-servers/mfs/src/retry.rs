//! Requests to a driver that may be restarted meanwhile.
//!
//! A driver that dies takes its requests with it, but nothing of them is lost: the buffers are this server's, and every
//! request is about fixed positions of the disk. So the whole request is made again at the successor. That one has stopped
//! the device before it serves anybody: nothing of the first attempt can arrive after the second.
//!
//! What it is not: a remedy for errors that a driver answers. Those are the disk's.

use core::cell::Cell;

use refault_abi::{Endpoint, Errno, Result};

/// Drivers that a request is made to before it fails (specification 6: libbdev has 10 tries).
pub const TRIES: u32 = 10;

/// Makes a request until a living driver has answered it. `successor` answers who serves instead of a dead driver, once it
/// does. EIO when there is none, and when too many have died of it.
pub fn until_answered<T>(
    driver: &Cell<Endpoint>,
    mut request: impl FnMut(Endpoint) -> Result<T>,
    mut successor: impl FnMut(Endpoint) -> Result<Endpoint>,
) -> Result<T> {
    for _ in 0..TRIES {
        let asked = driver.get();
        match request(asked) {
            Err(Errno::EDEADSRCDST | Errno::EDEADEPT) => {
                let next = successor(asked).map_err(|_| Errno::EIO)?;
                if next == asked {
                    return Err(Errno::EIO);
                }
                driver.set(next);
            }
            answered => return answered,
        }
    }
    Err(Errno::EIO)
}

/// The driver is another process now. True if it is this one's.
pub fn restarted(driver: &Cell<Endpoint>, old: Endpoint, new: Endpoint) -> bool {
    // A message about an older one than is known here says nothing new.
    let ours = driver.get() == old;
    if ours {
        driver.set(new);
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn generation(number: i32) -> Endpoint {
        Endpoint::new(number, Endpoint::BLK.slot())
    }

    #[test]
    fn a_request_goes_to_the_successor_as_often_as_it_takes() {
        let driver = Cell::new(generation(0));
        let mut asked = Vec::new();
        let answer = until_answered(
            &driver,
            |to| {
                asked.push(to.generation());
                if to == generation(3) { Ok(7) } else { Err(Errno::EDEADSRCDST) }
            },
            |dead| Ok(dead.next_generation()),
        );
        assert_eq!((answer, asked, driver.get()), (Ok(7), vec![0, 1, 2, 3], generation(3)));
    }

    #[test]
    fn it_ends_when_there_is_no_successor_and_when_all_die() {
        let driver = Cell::new(generation(0));
        let dead = |_: Endpoint| -> Result<()> { Err(Errno::EDEADEPT) };
        assert_eq!(until_answered(&driver, dead, |_| Err(Errno::ESRCH)), Err(Errno::EIO));
        assert_eq!(until_answered(&driver, dead, Ok), Err(Errno::EIO), "the dead one again");
        let mut looked = 0;
        let next = |old: Endpoint| {
            looked += 1;
            Ok(old.next_generation())
        };
        assert_eq!(until_answered(&driver, dead, next), Err(Errno::EIO));
        assert_eq!(looked, TRIES);
    }

    #[test]
    fn what_a_living_driver_answers_is_final() {
        let driver = Cell::new(generation(0));
        let mut times = 0;
        let request = |_: Endpoint| -> Result<()> {
            times += 1;
            Err(Errno::EIO)
        };
        assert_eq!(until_answered(&driver, request, |_| Err(Errno::ESRCH)), Err(Errno::EIO));
        assert_eq!(times, 1);
    }

    #[test]
    fn news_of_a_restart_count_once() {
        let driver = Cell::new(generation(0));
        assert!(restarted(&driver, generation(0), generation(1)));
        assert!(!restarted(&driver, generation(0), generation(1)));
        assert!(!restarted(&driver, Endpoint::MFS, generation(5)));
        assert_eq!(driver.get(), generation(1));
    }
}
