//! Workload 10: pairs of processes with a pipe between them, of which one writes what the other knows.
//!
//! The one thing to hold in mind: a byte's place in the stream says what it must be, so one that is lost, doubled or out of turn is
//! seen. A request that ends in a defined error has moved nothing: it is made again, and the stream has to go on where it was.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::pattern;
use refault_rt::user::{self, Descriptor};

use super::crew::{all_ended, member};
use super::gauges::Gauges;
use super::random::Random;
use super::trouble::{Defined, Step, Trouble, same_bytes};
use crate::check::suite::Explain;

/// Bytes of a request at most: more than a pipe holds.
const REQUEST: u64 = 9000;
/// Pattern of the first pair's stream.
const STREAM: u32 = 0x2000;
/// How often a request is made again that ended in a defined error.
const AGAIN: u32 = 20;

/// So many pairs, each with as many requests of the writer as operations.
pub fn run(seed: u32, pairs: u8, operations: u16, since: &Gauges) -> Step {
    let mut children = Vec::new();
    for pair in 0..u32::from(pairs) {
        let (from, to) = user::pipe().explain("pipe")?;
        let id = STREAM + pair;
        children.push(member(|| {
            user::close(from).defined(since, "close")?;
            write(to, id, Random::new(seed, id), operations, since)
        })?);
        children.push(member(|| {
            user::close(to).defined(since, "close")?;
            let total = total(Random::new(seed, id), operations);
            read(from, id, Random::new(seed, !id), total, since)
        })?);
        user::close(from).defined(since, "close")?;
        user::close(to).defined(since, "close")?;
    }
    all_ended(&children)
}

/// Bytes of all requests of a writer.
fn total(mut random: Random, operations: u16) -> u64 {
    (0..operations).map(|_| random.size(1, REQUEST)).sum()
}

/// Makes a request again while it ends in a defined error, so often.
fn persistent(
    since: &Gauges,
    what: &str,
    mut request: impl FnMut() -> refault_abi::Result<usize>,
) -> Result<usize, Trouble> {
    let mut tries = 0;
    loop {
        match request().defined(since, what) {
            Err(Trouble::Rejected) if tries < AGAIN => tries += 1,
            answer => return answer,
        }
    }
}

fn write(to: Descriptor, id: u32, mut random: Random, operations: u16, since: &Gauges) -> Step {
    let mut at = 0;
    for _ in 0..operations {
        let mut bytes = vec![0; random.size(1, REQUEST) as usize];
        pattern::fill(id, at, &mut bytes);
        let count = persistent(since, "write to the pipe", || user::write(to, &bytes))?;
        if count != bytes.len() {
            return Err(format!("write to the pipe: {count} of {}", bytes.len()).into());
        }
        at += count as u64;
    }
    user::close(to).defined(since, "close")
}

fn read(from: Descriptor, id: u32, mut random: Random, total: u64, since: &Gauges) -> Step {
    let mut at = 0;
    loop {
        let mut bytes = vec![0; random.size(1, REQUEST) as usize];
        let count = persistent(since, "read from the pipe", || user::read(from, &mut bytes))?;
        if count == 0 {
            break;
        }
        let mut wanted = vec![0; count];
        pattern::fill(id, at, &mut wanted);
        same_bytes(&format!("the stream from {at} on"), bytes.get(..count).unwrap_or_default(), &wanted)?;
        at += count as u64;
    }
    if at != total {
        let text: String = format!("the stream ended after {at} of {total} bytes");
        // The writer may have been rejected for good, and says so itself.
        return Err(if since.defined(refault_abi::Errno::EFAULT) { Trouble::Rejected } else { text.into() });
    }
    user::close(from).defined(since, "close")
}
