//! The pages the kernel gives every server: what the machine is like, and the counters.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use refault_abi::counters::Counter;
use refault_abi::info::Info;
use refault_abi::layout;
use refault_abi::options::Options;

/// The information page. Servers only: programs do not have it.
pub fn info() -> &'static Info {
    // SAFETY: the page is mapped read-only into every server before it starts, holds an `Info`, and never
    // changes; every bit pattern is a valid `Info`.
    unsafe { &*ptr::with_exposed_provenance::<Info>(layout::INFO as usize) }
}

/// The modes asked for on the command line. A bad one is reported and the defaults are used by nobody:
/// the caller gets `None` and has to stop.
pub fn options() -> Option<Options> {
    match Options::parse(info().cmdline()) {
        Ok(options) => Some(options),
        Err(bad) => {
            crate::diag!("bad option {}: must be {}", bad.word, bad.expected);
            None
        }
    }
}

/// A counter as it is now, without a kernel call. Servers and test programs only: others do not have the page.
pub fn counter(counter: Counter) -> u64 {
    let place = ptr::with_exposed_provenance::<u64>(layout::STATS as usize).wrapping_add(counter as usize);
    // SAFETY: the counters page is mapped, readable at least, for ever; its words are aligned and `counter` is below its
    // length. Volatile, because others change it.
    unsafe { place.read_volatile() }
}

/// Adds to a counter. Two instances of one server share theirs, so the addition is one instruction.
pub fn count(counter: Counter, amount: u64) {
    let place =
        ptr::with_exposed_provenance_mut::<u64>(layout::STATS as usize).wrapping_add(counter as usize);
    // SAFETY: the counters page is mapped read-write into every server for ever, its words are aligned, and `counter` is
    // below its length; whoever else writes the word does it in this way, and the monitor only reads it.
    unsafe { AtomicU64::from_ptr(place) }.fetch_add(amount, Ordering::Relaxed);
}
