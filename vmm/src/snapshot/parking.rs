//! Processors that stop between runs: each has a thread of its own, which waits for orders.
//!
//! The one thing to hold in mind: a processor's state is taken and put back on its own thread, and stays there. The session only
//! says when.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use crate::vcpu::signals::kick;
use crate::vcpu::thread::Vcpu;
use crate::vm::event::VmEvent;

use super::processor::{ProcessorState, StateError};

enum Order {
    /// Run until the machine ends.
    Go,
    /// Take the state.
    Take,
    /// Put it back.
    PutBack,
}

/// A processor, seen from the session.
pub struct Parked {
    orders: Option<Sender<Order>>,
    done: Receiver<Result<(), StateError>>,
    thread: Option<JoinHandle<()>>,
    running: bool,
}

fn gone() -> StateError {
    StateError { call: "a vCPU thread", source: kvm_ioctls::Error::new(libc::ESRCH) }
}

impl Parked {
    /// Gives `vcpu` a thread, on which it waits. `msrs` are the model-specific registers to be kept.
    ///
    /// # Errors
    /// There is no thread for it, or its signals cannot be set up.
    pub fn new(
        mut vcpu: Vcpu,
        name: String,
        tell: UnboundedSender<VmEvent>,
        msrs: Arc<[u32]>,
    ) -> std::io::Result<Self> {
        let (orders, take_orders) = channel();
        let (report, done) = channel();
        let (ready, is_ready) = channel();
        let body = move || {
            let _ = ready.send(vcpu.prepare_thread());
            let mut kept = None;
            for order in take_orders {
                let result = match order {
                    Order::Go => {
                        if let Some(ending) = vcpu.run() {
                            // Nobody listens any more when the session is gone.
                            let _ = tell.send(VmEvent::Ended(ending));
                        }
                        Ok(())
                    }
                    Order::Take => vcpu.take_state(&msrs).map(|state| kept = Some(state)),
                    Order::PutBack => vcpu.put_back(kept.as_ref()),
                };
                if report.send(result).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(body)?;
        let parked = Self { orders: Some(orders), done, thread: Some(thread), running: false };
        is_ready.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread ended at once")))?;
        Ok(parked)
    }

    fn order(&self, order: Order) -> Result<(), StateError> {
        self.orders.as_ref().and_then(|orders| orders.send(order).ok()).ok_or_else(gone)
    }

    fn wait(&self) -> Result<(), StateError> {
        self.done.recv().map_err(|_| gone())?
    }

    /// Lets it run.
    pub fn go(&mut self) -> Result<(), StateError> {
        self.order(Order::Go)?;
        self.running = true;
        Ok(())
    }

    /// Asks it to stop; the machine has been told to end.
    pub fn kick(&self) {
        self.thread.iter().filter(|_| self.running).for_each(kick);
    }

    /// Waits until it has stopped.
    pub fn stopped(&mut self) -> Result<(), StateError> {
        match std::mem::take(&mut self.running) {
            true => self.wait(),
            false => Ok(()),
        }
    }

    /// Takes its state.
    pub fn take(&self) -> Result<(), StateError> {
        self.order(Order::Take)?;
        self.wait()
    }

    /// Begins to put it back; [`Parked::is_back`] waits for it.
    pub fn put_back(&self) -> Result<(), StateError> {
        self.order(Order::PutBack)
    }

    /// Waits until it is put back.
    pub fn is_back(&self) -> Result<(), StateError> {
        self.wait()
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.kick();
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a vCPU thread panicked");
        }
    }
}

impl Vcpu {
    fn take_state(&mut self, msrs: &[u32]) -> Result<ProcessorState, StateError> {
        ProcessorState::take(self.file(), msrs)
    }

    fn put_back(&mut self, state: Option<&ProcessorState>) -> Result<(), StateError> {
        self.forget_signals();
        state.map_or(Ok(()), |state| state.put_back(self.file()))
    }
}
