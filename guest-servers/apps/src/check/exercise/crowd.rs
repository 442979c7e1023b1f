//! Workload 12: several processes at once, on files of their own and on slots of one file that all of them share.
//!
//! What is claimed, and checked: a read and a write of a file exclude each other, repeats included, since VFS holds the file's lock over
//! all attempts of an operation. So whoever reads a slot sees one write of it, all of it and nothing else, and there is an order of all
//! reads and writes that fits when each began and ended. The first is checked here; for the second each operation is said in a line:
//! `@op {"client":1,"kind":"w","slot":3,"value":77,"call":TSC,"return":TSC}`, value 0 for what was there at first, and `"ok":false` behind it
//! if it failed: such a write may have happened all the same.
//!
//! The one thing to hold in mind: a write that ended in a defined error may have been done in part, so from there on mixtures are no
//! mistake any more, and the run is a rejected one.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use refault_abi::layout::PAGE;
use refault_abi::vfs::{O_CREAT, O_RDWR, O_TRUNC};
use refault_abi::{Errno, pattern};
use refault_rt::user::{self, Descriptor};
use refault_rt::{kernel, println};

use super::crew::{all_ended, member};
use super::fsx::Fsx;
use super::gauges::Gauges;
use super::random::Random;
use super::requests::DIRECTORY;
use super::trouble::{Defined, Step, Trouble, whole};

/// Slots of the shared file.
const SLOTS: u64 = 4;
/// Bytes of a slot: a value, and a pattern that follows from it, over two pages or three.
const SLOT: u64 = PAGE + 904;
/// Patterns of slots lie above this.
const VALUES: u32 = 0x4000_0000;
/// Bytes of lines that are handed in at once.
const LINES: usize = 3500;

/// So many processes, each with so many operations. `told` says whether lines go to the monitor.
pub fn run(seed: u32, clients: u8, operations: u16, told: bool, since: &Gauges) -> Step {
    let path = format!("{DIRECTORY}/shared");
    let shared = user::open(&path, O_RDWR | O_CREAT | O_TRUNC, 0o644).defined(since, &path)?;
    for slot in 0..SLOTS {
        let count = user::pwrite(shared, &contents(0), slot * SLOT).defined(since, "preparing a slot")?;
        whole("preparing a slot", count as u64, SLOT)?;
    }
    let mut children = Vec::new();
    for client in 1..=u32::from(clients) {
        children.push(member(|| {
            let mut lines = Lines { text: String::with_capacity(2 * LINES), told };
            let done = work(seed, client, operations, shared, &mut lines, since);
            lines.flush();
            done
        })?);
    }
    let ended = all_ended(&children);
    user::close(shared).defined(since, "close")?;
    user::unlink(&path).defined(since, "unlink")?;
    ended
}

/// What a slot holds that has this value.
fn contents(value: u32) -> Vec<u8> {
    let mut bytes = vec![0; SLOT as usize];
    pattern::fill(VALUES | value, 0, &mut bytes);
    for (place, byte) in bytes.iter_mut().zip(u64::from(value).to_le_bytes()) {
        *place = byte;
    }
    bytes
}

fn work(
    seed: u32,
    client: u32,
    operations: u16,
    shared: Descriptor,
    lines: &mut Lines,
    since: &Gauges,
) -> Step {
    let mut random = Random::new(seed, 0x100 + client);
    let mut own = Fsx::new(&format!("{DIRECTORY}/own{client}"), seed, client, since)?;
    let mut bytes = vec![0; SLOT as usize];
    for number in 1..=u32::from(operations) {
        let slot = random.below(SLOTS);
        match random.below(5) {
            0 => own.step(since)?,
            1 | 2 => {
                let value = client << 16 | number;
                let new = contents(value);
                let call = now();
                let answer = user::pwrite(shared, &new, slot * SLOT);
                let end = now();
                lines.operation(client, 'w', slot, value, (call, end), answer.is_ok());
                whole("bytes of a slot written", answer.defined(since, "pwrite")? as u64, SLOT)?;
            }
            _ => {
                let call = now();
                let answer = user::pread(shared, &mut bytes, slot * SLOT);
                let end = now();
                if answer.is_err() {
                    lines.operation(client, 'r', slot, 0, (call, end), false);
                }
                whole("bytes of a slot read", answer.defined(since, "pread")? as u64, SLOT)?;
                let value = one_value(slot, &bytes, since)?;
                lines.operation(client, 'r', slot, value, (call, end), true);
            }
        }
    }
    own.compare(since)?;
    own.end(since)
}

/// The value of a slot, all of which has to be of it.
fn one_value(slot: u64, bytes: &[u8], since: &Gauges) -> Result<u32, Trouble> {
    let value = bytes.first_chunk().map_or(0, |first| u32::from_le_bytes(*first));
    let wanted = contents(value);
    if bytes == wanted {
        return Ok(value);
    }
    if since.defined(Errno::EFAULT) || since.defined(Errno::EIO) {
        return Err(Trouble::Rejected);
    }
    let first = bytes.iter().zip(&wanted).position(|(seen, wanted)| seen != wanted).unwrap_or(0);
    Err(Trouble::corrupt(format!("slot {slot} begins with {value:#x} and is another from byte {first} on")))
}

/// The processor's time stamp.
fn now() -> u64 {
    // SAFETY: the instruction only reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Lines of a client.
struct Lines {
    text: String,
    told: bool,
}

impl Lines {
    /// Says an operation, from when to when it was under way, and whether it succeeded.
    fn operation(
        &mut self,
        client: u32,
        kind: char,
        slot: u64,
        value: u32,
        (call, end): (u64, u64),
        ok: bool,
    ) {
        let ok = if ok { "" } else { ",\"ok\":false" };
        // A string takes whatever is written to it.
        let _ = writeln!(
            self.text,
            "@op {{\"client\":{client},\"kind\":\"{kind}\",\"slot\":{slot},\"value\":{value},\"call\":{call},\"return\":{end}{ok}}}"
        );
        if self.text.len() > LINES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.told {
            // A run whose lines are not taken is judged by its cases.
            let _ = kernel::report(&self.text);
        } else if !self.text.is_empty() {
            println!("{}", self.text.trim_end());
        }
        self.text.clear();
    }
}
