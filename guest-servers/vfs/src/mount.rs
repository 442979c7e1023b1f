//! Mounts: file systems and drivers that serve one request at a time, and die.
//!
//! The one thing to hold in mind: whoever wants to ask takes a [turn](Mount::enter) first and makes its grants when it has it,
//! because only then is it known whom they are for: between asking for a turn and getting it the server may have been replaced.
//! While it is being replaced nobody gets a turn. It knows nothing of messages (`transport.rs`) and of restarts (`restart.rs`).

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use refault_abi::{Endpoint, Errno, Result};

use crate::cell::OneShot;

/// What a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A file system on the disk of this number.
    Disk(u32),
    /// The pipe file system.
    Pipes,
    /// The block driver, as the device that has the zeroes.
    Driver,
    /// VFS itself: the tree of the devices.
    Devices,
}

/// Whether it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Up,
    /// It died, and its successor is not there or does not yet know what is open.
    Down,
    /// It died and will have no successor.
    GivenUp,
}

/// A mount.
#[derive(Debug)]
pub struct Mount {
    /// What it is.
    pub role: Role,
    /// The device number under which VM knows its pages.
    pub device: u64,
    endpoint: Cell<Endpoint>,
    generation: Cell<u32>,
    missed: Cell<Endpoint>,
    queue: RefCell<Queue>,
}

#[derive(Debug)]
struct Queue {
    health: Health,
    /// Whose request it is serving.
    holder: Option<Endpoint>,
    waiting: VecDeque<(Endpoint, Turning)>,
}

/// Where a turn, or the news that there will be none, is put.
type Turning = Rc<OneShot<Result<()>>>;

impl Mount {
    /// A mount that answers and has nothing to do.
    pub fn new(role: Role, endpoint: Endpoint, device: u64) -> Rc<Mount> {
        let queue = Queue { health: Health::Up, holder: None, waiting: VecDeque::new() };
        Rc::new(Mount {
            role,
            device,
            endpoint: Cell::new(endpoint),
            generation: Cell::new(0),
            missed: Cell::new(Endpoint::NONE),
            queue: RefCell::new(queue),
        })
    }

    /// The process that serves it now.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.get()
    }

    /// How many successors it has had. References that one has counted mean nothing to the next.
    pub fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// Whether it answers.
    pub fn health(&self) -> Health {
        self.queue.borrow().health
    }

    /// Whether VFS is its own file system here.
    pub fn is_devices(&self) -> bool {
        self.role == Role::Devices
    }

    /// For whom it is serving a request; NONE if it is idle.
    pub fn holder(&self) -> Endpoint {
        self.queue.borrow().holder.unwrap_or(Endpoint::NONE)
    }

    /// Takes the turn for `client`, or a place in the queue. EIO when it is given up.
    pub fn enter(self: &Rc<Self>, client: Endpoint) -> Result<Entered> {
        let mut queue = self.queue.borrow_mut();
        match (queue.health, queue.holder) {
            (Health::GivenUp, _) => Err(Errno::EIO),
            (Health::Up, None) => {
                queue.holder = Some(client);
                Ok(Entered::Now(Turn(Rc::clone(self))))
            }
            (Health::Up, Some(_)) | (Health::Down, _) => {
                let turning = Turning::default();
                queue.waiting.push_back((client, Rc::clone(&turning)));
                Ok(Entered::Later(turning))
            }
        }
    }

    /// Nobody gets a turn until it is [`up`](Mount::up) again.
    pub fn down(&self) {
        self.queue.borrow_mut().health = Health::Down;
    }

    /// Takes note that it is dead; whether that is news.
    pub fn missed(&self) -> bool {
        self.down();
        self.missed.replace(self.endpoint()) != self.endpoint()
    }

    /// It has a successor.
    pub fn succeeded(&self, successor: Endpoint) {
        self.endpoint.set(successor);
        self.generation.set(self.generation.get().wrapping_add(1));
        self.down();
    }

    /// It answers again.
    pub fn up(self: &Rc<Self>) {
        let mut queue = self.queue.borrow_mut();
        queue.health = Health::Up;
        queue.pass_on();
    }

    /// It will not answer any more.
    pub fn give_up(&self) {
        let mut queue = self.queue.borrow_mut();
        queue.health = Health::GivenUp;
        for (_, turning) in queue.waiting.drain(..) {
            turning.set(Err(Errno::EIO));
        }
    }
}

impl Queue {
    fn pass_on(&mut self) {
        if self.health == Health::Up
            && self.holder.is_none()
            && let Some((client, turning)) = self.waiting.pop_front()
        {
            self.holder = Some(client);
            turning.set(Ok(()));
        }
    }
}

/// The answer to [`Mount::enter`].
#[derive(Debug)]
pub enum Entered {
    /// Nobody was before.
    Now(Turn),
    /// Wait for this, then it is [`Turn::after`].
    Later(Turning),
}

/// The right to have one request under way; dropping it passes it on.
#[derive(Debug)]
#[must_use = "the turn is the next one's as soon as this is dropped"]
pub struct Turn(Rc<Mount>);

impl Turn {
    /// The turn that was waited for.
    pub fn after(mount: &Rc<Mount>) -> Turn {
        Turn(Rc::clone(mount))
    }

    /// At which mount.
    pub fn mount(&self) -> &Rc<Mount> {
        &self.0
    }

    /// Whom to ask, and to grant to.
    pub fn endpoint(&self) -> Endpoint {
        self.0.endpoint()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.0.queue.borrow_mut();
        queue.holder = None;
        queue.pass_on();
    }
}

/// All mounts.
#[derive(Debug)]
pub struct Mounts {
    /// File systems on disks, by the disk's number; the first is the root.
    pub disks: Vec<Rc<Mount>>,
    /// Pipes.
    pub pipes: Rc<Mount>,
    /// The block driver.
    pub driver: Rc<Mount>,
    /// The tree of the devices.
    pub devices: Rc<Mount>,
}

/// Device numbers, towards file systems and VM: disk `n` is `n + 1`.
const PIPES_DEVICE: u64 = 0x100;
const DRIVER_DEVICE: u64 = 0x101;
const DEVICES_DEVICE: u64 = 0x102;

impl Mounts {
    /// What there is on a machine with one disk, or two. Disks are not read yet.
    pub fn new(second_disk: bool) -> Mounts {
        let servers: &[Endpoint] =
            if second_disk { &[Endpoint::MFS, Endpoint::MFS2] } else { &[Endpoint::MFS] };
        let disk = |(number, server): (u32, &Endpoint)| {
            let mount = Mount::new(Role::Disk(number), *server, u64::from(number) + 1);
            mount.down();
            mount
        };
        Mounts {
            disks: (0..).zip(servers).map(disk).collect(),
            pipes: Mount::new(Role::Pipes, Endpoint::PIPEFS, PIPES_DEVICE),
            driver: Mount::new(Role::Driver, Endpoint::BLK, DRIVER_DEVICE),
            devices: Mount::new(Role::Devices, Endpoint::NONE, DEVICES_DEVICE),
        }
    }

    /// The mount that a process serves.
    pub fn served_by(&self, server: Endpoint) -> Option<&Rc<Mount>> {
        let others = [&self.pipes, &self.driver];
        self.disks.iter().chain(others).find(|mount| mount.endpoint() == server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(mount: &Rc<Mount>, client: i32) -> Turning {
        match mount.enter(Endpoint::from_raw(client)) {
            Ok(Entered::Later(turning)) => turning,
            other => panic!("{other:?}"),
        }
    }

    fn arrived(turning: &Turning) -> Option<Result<()>> {
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        match core::pin::pin!(turning.wait()).poll(&mut context) {
            core::task::Poll::Ready(result) => Some(result),
            core::task::Poll::Pending => None,
        }
    }

    use core::future::Future;

    #[test]
    fn turns_go_round_in_order_and_stop_while_it_is_down() {
        let mount = Mount::new(Role::Disk(0), Endpoint::MFS, 1);
        let Ok(Entered::Now(first)) = mount.enter(Endpoint::from_raw(20)) else { panic!() };
        let (second, third) = (later(&mount, 21), later(&mount, 22));
        assert_eq!(mount.holder().raw(), 20);
        drop(first);
        assert_eq!((arrived(&second), arrived(&third), mount.holder().raw()), (Some(Ok(())), None, 21));
        let turn = Turn::after(&mount);
        mount.succeeded(Endpoint::MFS.next_generation());
        drop(turn);
        assert_eq!((arrived(&third), mount.holder()), (None, Endpoint::NONE));
        assert_eq!((mount.generation(), mount.endpoint().generation()), (1, 1));
        let fourth = later(&mount, 23);
        mount.up();
        assert_eq!((arrived(&third), arrived(&fourth)), (Some(Ok(())), None));
        mount.give_up();
        assert_eq!(arrived(&fourth), Some(Err(Errno::EIO)));
        assert!(mount.enter(Endpoint::INIT).is_err());
    }
}
