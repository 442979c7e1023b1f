//! The system below, in the guest: messages to the driver and to VM, kernel calls for copies.
//!
//! Every wait here is for the driver, for VM, or, while the driver is restarted, for RS: none of them ever waits for a file
//! system.

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::ptr;

use refault_abi::bdev::{self, Geometry, Transfer};
use refault_abi::counters::Counter;
use refault_abi::message::Status;
use refault_abi::pm::Restarted;
use refault_abi::rs::{self, Lookup};
use refault_abi::vm::{self, CachePage, MAP_POPULATE};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use refault_rt::grants::{self, Grant};
use refault_rt::kernel::{self, Moved};
use refault_rt::server::{self, Answer};
use refault_rt::{info, ipc, pages, touch};

use crate::mount::Limits;
use crate::retry;
use crate::server::Server;
use crate::system::{Disk, PAGE, PageKey, System};

/// Bytes asked of VM at a time, 32 pages: a message to VM costs more than a page.
const CHUNK_BYTES: u64 = 32 * PAGE as u64;
/// Pages given back to VM at a time. VM allows a process so many separate ranges, and joined they are fewer.
const GIVE_BACK: usize = 32;

/// Unit of the counters of blocks: 1 KiB, whatever the volume's block size.
const BLOCK: u64 = 1024;

/// Requests to the driver between two looks for a message of RS.
const PULSE: u32 = 16;

/// What all handles of the block driver share.
#[derive(Debug)]
struct Line {
    /// Who the driver is now.
    endpoint: Cell<Endpoint>,
    /// Requests made.
    requests: Cell<u32>,
}

impl Line {
    /// A request of a user may be many to the driver, and longer than RS waits for a sign of life: so it is given here, too.
    fn pulse(&self) {
        let requests = self.requests.get().wrapping_add(1);
        self.requests.set(requests);
        if requests.checked_rem(PULSE) == Some(0)
            && let Ok(received) = ipc::receivenb(Endpoint::RS)
            && !server::heartbeat(&received)
        {
            self.hear(&received.message);
        }
    }

    /// News from RS; false for any other message.
    fn hear(&self, message: &Message) -> bool {
        let news = message.kind() == rs::RESTARTED && message.sender() == Endpoint::RS;
        if news {
            let Restarted { old, new } = message.get();
            retry::restarted(&self.endpoint, Endpoint::from_raw(old), Endpoint::from_raw(new));
        }
        news
    }
}

/// A disk of the block driver.
#[derive(Clone, Debug)]
pub struct Driver {
    line: Rc<Line>,
    disk: u64,
}

impl Driver {
    /// Reads what one grant can cover. The buffers behind it are borrowed mutably by the caller.
    fn fetch(&self, piece: Piece) -> Result<()> {
        info::count(Counter::FsBlocksRead, piece.bytes.div_ceil(BLOCK));
        let grant = |to| Grant::direct(to, piece.address, piece.bytes).write();
        self.transfer(bdev::READ, piece.position, piece.bytes, grant)
    }

    /// One transfer, with a grant for whoever it is asked of.
    fn transfer(
        &self,
        request: u16,
        position: u64,
        bytes: u64,
        grant: impl Fn(Endpoint) -> grants::Builder,
    ) -> Result<()> {
        let moved = self.ask(|to| {
            let grant = grant(to).make()?;
            let transfer = Transfer { position, grant: grant.id().0, offset: 0, bytes, disk: self.disk };
            let reply = ipc::sendrec(to, &Message::new(request, &transfer));
            // The grant is over this server's own memory and without CPF_TRY: it cannot be marked.
            let _ = grant.revoke();
            reply?.get::<Status>().check()
        })?;
        // A driver that moves less than a sector-aligned request has no excuse this server could make good.
        if moved == bytes { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Asks the driver, and its successors if it dies of it.
    fn ask<T>(&self, request: impl FnMut(Endpoint) -> Result<T>) -> Result<T> {
        self.line.pulse();
        retry::until_answered(&self.line.endpoint, request, |dead| {
            info::count(Counter::FsDriverRetries, 1);
            successor(dead)
        })
    }
}

/// Asks RS who serves instead of a dead driver. The answer comes when somebody does, or when RS gives up.
fn successor(dead: Endpoint) -> Result<Endpoint> {
    let request = Message::new(rs::LOOKUP, &Lookup { slot: dead.slot(), dead: dead.raw() });
    let endpoint = ipc::sendrec(Endpoint::RS, &request)?.get::<Status>().check()?;
    i32::try_from(endpoint).map(Endpoint::from_raw).map_err(|_| Errno::EIO)
}

/// A buffer on its way to becoming part of a larger request: its position, its first address, its bytes.
#[derive(Clone, Copy)]
struct Piece {
    position: u64,
    address: u64,
    bytes: u64,
}

impl Piece {
    /// Both as one, if `next` follows both on the disk and in memory.
    fn joined(self, next: Piece) -> Option<Piece> {
        let follows = self.position.checked_add(self.bytes)? == next.position
            && self.address.checked_add(self.bytes)? == next.address;
        follows.then_some(Piece { bytes: self.bytes.checked_add(next.bytes)?, ..self })
    }
}

impl Disk for Driver {
    fn geometry(&mut self) -> Result<Geometry> {
        let request = Message::new(bdev::GEOMETRY, &bdev::Disk { disk: self.disk });
        self.ask(|to| Ok(ipc::sendrec(to, &request)?.get()))
    }

    fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<()> {
        self.fetch(piece(position, buffer))
    }

    fn read_many(&mut self, parts: &mut [(u64, &mut [u8])]) -> Result<()> {
        let mut pieces = parts.iter_mut().map(|(position, buffer)| piece(*position, buffer));
        let Some(mut current) = pieces.next() else { return Ok(()) };
        for next in pieces {
            current = match current.joined(next) {
                Some(joined) => joined,
                None => {
                    self.fetch(current)?;
                    next
                }
            };
        }
        self.fetch(current)
    }

    fn write(&mut self, position: u64, buffer: &[u8]) -> Result<()> {
        let bytes = buffer.len() as u64;
        info::count(Counter::FsBlocksWritten, bytes.div_ceil(BLOCK));
        self.transfer(bdev::WRITE, position, bytes, |to| Grant::of_bytes(to, buffer))
    }

    fn flush(&mut self) -> Result<()> {
        let request = Message::new(bdev::FLUSH, &bdev::Disk { disk: self.disk });
        self.ask(|to| ipc::sendrec(to, &request)?.get::<Status>().check()).map(drop)
    }
}

fn piece(position: u64, buffer: &mut [u8]) -> Piece {
    Piece { position, address: buffer.as_mut_ptr().expose_provenance() as u64, bytes: buffer.len() as u64 }
}

/// A page of this server, mapped for as long as the value lives: it is given up through [`System::release`] only.
#[derive(Debug)]
pub struct Frame {
    address: u64,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: VM mapped a page at this address for this server, and nobody unmaps it before `release` takes the
        // value. Processes that VM shares it with map it read-only.
        unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(self.address as usize), PAGE) }
    }
}

impl AsMut<[u8]> for Frame {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the value is the only one with this address, and it is borrowed mutably.
        unsafe {
            core::slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(self.address as usize), PAGE)
        }
    }
}

/// The guest.
#[derive(Debug)]
pub struct Guest {
    driver: Rc<Line>,
    /// Addresses of pages to be used next, lowest first: neighbours in memory make one request of neighbours on the disk.
    free: BTreeSet<u64>,
    /// Addresses of announced pages that are done with here, to be unmapped.
    done: Vec<u64>,
}

impl Guest {
    fn new() -> Guest {
        let driver = Line { endpoint: Cell::new(Endpoint::BLK), requests: Cell::new(0) };
        Guest { driver: Rc::new(driver), free: BTreeSet::new(), done: Vec::new() }
    }

    /// Unmaps what is done with, neighbours together.
    fn give_back(&mut self) {
        self.done.sort_unstable();
        let mut range: Option<(u64, u64)> = None;
        // The last one has no successor: it closes the last range.
        for address in self.done.drain(..).map(Some).chain([None]) {
            range = match (range, address) {
                (Some((start, end)), Some(address)) if end == address => {
                    Some((start, address.saturating_add(PAGE as u64)))
                }
                (open, address) => {
                    if let Some((start, end)) = open {
                        // SAFETY: the `Frame`s with these addresses were given to `release`, which kept none of them.
                        // If VM refuses, the pages stay mapped and unused: a leak, and nothing worse.
                        let _ = unsafe { pages::unmap(start, end.saturating_sub(start)) };
                    }
                    address.map(|address| (address, address.saturating_add(PAGE as u64)))
                }
            };
        }
    }
}

impl System for Guest {
    type Page = Frame;
    type Disk = Driver;

    fn disk(&mut self, driver: Endpoint, disk: u32) -> Driver {
        self.driver.endpoint.set(driver);
        Driver { line: Rc::clone(&self.driver), disk: disk.into() }
    }

    fn page(&mut self) -> Result<Frame> {
        if self.free.is_empty() {
            // Present at once: a copy into a page that is not would look like a fault of the user's.
            let start = pages::map(CHUNK_BYTES, MAP_POPULATE)?;
            self.free.extend((start..start.saturating_add(CHUNK_BYTES)).step_by(PAGE));
        }
        self.free.pop_first().map(|address| Frame { address }).ok_or(Errno::ENOMEM)
    }

    fn release(&mut self, page: Frame, announced: bool) {
        if !announced {
            self.free.insert(page.address);
            return;
        }
        self.done.push(page.address);
        if self.done.len() >= GIVE_BACK {
            self.give_back();
        }
    }

    fn announce(&mut self, device: u64, key: PageKey, page: &Frame, once: bool) -> Result<()> {
        let flags = if once { vm::CACHE_ONCE } else { 0 };
        ask_vm(vm::SETCACHEPAGE, device, key, page.address, flags).map(drop)
    }

    fn adopt(&mut self, device: u64, key: PageKey) -> Result<Option<Frame>> {
        match ask_vm(vm::MAPCACHEPAGE, device, key, 0, 0) {
            Ok(address) => Ok(Some(Frame { address })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn forget(&mut self, device: u64, key: PageKey) {
        // ENOENT is the usual answer, and there is nothing to do about another.
        let _ = ask_vm(vm::FORGETCACHEPAGE, device, key, 0, 0);
    }

    fn clear(&mut self, device: u64) {
        // First, so that VM does not take this server's own mappings for somebody's use of a page.
        self.give_back();
        let _ = ask_vm(vm::CLEARCACHE, device, PageKey { inode: 0, index: 0 }, 0, 0);
    }

    fn copy_to(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: &[u8]) -> Moved {
        let moved = kernel::safecopy_to(granter, grant, offset, bytes);
        if moved.result.is_err() {
            touch::pages(bytes);
        }
        moved
    }

    fn copy_from(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: &mut [u8]) -> Moved {
        let moved = kernel::safecopy_from(granter, grant, offset, bytes);
        if moved.result.is_err() {
            touch::pages(bytes);
        }
        moved
    }

    fn zero(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: u64) -> Moved {
        kernel::safememset(granter, grant, offset, bytes, 0)
    }

    fn count(&mut self, counter: Counter, amount: u64) {
        info::count(counter, amount);
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        refault_rt::diag!("{line}");
    }
}

/// One of VM's requests about a page of a file.
fn ask_vm(request: u16, device: u64, key: PageKey, address: u64, flags: u64) -> Result<u64> {
    let page = CachePage { device, inode: key.inode.into(), offset: key.offset(), address, flags };
    ipc::sendrec(Endpoint::VM, &Message::new(request, &page))?.get::<Status>().check()
}

/// Serves for ever, as the command line says.
pub fn main() -> i32 {
    let Some(options) = info::options() else { return 1 };
    let guest = Guest::new();
    let driver = Rc::clone(&guest.driver);
    let mut server = Server::new(guest, options.fs, Limits::with_pages(options.cache));
    server::serve(|request| {
        let message = &request.message;
        // Nobody but RS, whose heartbeats end before they come here, has anything to notify a file system of.
        if request.delivery.is_notify() {
            return Answer::Later;
        }
        if driver.hear(message) {
            return Answer::Later;
        }
        Answer::Message(server.handle(message))
    })
}
