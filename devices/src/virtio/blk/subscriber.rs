//! The block device's place in the device loop.
//!
//! Two descriptors wake it: the queue's kick and the engine's completions. Completions are always dealt with
//! first, whichever of the two it was, so that one order of events in gives one order of answers out. A third one is silent unless
//! a plan of faults has answers come late: the timer of those answers.
//!
//! A disk whose driver keeps the queue full gives way after each turn by kicking itself, which puts it behind
//! the loop's other devices.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::{Block, Turn};
use crate::virtio::Work;
use crate::virtio::mmio::VirtioMmio;

/// Drives one disk. Add it to the event manager of the device loop.
pub struct BlkSubscriber {
    device: Arc<VirtioMmio<Block>>,
    kick: EventFd,
    done: EventFd,
    timer: OwnedFd,
}

impl BlkSubscriber {
    /// The subscriber for `device`. Make one, and only one, for each device.
    pub fn new(device: Arc<VirtioMmio<Block>>) -> io::Result<Self> {
        let kick = device
            .notify_registers()
            .next()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?
            .kick
            .try_clone()?;
        let done = device.inspect(|disk| disk.completion_event().try_clone())?;
        let timer = device.inspect(Block::timer)?;
        Ok(Self { device, kick, done, timer })
    }

    /// Does what the driver and the engine are waiting for now. Returns whether either had woken the loop.
    pub fn poll(&self) -> bool {
        let done = self.turn(&self.done, Block::on_completion);
        let kicked = self.turn(&self.kick, Block::on_kick);
        done || kicked
    }

    /// Takes `step` if `event` is signalled. Returns whether it was.
    fn turn(&self, event: &EventFd, step: impl FnOnce(&mut Block) -> Turn) -> bool {
        let mut woken = false;
        // The event is read under the device's lock, so that it cannot be a memory of the time before a restore.
        self.device.drive(|disk| -> Work {
            woken = event.read().is_ok();
            if !woken {
                return Work::default();
            }
            let Turn { work, more } = step(disk);
            if more {
                // A full counter means that the loop is being woken already.
                let _ = self.kick.write(1);
            }
            work
        });
        woken
    }
}

impl MutEventSubscriber for BlkSubscriber {
    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        if events.fd() == self.timer.as_raw_fd() {
            self.device.drive(|disk| disk.on_timer().work);
        } else {
            // Both descriptors were made for this subscriber, and a descriptor that is silent costs one read.
            self.poll();
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let descriptors: [&dyn AsRawFd; 3] = [&self.kick, &self.done, &self.timer];
        for descriptor in descriptors {
            if let Err(error) = ops.add(Events::new(&descriptor.as_raw_fd(), EventSet::IN)) {
                tracing::error!(%error, "a disk's events cannot be watched");
            }
        }
    }
}
