//! What the server stands on, as a trait: copies to and from users. In the tests these are memory.

use refault_abi::counters::Counter;
use refault_abi::{Endpoint, GrantId};
use refault_rt::kernel::Moved;

/// Everything outside of the server.
pub trait System {
    /// Copies into granted memory, from its beginning.
    fn copy_to(&mut self, granter: Endpoint, grant: GrantId, bytes: &[u8]) -> Moved;
    /// Copies out of granted memory, from its beginning.
    fn copy_from(&mut self, granter: Endpoint, grant: GrantId, bytes: &mut [u8]) -> Moved;
    /// Adds to a counter.
    fn count(&mut self, counter: Counter, amount: u64);
}
