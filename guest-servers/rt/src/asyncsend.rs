//! Asynchronous sends: a table of messages in this process's memory that the kernel delivers when their
//! receivers become ready.
//!
//! The kernel looks at the table again at every delivery and writes DONE and the result into it, so all
//! accesses are volatile. The part registered is kept as short as the entries in use allow.
//!
//! The one thing to hold in mind: the kernel delivers in the table's order, so of two messages for the same receiver the later
//! one always stands behind the earlier one.

use core::ptr;

use refault_abi::ipc::{AsyncEntry, Call, senda};
use refault_abi::{Endpoint, Errno, Message, Result};
use zerocopy::FromZeros;

use crate::Single;

/// Entries of the table.
pub const ENTRIES: usize = 128;

struct Table {
    entries: [AsyncEntry; ENTRIES],
}

static TABLE: Single<Table> = Single::new(Table {
    entries: [AsyncEntry {
        flags: 0,
        destination: 0,
        result: 0,
        reserved: 0,
        message: Message { source: 0, mtype: 0, payload: [0; 7] },
    }; ENTRIES],
});

/// A message that could not be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// Whom it was for.
    pub destination: Endpoint,
    /// What it was.
    pub message: Message,
    /// Why not, EDEADSRCDST for one.
    pub error: Errno,
}

/// Reads an entry the kernel may be writing.
fn read(entry: &AsyncEntry) -> AsyncEntry {
    // SAFETY: a reference is valid for reads; volatile because the kernel writes the entry.
    unsafe { ptr::read_volatile(entry) }
}

/// Writes an entry the kernel may read.
fn write(entry: &mut AsyncEntry, value: AsyncEntry) {
    // SAFETY: a mutable reference is valid for writes; volatile because the kernel reads the entry.
    unsafe { ptr::write_volatile(entry, value) }
}

/// Sends without ever blocking. `flags`: [`senda::NOREPLY`] and the like; EAGAIN when the table is full of
/// undelivered messages.
pub fn send(to: Endpoint, message: &Message, flags: u32) -> Result<()> {
    let mut table = TABLE.borrow()?;
    let index = match place_for(&table.entries, to) {
        Place::At(index) => index,
        Place::None => return Err(Errno::EAGAIN),
        Place::AfterPacking => {
            // While entries move the kernel must not look: it could deliver one twice.
            register(&table, 0)?;
            pack(&mut table.entries)
        }
    };
    let free = table.entries.get_mut(index).ok_or(Errno::EAGAIN)?;
    let flags = (flags | senda::VALID) & !senda::DONE;
    write(free, AsyncEntry { flags, destination: to.raw(), result: 0, reserved: 0, message: *message });
    submit(&mut table)
}

/// Whether an entry can be written over: unused, or delivered.
fn is_free(entry: &AsyncEntry) -> bool {
    let entry = read(entry);
    entry.flags & senda::VALID == 0 || entry.flags & senda::DONE != 0 && entry.result >= 0
}

/// Whether the kernel still has to deliver it.
fn is_pending(entry: &AsyncEntry) -> bool {
    read(entry).flags & (senda::VALID | senda::DONE) == senda::VALID
}

/// Where the next message for somebody goes.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Into this entry.
    At(usize),
    /// There is room, but only before an earlier message for the same receiver.
    AfterPacking,
    /// Nowhere.
    None,
}

fn place_for(entries: &[AsyncEntry], to: Endpoint) -> Place {
    let before = |entry: &AsyncEntry| is_pending(entry) && read(entry).destination == to.raw();
    let first = entries.iter().rposition(before).map_or(0, |last| last + 1);
    let behind = entries.get(first..).unwrap_or_default();
    match behind.iter().position(is_free) {
        Some(offset) => Place::At(first + offset),
        None if entries.iter().any(is_free) => Place::AfterPacking,
        None => Place::None,
    }
}

/// Moves what is in use to the front, in order; the index of the first entry behind it.
fn pack(entries: &mut [AsyncEntry]) -> usize {
    let mut next = 0;
    for index in 0..entries.len() {
        let Some(entry) = entries.get(index).filter(|entry| !is_free(entry)).map(read) else { continue };
        if let Some(place) = entries.get_mut(next) {
            write(place, entry);
        }
        next += 1;
    }
    for entry in entries.iter_mut().skip(next) {
        write(entry, AsyncEntry::new_zeroed());
    }
    next
}

/// Registers the entries up to the last one in use.
fn submit(table: &mut Table) -> Result<()> {
    let length = table.entries.iter().rposition(is_pending).map_or(0, |last| last + 1);
    register(table, length)
}

/// Has the kernel look at the table again: a message whose receiver has died since comes out of [`take_failed`] then. The kernel
/// itself looks when a receiver is ready, which a dead one never is.
pub fn look_again() -> Result<()> {
    submit(&mut *TABLE.borrow()?)
}

/// SENDA: has the kernel deliver from the first `length` entries.
fn register(table: &Table, length: usize) -> Result<()> {
    let mut request = Message::bare(0);
    let words = request_words(table.entries.as_ptr() as usize as u64, length as u64);
    request.source = words.0 as u32 as i32;
    request.mtype = (words.0 >> 32) as u32;
    if let Some(place) = request.payload.first_mut() {
        *place = words.1;
    }
    let peers = refault_abi::ipc::peers(Endpoint::NONE, Endpoint::NONE);
    // SAFETY: the table is static, and every later access to it is volatile.
    let (result, _) = unsafe { crate::ipc::trap(Call::SendA, peers, &mut request) };
    Errno::check(result).map(drop)
}

/// The first two message words of SENDA: address and length.
const fn request_words(address: u64, length: u64) -> (u64, u64) {
    (address, length)
}

/// In a forked child: what is in the table is the parent's to send.
pub fn forget() {
    // Only the functions of this file hold the table, and none of them forks.
    if let Ok(mut table) = TABLE.borrow() {
        for entry in &mut table.entries {
            write(entry, AsyncEntry::new_zeroed());
        }
    }
}

/// Takes one message that could not be delivered out of the table.
pub fn take_failed() -> Option<Failed> {
    let mut table = TABLE.borrow().ok()?;
    for place in &mut table.entries {
        let entry = read(place);
        if entry.flags & (senda::VALID | senda::DONE) == senda::VALID | senda::DONE
            && let Some(error) = Errno::from_code(entry.result)
        {
            write(place, AsyncEntry::new_zeroed());
            let destination = Endpoint::from_raw(entry.destination);
            return Some(Failed { destination, message: entry.message, error });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Endpoint = Endpoint::MFS;
    const B: Endpoint = Endpoint::VM;

    fn entry(flags: u32, to: Endpoint, result: i32, number: u16) -> AsyncEntry {
        let message = Message::bare(number);
        AsyncEntry { flags, destination: to.raw(), result, reserved: 0, message }
    }

    fn pending(to: Endpoint, number: u16) -> AsyncEntry {
        entry(senda::VALID, to, 0, number)
    }

    fn done(to: Endpoint) -> AsyncEntry {
        entry(senda::VALID | senda::DONE, to, 0, 0)
    }

    fn failed(to: Endpoint, number: u16) -> AsyncEntry {
        entry(senda::VALID | senda::DONE, to, Errno::EDEADSRCDST.code(), number)
    }

    #[test]
    fn a_later_message_never_stands_before_an_earlier_one() {
        // The slot of a delivered message is used again, but not for the receiver of one behind it.
        let table = [done(B), pending(A, 1), done(B), done(A)];
        assert_eq!(place_for(&table, A), Place::At(2));
        assert_eq!(place_for(&table, B), Place::At(0));
        let table = [done(B), pending(A, 1), pending(A, 2)];
        assert_eq!(place_for(&table, A), Place::AfterPacking);
        assert_eq!(place_for(&table, B), Place::At(0));
        let table = [failed(B, 1), pending(A, 2)];
        assert_eq!((place_for(&table, A), place_for(&table, B)), (Place::None, Place::None));
    }

    #[test]
    fn packing_keeps_order_and_what_failed() {
        let mut table =
            [done(B), pending(A, 1), failed(B, 2), done(A), pending(A, 3), AsyncEntry::new_zeroed()];
        assert_eq!(pack(&mut table), 3);
        let numbers: [u16; 3] = core::array::from_fn(|index| table[index].message.kind());
        assert_eq!(numbers, [1, 2, 3]);
        assert!(table[3..].iter().all(is_free));
        assert_eq!(place_for(&table, A), Place::At(3));
    }
}
