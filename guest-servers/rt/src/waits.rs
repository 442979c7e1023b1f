//! What the unfinished requests of a server wait for, said where the kernel can read it.
//!
//! A server that serves many at once is never blocked, so the kernel cannot see that one of its requests waits for another
//! server, for a lock, or for its turn. Whoever wants to see the whole wait-for graph (the watchdog does) needs the server's own
//! word. The one thing to hold in mind: saying so is two stores into this process's own memory and no kernel entry, so it is
//! always done. What it is not: a wait itself.
//!
//! ```ignore
//! let _waiting = waits::declare(client, mount.server, Endpoint::NONE, "READ");
//! ```

use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};

use refault_abi::kcall::{self, WAITS_MAX};
use refault_abi::{Endpoint, Result};

use crate::Single;

const FREE: kcall::Wait =
    kcall::Wait { serial: 0, subject: 0, target: 0, target_subject: 0, reserved: 0, reason: [0; 40] };

/// The table the kernel reads.
struct Table {
    entries: [kcall::Wait; WAITS_MAX],
    last: u64,
    registered: bool,
}

static TABLE: Single<Table> = Single::new(Table { entries: [FREE; WAITS_MAX], last: 0, registered: false });

/// A declared wait; dropping it says that it is over.
#[derive(Debug)]
#[must_use = "the wait is over when this is dropped"]
pub struct Wait {
    /// Its entry, unless there was no room.
    index: Option<usize>,
}

/// Declares that a request done for `subject` waits for `target`. `target_subject` is for whom the awaited request is done,
/// NONE when it is done for the same one: whoever holds the lock when `target` is the caller itself, or the caller's own endpoint
/// when it has asked another server in its own name. SELF stands for the caller everywhere. `reason`: a word or two, cut at 40 bytes.
///
/// When the table is full, the wait is just not seen.
pub fn declare(subject: Endpoint, target: Endpoint, target_subject: Endpoint, reason: &str) -> Wait {
    Wait { index: enter(subject, target, target_subject, reason).ok().flatten() }
}

fn enter(
    subject: Endpoint,
    target: Endpoint,
    target_subject: Endpoint,
    reason: &str,
) -> Result<Option<usize>> {
    let mut table = TABLE.borrow()?;
    if !table.registered {
        register(&table.entries)?;
        table.registered = true;
    }
    table.last = table.last.wrapping_add(1);
    let serial = table.last;
    let Some((index, place)) = table.entries.iter_mut().enumerate().find(|(_, entry)| entry.serial == 0)
    else {
        return Ok(None);
    };
    let mut wait = kcall::Wait {
        subject: subject.raw(),
        target: target.raw(),
        target_subject: target_subject.raw(),
        ..FREE
    };
    for (place, byte) in wait.reason.iter_mut().zip(reason.bytes()) {
        *place = byte;
    }
    // The kernel may look between any two instructions: the serial comes last.
    // SAFETY: a reference is valid for writes; volatile because the kernel reads the entry.
    unsafe { ptr::write_volatile(place, wait) };
    store_serial(place, serial);
    Ok(Some(index))
}

fn store_serial(entry: &mut kcall::Wait, serial: u64) {
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a reference is valid for writes; volatile because the kernel reads the entry.
    unsafe { ptr::write_volatile(&mut entry.serial, serial) };
    compiler_fence(Ordering::SeqCst);
}

/// Tells the kernel where the table is; on the host there is no kernel to tell.
fn register(entries: &[kcall::Wait; WAITS_MAX]) -> Result<()> {
    if cfg!(feature = "guest") {
        crate::kernel::waits(entries.as_ptr() as usize as u64, entries.len() as u64)
    } else {
        Ok(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Borrowed only if somebody up the call chain is declaring a wait, and nothing is dropped there.
        if let (Some(index), Ok(mut table)) = (self.index, TABLE.borrow())
            && let Some(entry) = table.entries.get_mut(index)
        {
            store_serial(entry, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn seen() -> Vec<(i32, i32, i32)> {
        let table = TABLE.borrow().unwrap();
        let used = table.entries.iter().filter(|entry| entry.serial != 0);
        used.map(|entry| (entry.subject, entry.target, entry.target_subject)).collect()
    }

    /// One test: the table is global.
    #[test]
    fn waits_are_seen_while_they_last() {
        let client = Endpoint::new(1, 12);
        let one = declare(client, Endpoint::MFS, Endpoint::NONE, "READ");
        let two = declare(
            Endpoint::VM,
            Endpoint::SELF,
            client,
            &"a reason that is too long for its place".repeat(2),
        );
        let (client, none) = (client.raw(), Endpoint::NONE.raw());
        assert_eq!(seen(), [(client, 10, none), (8, Endpoint::SELF.raw(), client)]);
        drop(one);
        assert_eq!(seen().len(), 1);
        let mut many: Vec<Wait> =
            (0..WAITS_MAX).map(|_| declare(Endpoint::SELF, Endpoint::VM, Endpoint::NONE, "x")).collect();
        assert_eq!(seen().len(), WAITS_MAX, "the last one found no room");
        many.pop();
        drop(two);
        assert_eq!(seen().len(), WAITS_MAX - 1);
        drop(many);
        assert_eq!(seen(), []);
        let serials = TABLE.borrow().unwrap().last;
        drop(declare(Endpoint::SELF, Endpoint::VM, Endpoint::NONE, "x"));
        assert_eq!(TABLE.borrow().unwrap().last, serials + 1, "no serial comes twice");
    }
}
