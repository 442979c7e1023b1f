//! Reads that wait for input, in the order they came.

use alloc::collections::VecDeque;

/// Most reads that wait at once: processes have one request under way each.
pub const READERS_MAX: usize = 64;

/// The queue. `T` is a read, whatever it takes to answer it.
#[derive(Clone, Debug, Default)]
pub struct Readers<T> {
    waiting: VecDeque<(i32, T)>,
    /// The line that the next read is for was interrupted.
    interrupted: bool,
}

impl<T> Readers<T> {
    /// Nobody.
    pub const fn new() -> Readers<T> {
        Readers { waiting: VecDeque::new(), interrupted: false }
    }

    /// The process `user` waits. The read comes back when there are too many.
    pub fn add(&mut self, user: i32, read: T) -> Result<(), T> {
        if self.waiting.len() >= READERS_MAX {
            return Err(read);
        }
        self.waiting.push_back((user, read));
        Ok(())
    }

    /// The read whose turn it is.
    pub fn first(&self) -> Option<&T> {
        self.waiting.front().map(|(_, read)| read)
    }

    /// Takes it.
    pub fn take_first(&mut self) -> Option<T> {
        self.waiting.pop_front().map(|(_, read)| read)
    }

    /// An interrupt has ended `ended` processes. If that is nobody and nobody reads, it was for whoever is about to read (a shell
    /// that has shown its prompt), and is kept for that read.
    pub fn interrupt(&mut self, ended: u64) {
        self.interrupted = ended == 0 && self.waiting.is_empty();
    }

    /// Whether a read that comes now is interrupted; only one is.
    pub fn take_interrupt(&mut self) -> bool {
        core::mem::take(&mut self.interrupted)
    }

    /// Forgets the process's reads.
    pub fn cancel(&mut self, user: i32) {
        self.waiting.retain(|(waiting, _)| *waiting != user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_that_finds_nobody_is_for_the_next_read() {
        let mut readers = Readers::new();
        readers.interrupt(2);
        assert!(!readers.take_interrupt(), "it ended somebody");
        readers.interrupt(0);
        assert!(readers.take_interrupt());
        assert!(!readers.take_interrupt(), "one read only");
        readers.add(12, "a").unwrap();
        readers.interrupt(0);
        assert!(!readers.take_interrupt(), "somebody reads, and is told now");
    }

    #[test]
    fn first_come_first_served_and_the_dead_do_not_wait() {
        let mut readers = Readers::new();
        for (user, read) in [(12, "a"), (13, "b"), (12, "c"), (14, "d")] {
            readers.add(user, read).unwrap();
        }
        assert_eq!(readers.take_first(), Some("a"));
        readers.cancel(12);
        assert_eq!(readers.first(), Some(&"b"));
        assert_eq!((readers.take_first(), readers.take_first()), (Some("b"), Some("d")));
        assert_eq!(readers.take_first(), None);
    }

    #[test]
    fn bounded() {
        let mut readers = Readers::new();
        for user in 0..READERS_MAX as i32 {
            readers.add(user, user).unwrap();
        }
        assert_eq!(readers.add(99, 99), Err(99));
    }
}
