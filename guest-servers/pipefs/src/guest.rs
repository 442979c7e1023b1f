//! The system below, in the guest: kernel calls.

use refault_abi::counters::Counter;
use refault_abi::{Endpoint, GrantId};
use refault_rt::kernel::{self, Moved};
use refault_rt::server::Answer;
use refault_rt::{info, touch};

use crate::server::Server;
use crate::system::System;

/// The guest.
#[derive(Debug)]
pub struct Guest;

impl System for Guest {
    fn copy_to(&mut self, granter: Endpoint, grant: GrantId, bytes: &[u8]) -> Moved {
        let moved = kernel::safecopy_to(granter, grant, 0, bytes);
        if moved.result.is_err() {
            touch::pages(bytes);
        }
        moved
    }

    fn copy_from(&mut self, granter: Endpoint, grant: GrantId, bytes: &mut [u8]) -> Moved {
        let moved = kernel::safecopy_from(granter, grant, 0, bytes);
        if moved.result.is_err() {
            touch::pages(bytes);
        }
        moved
    }

    fn count(&mut self, counter: Counter, amount: u64) {
        info::count(counter, amount);
    }
}

/// Serves for ever.
pub fn main() -> i32 {
    let Some(options) = info::options() else { return 1 };
    let mut server = Server::new(Guest, options.bug);
    refault_rt::server::serve(|request| {
        if request.delivery.is_notify() {
            return Answer::Later;
        }
        Answer::Message(server.handle(&request.message))
    })
}
