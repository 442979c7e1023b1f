//! The device loop: one thread per machine in which everything that a file descriptor wakes is done.
//!
//! Queue kicks, completions and console input, in the fixed order in which the event manager reports them.
//! The one thing to hold in mind: the loop ends when it is told to, by [`DeviceLoop::stop`], not when it has nothing
//! to do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A subscriber that can be moved into the loop.
pub type Subscriber = Box<dyn MutEventSubscriber + Send>;

/// The thread, from outside.
#[derive(Debug)]
pub struct DeviceLoop {
    stop: Arc<AtomicBool>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
}

/// Ends the loop when its descriptor is signalled.
struct Stopper(EventFd);

impl MutEventSubscriber for Stopper {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        // Only the wake-up matters; the flag says why.
        let _ = self.0.read();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(why) = ops.add(Events::new(&self.0, EventSet::IN)) {
            tracing::error!("the device loop cannot be stopped early: {why:?}");
        }
    }
}

impl DeviceLoop {
    /// Starts a thread that drives `subscribers`.
    pub fn start(subscribers: Vec<Subscriber>) -> io::Result<Self> {
        let wake = EventFd::new(EFD_NONBLOCK)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut all: Vec<Subscriber> = vec![Box::new(Stopper(wake.try_clone()?))];
        all.extend(subscribers);
        let asked = stop.clone();
        let mut manager =
            EventManager::<Subscriber>::new().map_err(|e| io::Error::other(format!("epoll: {e:?}")))?;
        for subscriber in all {
            manager.add_subscriber(subscriber);
        }
        let thread = std::thread::Builder::new().name("devices".into()).spawn(move || {
            while !asked.load(SeqCst) {
                if let Err(why) = manager.run() {
                    tracing::error!("the device loop ends: {why:?}");
                    return;
                }
            }
        })?;
        Ok(Self { stop, wake, thread: Some(thread) })
    }

    /// Ends the loop and waits for its thread.
    pub fn stop(&mut self) {
        self.stop.store(true, SeqCst);
        // A full counter means that the loop is being woken anyway.
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the device loop panicked");
        }
    }
}

impl Drop for DeviceLoop {
    fn drop(&mut self) {
        self.stop();
    }
}
