//! The system below, in the guest: messages to the driver and to VM, kernel calls for copies.
//!
//! Every wait here is for the driver or for VM, which never wait for a file system.

use core::fmt;
use core::ptr;

use refault_abi::bdev::{self, Geometry, Transfer};
use refault_abi::counters::Counter;
use refault_abi::message::Status;
use refault_abi::vm::{self, CachePage, MAP_POPULATE};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use refault_rt::grants::Grant;
use refault_rt::kernel::{self, Moved};
use refault_rt::{info, ipc, pages};

use crate::mount::Limits;
use crate::server::Server;
use crate::system::{Disk, PAGE, PageKey, System};

/// Pages asked of VM at a time: a message to VM costs more than a page.
const CHUNK: u64 = 16;

/// The block driver.
#[derive(Clone, Copy, Debug)]
pub struct Driver(Endpoint);

impl Driver {
    fn transfer(self, request: u16, position: u64, grant: Grant, bytes: usize) -> Result<()> {
        let transfer = Transfer { position, grant: grant.id().0, offset: 0, bytes: bytes as u64 };
        let reply = ipc::sendrec(self.0, &Message::new(request, &transfer));
        // The grant is over this server's own memory and without CPF_TRY: it cannot be marked.
        let _ = grant.revoke();
        let moved = reply?.get::<Status>().check()?;
        // A driver that moves less than a sector-aligned request has no excuse this server could make good.
        if moved == bytes as u64 { Ok(()) } else { Err(Errno::EIO) }
    }
}

impl Disk for Driver {
    fn geometry(&mut self) -> Result<Geometry> {
        Ok(ipc::sendrec(self.0, &Message::bare(bdev::GEOMETRY))?.get())
    }

    fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<()> {
        info::count(Counter::FsBlocksRead, 1);
        let address = buffer.as_mut_ptr().expose_provenance() as u64;
        let grant = Grant::direct(self.0, address, buffer.len() as u64).write().make()?;
        self.transfer(bdev::READ, position, grant, buffer.len())
    }

    fn write(&mut self, position: u64, buffer: &[u8]) -> Result<()> {
        info::count(Counter::FsBlocksWritten, 1);
        let grant = Grant::of_bytes(self.0, buffer).make()?;
        self.transfer(bdev::WRITE, position, grant, buffer.len())
    }

    fn flush(&mut self) -> Result<()> {
        ipc::sendrec(self.0, &Message::bare(bdev::FLUSH))?.get::<Status>().check().map(drop)
    }
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
#[derive(Debug, Default)]
pub struct Guest {
    free: alloc::vec::Vec<Frame>,
}

impl System for Guest {
    type Page = Frame;
    type Disk = Driver;

    fn disk(&mut self, driver: Endpoint) -> Driver {
        Driver(driver)
    }

    fn page(&mut self) -> Result<Frame> {
        if let Some(frame) = self.free.pop() {
            return Ok(frame);
        }
        // Present at once: a copy into a page that is not would look like a fault of the user's.
        let start = pages::map(CHUNK * PAGE as u64, MAP_POPULATE)?;
        // Lowest address on top.
        self.free.extend((0..CHUNK).rev().map(|n| Frame { address: start.saturating_add(n * PAGE as u64) }));
        self.free.pop().ok_or(Errno::ENOMEM)
    }

    fn release(&mut self, page: Frame, announced: bool) {
        if !announced {
            self.free.push(page);
            return;
        }
        let address = page.address;
        // SAFETY: `page` was the only value with this address, and it is gone. If VM refuses, the page stays mapped and
        // is never used again, which is a leak and nothing worse.
        let _ = unsafe { pages::unmap(address, PAGE as u64) };
    }

    fn announce(&mut self, device: u64, key: PageKey, page: &Frame) -> Result<()> {
        ask_vm(vm::SETCACHEPAGE, device, key, page.address).map(drop)
    }

    fn adopt(&mut self, device: u64, key: PageKey) -> Result<Option<Frame>> {
        match ask_vm(vm::MAPCACHEPAGE, device, key, 0) {
            Ok(address) => Ok(Some(Frame { address })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn forget(&mut self, device: u64, key: PageKey) {
        // ENOENT is the usual answer, and there is nothing to do about another.
        let _ = ask_vm(vm::FORGETCACHEPAGE, device, key, 0);
    }

    fn clear(&mut self, device: u64) {
        let _ = ask_vm(vm::CLEARCACHE, device, PageKey { inode: 0, index: 0 }, 0);
    }

    fn copy_to(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: &[u8]) -> Moved {
        let moved = kernel::safecopy_to(granter, grant, offset, bytes);
        if moved.result.is_err() {
            touch(bytes);
        }
        moved
    }

    fn copy_from(&mut self, granter: Endpoint, grant: GrantId, offset: u64, bytes: &mut [u8]) -> Moved {
        let moved = kernel::safecopy_from(granter, grant, offset, bytes);
        if moved.result.is_err() {
            touch(bytes);
        }
        moved
    }

    fn count(&mut self, counter: Counter, amount: u64) {
        info::count(counter, amount);
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        refault_rt::diag!("{line}");
    }
}

/// One of VM's requests about a page of a file.
fn ask_vm(request: u16, device: u64, key: PageKey, address: u64) -> Result<u64> {
    let page = CachePage { device, inode: key.inode.into(), offset: key.offset(), address, flags: 0 };
    ipc::sendrec(Endpoint::VM, &Message::new(request, &page))?.get::<Status>().check()
}

/// After a failed copy the absent page may have been this server's own. Touching it here, in ring 3, has VM bring it
/// back the ordinary way, so that the next attempt does not meet it again.
fn touch(bytes: &[u8]) {
    for piece in bytes.chunks(PAGE) {
        for byte in [piece.first(), piece.last()].into_iter().flatten() {
            // SAFETY: a reference is valid for reads. Volatile, so that the access is made although nobody uses the value.
            let _ = unsafe { ptr::read_volatile(byte) };
        }
    }
}

/// Serves for ever, as the command line says.
pub fn main() -> i32 {
    let Some(options) = info::options() else { return 1 };
    let mut server = Server::new(Guest::default(), options.fs, Limits::default());
    refault_rt::server::serve(|request| {
        // Nobody has anything to notify a file system of.
        if request.delivery.is_notify() {
            return refault_rt::server::Answer::Later;
        }
        refault_rt::server::Answer::Message(server.handle(&request.message))
    })
}
