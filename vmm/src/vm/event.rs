//! What a machine tells the outside: the one channel type between its threads and tokio.

use super::ending::Ending;
use super::outcome::GuestEvent;

/// News from a machine.
#[derive(Debug)]
pub enum VmEvent {
    /// A vCPU has seen the machine's end.
    Ended(Ending),
    /// The guest reports a text.
    Report(String),
    /// The guest's kernel declares that nothing can go on, with its graph of who waits for whom.
    Wedged(String),
    /// The guest signals an event.
    Guest(GuestEvent),
}
