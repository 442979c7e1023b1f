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

    /// Wakes `sleeper` at the next move.
    pub fn wake_at_move(&self, sleeper: Rc<OneShot<()>>) {
        self.sleepers.borrow_mut().push(sleeper);
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
