//! Asynchronous sends: a table of messages in this process's memory that the kernel delivers when their
//! receivers become ready.
//!
//! The kernel looks at the table again at every delivery and writes DONE and the result into it, so all
//! accesses are volatile. The part registered is kept as short as the entries in use allow.

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
    let free = table.entries.iter_mut().find(|entry| {
        let flags = read(entry).flags;
        flags & senda::VALID == 0 || flags & senda::DONE != 0 && read(entry).result >= 0
    });
    let free = free.ok_or(Errno::EAGAIN)?;
    let flags = (flags | senda::VALID) & !senda::DONE;
    write(free, AsyncEntry { flags, destination: to.raw(), result: 0, reserved: 0, message: *message });
    submit(&mut table)
}

/// Registers the entries up to the last one in use.
fn submit(table: &mut Table) -> Result<()> {
    let pending = |entry: &AsyncEntry| {
        let flags = read(entry).flags;
        flags & senda::VALID != 0 && flags & senda::DONE == 0
    };
    let length = table.entries.iter().rposition(pending).map_or(0, |last| last + 1);
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
