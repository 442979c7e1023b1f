//! Poisoned pages: the kernel says which were touched, and whose they were.
//!
//! The one thing to hold in mind: the process runs no more when VM hears of it, and PM, who is told here, is the one to end it:
//! a program by SIGBUS, a server as one that crashed. VM's own books come first, so that nobody whom the end wakes up can be
//! given the page.

use refault_abi::counters::Counter;
use refault_abi::ipc::senda;
use refault_abi::kcall::{VmCtl, vmctl};
use refault_abi::layout::page_floor;
use refault_abi::{Endpoint, Message, pm};
use refault_rt::{info, kernel};

use super::Server;

impl Server {
    /// Takes every page that the kernel knows of out of use, and has its process ended.
    pub fn poisoned_pages(&mut self) {
        loop {
            let get = VmCtl { operation: vmctl::POISON_GET, ..VmCtl::default() };
            // ENOENT: that was all of them.
            let Ok(told) = kernel::vmctl(&get) else { return };
            if self.memory.poison(page_floor(told.value.cast_unsigned())) {
                info::count(Counter::VmFramesPoisoned, 1);
            }
            if told.endpoint == Endpoint::NONE.raw() {
                continue;
            }
            let killed = pm::Killed { endpoint: told.endpoint, signal: pm::SIGBUS, address: told.address };
            self.post(Endpoint::PM, Message::new(pm::KILLED, &killed), senda::NOREPLY);
        }
    }
}
