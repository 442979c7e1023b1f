//! Pipes as VFS knows them: their ends, and who waits at them.
//!
//! The one thing to hold in mind: the bytes and the question whether there are any are the pipe file system's. VFS counts the
//! *moves* of a pipe. Whoever is told "nothing now" waits until there has been a move since before it asked, so that no move
//! can be missed; a wake-up for nothing costs one more question.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::cell::OneShot;
use crate::vnode::{Chore, Chores, Vnode};

/// A pipe.
#[derive(Debug)]
pub struct Pipe {
    /// At the pipe file system.
    pub vnode: Rc<Vnode>,
    moves: Cell<u64>,
    sleepers: RefCell<Vec<Rc<OneShot<()>>>>,
}

impl Pipe {
    /// A new pipe.
    pub fn new(vnode: Rc<Vnode>) -> Rc<Pipe> {
        Rc::new(Pipe { vnode, moves: Cell::new(0), sleepers: RefCell::default() })
    }

    /// Moves so far.
    pub fn moves(&self) -> u64 {
        self.moves.get()
    }

    /// Bytes were read or written, or an end was closed: whoever waits looks again.
    pub fn moved(&self) {
        self.moves.set(self.moves.get().wrapping_add(1));
        for sleeper in self.sleepers.take() {
            sleeper.set(());
        }
    }

    /// Wakes `sleeper` at the next move. Those whose processes have died in the meantime are forgotten: a pipe that never
    /// moves must not collect them.
    pub fn wake_at_move(&self, sleeper: Rc<OneShot<()>>) {
        let mut sleepers = self.sleepers.borrow_mut();
        sleepers.retain(|other| Rc::strong_count(other) > 1);
        sleepers.push(sleeper);
    }
}

/// An end of a pipe, of which there is one; open files share it.
#[derive(Debug)]
pub struct PipeEnd {
    /// Of which pipe.
    pub pipe: Rc<Pipe>,
    writing: bool,
    chores: Chores,
}

impl PipeEnd {
    /// The reading and the writing end.
    pub fn both(pipe: &Rc<Pipe>, chores: &Chores) -> (PipeEnd, PipeEnd) {
        let end = |writing| PipeEnd { pipe: Rc::clone(pipe), writing, chores: Rc::clone(chores) };
        (end(false), end(true))
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let chore = Chore::ClosePipe { pipe: Rc::clone(&self.pipe), writing: self.writing };
        self.chores.borrow_mut().push(chore);
    }
}

#[cfg(test)]
mod tests {
    use refault_abi::Endpoint;
    use refault_abi::fs::Node;

    use super::*;
    use crate::mount::{Mount, Role};
    use crate::vnode::Shelf;

    #[test]
    fn a_pipe_that_never_moves_does_not_collect_the_dead() {
        let mount = Mount::new(Role::Pipes, Endpoint::PIPEFS, 0x100);
        let pipe = Pipe::new(Shelf::default().found(&mount, &Node { inode: 1, ..Node::default() }, 2));
        let alive = Rc::new(OneShot::new());
        pipe.wake_at_move(Rc::clone(&alive));
        for _ in 0..100 {
            pipe.wake_at_move(Rc::new(OneShot::new()));
        }
        assert!(pipe.sleepers.borrow().len() <= 2);
        assert_eq!(Rc::strong_count(&alive), 2, "who lives is still woken");
        pipe.moved();
        assert_eq!((Rc::strong_count(&alive), pipe.sleepers.borrow().len()), (1, 0));
    }
}
