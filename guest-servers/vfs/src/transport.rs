//! Requests to file systems, VM and drivers, and the way their answers find the task that waits.
//!
//! The one thing to hold in mind: a request is *posted*, never sent with waiting, and its answer comes back as an
//! ordinary message under the same transaction id. A mount has one request outstanding; the others wait here in
//! the order in which they came, so a page-in is never behind more than what was asked before it. A late answer,
//! or one from somebody who was not asked, finds nobody and is dropped.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use refault_abi::counters::Counter;
use refault_abi::message::Status;
use refault_abi::{Endpoint, Errno, Message, Result, vm};

use crate::cell::OneShot;
use crate::kernel::Kernel;
use crate::server::Vfs;

/// Where an answer is put.
type Answer = Rc<OneShot<Result<Message>>>;

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    /// The file system's process.
    pub endpoint: Endpoint,
    /// The device number under which VM knows its pages.
    pub device: u64,
    queue: RefCell<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    busy: bool,
    dead: bool,
    waiting: VecDeque<(Message, Answer)>,
}

impl Mount {
    /// Nothing outstanding.
    pub fn new(endpoint: Endpoint, device: u64) -> Mount {
        Mount { endpoint, device, queue: RefCell::default() }
    }
}

/// A request under way.
struct Outstanding {
    asked: Endpoint,
    mount: Option<Rc<Mount>>,
    answer: Answer,
}

/// The requests under way, by transaction id.
#[derive(Default)]
pub struct Transactions {
    under_way: BTreeMap<u16, Outstanding>,
    last: u16,
}

impl Transactions {
    /// Enters a request; `None` when every id is taken.
    fn enter(&mut self, outstanding: Outstanding) -> Option<u16> {
        // Ids go round, so that a late answer does not meet a new request soon.
        let id = (0..u16::MAX)
            .map(|step| self.last.wrapping_add(step).wrapping_add(1))
            .find(|id| *id != 0 && !self.under_way.contains_key(id))?;
        self.last = id;
        self.under_way.insert(id, outstanding);
        Some(id)
    }
}

impl<K: Kernel> Vfs<K> {
    /// Asks a file system and waits for its turn and its answer. The answer may itself be an error.
    pub async fn call(&self, mount: &Rc<Mount>, message: Message) -> Result<Message> {
        self.enqueue(mount, message).wait().await
    }

    /// Like [`call`](Vfs::call), for a request whose answer nobody waits for.
    pub fn enqueue(&self, mount: &Rc<Mount>, message: Message) -> Answer {
        let answer = Answer::default();
        mount.queue.borrow_mut().waiting.push_back((message, Rc::clone(&answer)));
        self.pump(mount);
        answer
    }

    /// Asks somebody who takes any number of requests at a time, and waits for the answer.
    pub async fn ask(&self, whom: Endpoint, message: Message) -> Result<Message> {
        let answer = Answer::default();
        self.post(Outstanding { asked: whom, mount: None, answer: Rc::clone(&answer) }, message);
        answer.wait().await
    }

    /// Has VM make a range of a process's memory present (and writable).
    pub async fn handle_memory(&self, whose: Endpoint, address: u64, length: u64, write: bool) -> Result<()> {
        self.kernel.count(Counter::VfsHandleMem);
        let request = vm::HandleMem { endpoint: whose.raw(), write: u32::from(write), address, length };
        let answer = self.ask(Endpoint::VM, Message::new(vm::PROCCTL, &request)).await?;
        answer.get::<Status>().check().map(|_| ())
    }

    /// Sends the next request of a mount, if it is idle.
    fn pump(&self, mount: &Rc<Mount>) {
        loop {
            let (message, answer) = {
                let mut queue = mount.queue.borrow_mut();
                if queue.busy {
                    return;
                }
                let Some(next) = queue.waiting.pop_front() else { return };
                if !queue.dead {
                    queue.busy = true;
                    next
                } else {
                    next.1.set(Err(Errno::EIO));
                    continue;
                }
            };
            self.kernel.count(Counter::VfsRequests);
            let outstanding = Outstanding { asked: mount.endpoint, mount: Some(Rc::clone(mount)), answer };
            self.post(outstanding, message);
        }
    }

    /// Posts a request, or answers it with EIO when that is not possible.
    fn post(&self, outstanding: Outstanding, message: Message) {
        let asked = outstanding.asked;
        let answer = Rc::clone(&outstanding.answer);
        let mount = outstanding.mount.clone();
        let entered = self.transactions.borrow_mut().enter(outstanding);
        let posted = match entered {
            Some(id) => self.kernel.post(asked, &message.with_transaction(id)).map_err(|_| {
                self.transactions.borrow_mut().under_way.remove(&id);
            }),
            None => Err(()),
        };
        if posted.is_err() {
            if let Some(mount) = mount {
                mount.queue.borrow_mut().busy = false;
            }
            answer.set(Err(Errno::EIO));
        }
    }

    /// Takes an answer; whether it was one.
    pub fn answered(&self, message: &Message) -> bool {
        let outstanding = {
            let mut transactions = self.transactions.borrow_mut();
            let id = message.transaction();
            match transactions.under_way.get(&id) {
                Some(outstanding) if outstanding.asked == message.sender() => {}
                _ => return false,
            }
            transactions.under_way.remove(&id)
        };
        let Some(Outstanding { mount, answer, .. }) = outstanding else { return false };
        answer.set(Ok(*message));
        if let Some(mount) = mount {
            mount.queue.borrow_mut().busy = false;
            self.pump(&mount);
        }
        true
    }

    /// Somebody died: whoever waits for an answer of his gets EIO, now and later.
    pub fn lost(&self, endpoint: Endpoint) {
        let lost: Vec<Outstanding> = {
            let mut transactions = self.transactions.borrow_mut();
            let ids: Vec<u16> = transactions
                .under_way
                .iter()
                .filter(|(_, outstanding)| outstanding.asked == endpoint)
                .map(|(id, _)| *id)
                .collect();
            ids.iter().filter_map(|id| transactions.under_way.remove(id)).collect()
        };
        for outstanding in lost {
            outstanding.answer.set(Err(Errno::EIO));
            if let Some(mount) = outstanding.mount {
                {
                    let mut queue = mount.queue.borrow_mut();
                    queue.busy = false;
                    queue.dead = true;
                }
                self.pump(&mount);
            }
        }
    }
}
