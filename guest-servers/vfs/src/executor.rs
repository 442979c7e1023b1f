//! The executor: request handlers as futures, polled by the one thread there is.
//!
//! The one thing to hold in mind: a task runs only inside [`Executor::run`], until it awaits something that
//! has not happened yet; nothing here ever waits. So whatever a task does between two awaits is atomic
//! towards the other tasks, and state shared in a `RefCell` may be borrowed there, never across an await.
//!
//! It is not a general executor: no cancelling, no priorities, no timers. Tasks run in the order of their
//! slots, which keeps a run repeatable.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use refault_abi::Endpoint;

/// What a task is.
type Handler = Pin<Box<dyn Future<Output = ()>>>;

/// Set when its task may go on.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A slot of the task table. The future is taken out while it is polled, so that it may spawn others.
struct Slot {
    handler: Option<Handler>,
    ready: Arc<Ready>,
    waker: Waker,
    taken: bool,
    client: Endpoint,
}

/// All tasks.
pub struct Executor {
    slots: RefCell<Vec<Slot>>,
    client: Cell<Endpoint>,
}

impl Default for Executor {
    fn default() -> Executor {
        Executor { slots: RefCell::default(), client: Cell::new(Endpoint::NONE) }
    }
}

impl Executor {
    /// No tasks.
    pub fn new() -> Executor {
        Executor::default()
    }

    /// Adds a task that does something for `client`; it runs in the next [`run`](Executor::run), or in the present one.
    pub fn spawn(&self, client: Endpoint, handler: impl Future<Output = ()> + 'static) {
        let handler: Handler = Box::pin(handler);
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.iter_mut().find(|slot| !slot.taken) {
            slot.taken = true;
            slot.client = client;
            slot.handler = Some(handler);
            slot.ready.0.store(true, Ordering::Relaxed);
            return;
        }
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&ready));
        slots.push(Slot { handler: Some(handler), ready, waker, taken: true, client });
    }

    /// Runs every task that can go on until none can.
    pub fn run(&self) {
        while self.sweep() {}
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.slots.borrow().iter().filter(|slot| slot.taken).count()
    }

    /// For whom the running task works; NONE outside of tasks.
    pub fn client(&self) -> Endpoint {
        self.client.get()
    }

    /// Polls every ready task once; whether there was one.
    fn sweep(&self) -> bool {
        let mut progress = false;
        let mut index = 0;
        while let Some(step) = self.take(index) {
            if let Some((mut handler, waker, client)) = step {
                progress = true;
                let outer = self.client.replace(client);
                let outcome = handler.as_mut().poll(&mut Context::from_waker(&waker));
                self.client.set(outer);
                self.put_back(index, (outcome == Poll::Pending).then_some(handler));
            }
            index += 1;
        }
        progress
    }

    /// The task in slot `index`, if it is ready; `None` past the last slot.
    fn take(&self, index: usize) -> Option<Option<(Handler, Waker, Endpoint)>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(index)?;
        if !slot.ready.0.swap(false, Ordering::Relaxed) {
            return Some(None);
        }
        Some(slot.handler.take().map(|handler| (handler, slot.waker.clone(), slot.client)))
    }

    fn put_back(&self, index: usize, handler: Option<Handler>) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(index) {
            slot.taken = handler.is_some();
            slot.handler = handler;
        }
    }
}

#[cfg(test)]
#[path = "executor_tests.rs"]
mod tests;
