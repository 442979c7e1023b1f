//! What a machine tells the outside: the one channel type between its threads and tokio.

use std::time::Duration;

use super::ending::Ending;

/// News from a machine.
#[derive(Debug)]
pub enum VmEvent {
    /// A vCPU has seen the machine's end.
    Ended(Ending),
    /// The guest reports a text.
    Report(String),
    /// The guest signals an event ([`refault_abi::doorbell::event`]).
    Guest {
        /// Which.
        code: u32,
        /// What belongs to it.
        value: u32,
        /// Since the machine was started.
        at: Duration,
    },
}
