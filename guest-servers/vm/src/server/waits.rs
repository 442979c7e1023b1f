//! What VM's requests wait for, for the kernel's wait-for graph.

use alloc::vec::Vec;

use refault_abi::Endpoint;
use refault_rt::waits::{self, Wait};

/// The declarations, by the request to VFS they are about.
#[derive(Default)]
pub struct Waits {
    list: Vec<(u64, Endpoint, Wait)>,
}

impl Waits {
    /// None.
    pub const fn new() -> Waits {
        Waits { list: Vec::new() }
    }

    /// `waiter` waits for pages, for which VFS has been asked in `request`.
    pub fn page_in(&mut self, request: u64, waiter: Endpoint) {
        let wait = waits::declare(waiter, Endpoint::VFS, Endpoint::SELF, "page-in");
        self.list.push((request, waiter, wait));
    }

    /// `waiter` waits because VFS is asked one thing at a time.
    pub fn held(&mut self, request: u64, waiter: Endpoint, current: Option<u64>) {
        let other = self.list.iter().find(|(id, _, _)| Some(*id) == current);
        let subject = other.map_or(Endpoint::NONE, |(_, subject, _)| *subject);
        let wait = waits::declare(waiter, Endpoint::SELF, subject, "one request at a time");
        self.list.push((request, waiter, wait));
    }

    /// A held request goes to VFS now; the others wait for this one.
    pub fn begins(&mut self, request: u64) {
        let waiters: Vec<(u64, Endpoint)> = self.list.iter().map(|(id, waiter, _)| (*id, *waiter)).collect();
        self.list.clear();
        for (id, waiter) in waiters.iter().filter(|(id, _)| *id == request) {
            self.page_in(*id, *waiter);
        }
        for (id, waiter) in waiters.iter().filter(|(id, _)| *id != request) {
            self.held(*id, *waiter, Some(request));
        }
    }

    /// A request is answered.
    pub fn over(&mut self, request: u64) {
        self.list.retain(|(id, _, _)| *id != request);
    }
}
