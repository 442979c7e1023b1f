//! What tasks wait for: a value that arrives once, and a fair shared/exclusive lock.
//!
//! The one thing to hold in mind: these are locks between *tasks* of one thread. A lock here may be held
//! while its holder waits for a file system or for VM, which is harmless exactly because page-ins take none
//! of them (see the crate's documentation).

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};

use refault_abi::Endpoint;

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
    /// For whose requests it is held, in the order in which they got it.
    holders: Vec<Endpoint>,
    exclusive: bool,
    waiting: VecDeque<(Mode, Endpoint, Rc<OneShot<()>>)>,
}

impl LockState {
    fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Shared => !self.exclusive,
            Mode::Exclusive => self.holders.is_empty(),
        }
    }

    fn enter(&mut self, mode: Mode, client: Endpoint) {
        self.holders.push(client);
        self.exclusive = mode == Mode::Exclusive;
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
    client: Endpoint,
}

impl TaskLock {
    /// Takes the lock, waiting for it. `client` is for whom.
    pub async fn take(&self, mode: Mode, client: Endpoint) -> Held<'_> {
        if let Some(held) = self.try_take(mode, client) {
            return held;
        }
        let turn = Rc::new(OneShot::new());
        self.state.borrow_mut().waiting.push_back((mode, client, Rc::clone(&turn)));
        // Whoever releases enters the lock in our name before it wakes us.
        turn.wait().await;
        Held { lock: self, client }
    }

    /// Takes the lock if nobody has to be waited for.
    pub fn try_take(&self, mode: Mode, client: Endpoint) -> Option<Held<'_>> {
        let mut state = self.state.borrow_mut();
        let free = state.waiting.is_empty() && state.admits(mode);
        free.then(|| {
            state.enter(mode, client);
            Held { lock: self, client }
        })
    }

    /// For whom it has been held longest; NONE when it is free.
    pub fn holder(&self) -> Endpoint {
        self.state.borrow().holders.first().copied().unwrap_or(Endpoint::NONE)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.lock.state.borrow_mut();
        if let Some(index) = state.holders.iter().position(|holder| *holder == self.client) {
            state.holders.remove(index);
        }
        state.exclusive &= !state.holders.is_empty();
        while let Some((mode, client, _)) = state.waiting.front() {
            let (mode, client) = (*mode, *client);
            if !state.admits(mode) {
                break;
            }
            state.enter(mode, client);
            if let Some((_, _, turn)) = state.waiting.pop_front() {
                turn.set(());
            }
        }
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
