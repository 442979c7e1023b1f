//! Finding the devices, their registers, and the memory each shares with this driver.
//!
//! The one thing to hold in mind: a driver that crashed may have left a device at work in the memory of processes. So
//! every device is stopped before anything else is done, and only then may VM use that memory again.

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use refault_abi::kcall::{PhysRange, Target};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Message, grant, options, vm};
use refault_blk::device::{self, Agreed, Identity, Registers, reg};
use refault_blk::ring::{self, RawDescriptor};
use refault_rt::kernel::{self, IrqOperation};
use refault_rt::{diag, info, ipc, pages};

/// Requests in flight.
pub const REQUESTS: usize = 8;
/// Descriptors of a request's indirect table: a page of them.
pub const TABLE: usize = PAGE as usize / size_of::<RawDescriptor>();
/// Most devices looked at on the command line.
const MOST_DEVICES: usize = 32;

/// What the device reads and writes about a request, beside the data. 32 bytes.
#[repr(C)]
pub struct Frame {
    /// Request type.
    pub kind: AtomicU32,
    /// Zero.
    pub reserved: AtomicU32,
    /// First sector.
    pub sector: AtomicU64,
    /// Outcome, written by the device.
    pub status: AtomicU8,
    padding: [u8; 15],
}

/// Memory shared with the device: whole pages, so that no piece crosses one.
#[repr(C, align(4096))]
pub struct Shared {
    /// The ring.
    pub ring: ring::Memory,
    /// Indirect tables.
    pub tables: [[RawDescriptor; TABLE]; REQUESTS],
    /// Headers and status bytes.
    pub frames: [Frame; REQUESTS],
}

/// Pages of the shared memory.
const SHARED_PAGES: usize = size_of::<Shared>() / PAGE as usize;

/// The device's registers in this driver's memory.
pub struct Mmio(u64);

impl Mmio {
    fn place(&self, offset: u64) -> *mut u32 {
        ptr::with_exposed_provenance_mut(self.0.wrapping_add(offset) as usize)
    }
}

impl Registers for Mmio {
    fn read(&self, offset: u64) -> u32 {
        // SAFETY: VM mapped the whole window for this driver, uncached, and registers are aligned words.
        unsafe { ptr::read_volatile(self.place(offset)) }
    }

    fn write(&mut self, offset: u64, value: u32) {
        // SAFETY: as in `read`. What the device does with memory is decided by the ring, not here.
        unsafe { ptr::write_volatile(self.place(offset), value) }
    }
}

/// A device ready to work.
pub struct Hardware {
    /// Its registers.
    pub registers: Mmio,
    /// What was agreed on.
    pub agreed: Agreed,
    /// The shared memory.
    pub shared: &'static Shared,
    /// Its interrupt line.
    pub line: u32,
    /// GPA of each page of the shared memory.
    pages: [u64; SHARED_PAGES],
}

impl Hardware {
    /// GPA of a place in the shared memory, given by its offset.
    fn physical(&self, offset: usize) -> u64 {
        let page = self.pages.get(offset / PAGE as usize).copied().unwrap_or(0);
        page + offset as u64 % PAGE
    }

    /// GPA of a request's indirect table.
    pub fn table(&self, slot: usize) -> u64 {
        self.physical(core::mem::offset_of!(Shared, tables) + slot * PAGE as usize)
    }

    /// GPA of a request's header; the status byte follows.
    pub fn header(&self, slot: usize) -> u64 {
        self.physical(core::mem::offset_of!(Shared, frames) + slot * size_of::<Frame>())
    }

    /// GPA of a request's status byte.
    pub fn status(&self, slot: usize) -> u64 {
        self.header(slot) + core::mem::offset_of!(Frame, status) as u64
    }
}

/// The block devices on the command line, in its order, which is that of the disks' numbers. One that cannot be used is
/// `None`, and keeps its number.
pub fn find() -> Vec<Option<Hardware>> {
    let cmdline = info::info().cmdline();
    let mut found = Vec::new();
    for device in (0..MOST_DEVICES).map_while(|index| options::virtio_mmio(cmdline, index)) {
        let Ok(address) = pages::map_phys(device.base, device.size) else {
            diag!("blk: no device registers at {:#x}", device.base);
            continue;
        };
        let mut registers = Mmio(address);
        match device::identify(&registers) {
            Identity::Block => {
                if !device::reset(&mut registers) {
                    diag!("blk: the device at {:#x} does not stop", device.base);
                }
                found.push((registers, device.irq));
                continue;
            }
            Identity::Legacy => diag!("blk: the device at {:#x} is of the legacy kind", device.base),
            Identity::Other => {}
        }
        // SAFETY: `registers` is used no more, and nothing else points into the window.
        let _ = unsafe { pages::unmap(address & !(PAGE - 1), PAGE) };
    }
    retire_predecessor();
    found.into_iter().map(|(registers, line)| start(registers, line)).collect()
}

/// Tells VM that no device is at work for a dead predecessor any more: what it might still have written to is free.
fn retire_predecessor() {
    let target = Target { endpoint: Endpoint::NONE.raw(), reserved: 0 };
    // A refusal costs memory, and nothing else.
    let _ = ipc::sendrec(Endpoint::VM, &Message::new(vm::RETIRE, &target));
}

/// Negotiates, shares memory, routes the interrupt.
fn start(mut registers: Mmio, line: u32) -> Option<Hardware> {
    let Some(agreed) = device::negotiate(&mut registers, ring::MAX_SIZE) else {
        diag!("blk: the device does not accept this driver");
        return None;
    };
    let bytes = size_of::<Shared>() as u64;
    let address = pages::map(bytes, vm::MAP_POPULATE).ok()?;
    let mut gpas = [0; SHARED_PAGES];
    for (index, gpa) in gpas.iter_mut().enumerate() {
        let mut pieces = [PhysRange::default(); 1];
        let access = grant::READ | grant::WRITE;
        let page = address + index as u64 * PAGE;
        kernel::vumap_own(page, PAGE, access, &mut pieces).ok()?;
        *gpa = pieces.first()?.address;
    }
    // SAFETY: fresh zeroed pages of this size, never unmapped; the type is made of atomics, for which zeroes
    // are valid and which the device may change.
    let shared = unsafe { &*ptr::with_exposed_provenance::<Shared>(address as usize) };
    if let Err(error) = kernel::irqctl(IrqOperation::Route, line) {
        diag!("blk: interrupt line {line}: {error}");
        return None;
    }
    let mut hardware = Hardware { registers, agreed, shared, line, pages: gpas };
    let ring = hardware.physical(core::mem::offset_of!(Shared, ring));
    let (avail, used) = (ring + ring::AVAIL_OFFSET, ring + ring::USED_OFFSET);
    device::start(&mut hardware.registers, agreed.queue_size, ring, avail, used);
    Some(hardware)
}

impl Hardware {
    /// Tells the device that the queue has something new.
    pub fn notify(&mut self) {
        self.registers.write(reg::QUEUE_NOTIFY, 0);
    }

    /// Stops the device for good.
    pub fn stop(&mut self) {
        if !device::reset(&mut self.registers) {
            diag!("blk: the device of line {} does not stop", self.line);
        }
    }

    /// Takes the interrupt back, before the ring is looked at: an answer after this raises a new one. The kernel
    /// leaves the line, which is edge triggered, as it is.
    pub fn acknowledge(&mut self) {
        // Used buffers and configuration changes; which it was does not matter here.
        self.registers.write(reg::INTERRUPT_ACK, 3);
    }
}
