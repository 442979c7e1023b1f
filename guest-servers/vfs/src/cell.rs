//! What tasks wait for: a value that arrives once, and a fair shared/exclusive lock.
//!
//! The one thing to hold in mind: these are locks between *tasks* of one thread. A lock here may be held
//! while its holder waits for a file system or for VM, which is harmless exactly because page-ins take none
//! of them (see the crate's documentation).

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};

/// A value that somebody else puts in, once.
#[derive(Debug)]
pub struct OneShot<T> {
    inner: RefCell<(Option<T>, Option<Waker>)>,
}

impl<T> Default for OneShot<T> {
    fn default() -> Self {
        OneShot { inner: RefCell::new((None, None)) }
    }
}

impl<T> OneShot<T> {
    /// Empty.
    pub fn new() -> OneShot<T> {
        OneShot::default()
    }

    /// Puts the value in and wakes the task that waits.
    pub fn set(&self, value: T) {
        let mut inner = self.inner.borrow_mut();
        inner.0 = Some(value);
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }

    /// Takes the value out, waiting for it. One task may wait.
    pub fn wait(&self) -> impl Future<Output = T> + '_ {
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            match inner.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    inner.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

/// How a [`TaskLock`] is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Debug, Default)]
struct LockState {
    shared: usize,
    exclusive: bool,
    waiting: VecDeque<(Mode, Rc<OneShot<()>>)>,
}

impl LockState {
    fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Shared => !self.exclusive,
            Mode::Exclusive => !self.exclusive && self.shared == 0,
        }
    }

    fn enter(&mut self, mode: Mode) {
        match mode {
            Mode::Shared => self.shared += 1,
            Mode::Exclusive => self.exclusive = true,
        }
    }
}

/// A shared/exclusive lock that admits strictly in the order of asking, so that nobody starves.
#[derive(Debug, Default)]
pub struct TaskLock {
    state: RefCell<LockState>,
}

/// A held lock; dropping it lets the next ones in.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct Held<'a> {
    lock: &'a TaskLock,
    mode: Mode,
}

impl TaskLock {
    /// Takes the lock, waiting for it.
    pub async fn take(&self, mode: Mode) -> Held<'_> {
        let turn = {
            let mut state = self.state.borrow_mut();
            if state.waiting.is_empty() && state.admits(mode) {
                state.enter(mode);
                None
            } else {
                let turn = Rc::new(OneShot::new());
                state.waiting.push_back((mode, Rc::clone(&turn)));
                Some(turn)
            }
        };
        if let Some(turn) = turn {
            // Whoever releases enters the lock in our name before it wakes us.
            turn.wait().await;
        }
        Held { lock: self, mode }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.lock.state.borrow_mut();
        match self.mode {
            Mode::Shared => state.shared = state.shared.saturating_sub(1),
            Mode::Exclusive => state.exclusive = false,
        }
        while let Some((mode, _)) = state.waiting.front() {
            let mode = *mode;
            if !state.admits(mode) {
                break;
            }
            state.enter(mode);
            if let Some((_, turn)) = state.waiting.pop_front() {
                turn.set(());
            }
        }
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
