//! The disk as a driver meets it: registers, a split ring in guest memory, a real device loop, real files.
//!
//! [`Rig`] is the driver. Its methods write what a driver writes and nothing is taken from the device's insides
//! except counters. Each test runs with both engines where io_uring works.

use std::io::Write as _;

use event_manager::{EventManager, SubscriberOps};
use tempfile::NamedTempFile;
use virtio_bindings::virtio_config as config;
use virtio_bindings::virtio_mmio as reg;
use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::counters::BlkCounts;
use super::engine::overlay::PIECE;
use super::image::SECTOR;
use super::subscriber::BlkSubscriber;
use super::*;
use crate::bus::{Access, Device};
use crate::virtio::DeviceMemory;
use crate::virtio::interrupt::Interrupt;
use crate::virtio::mmio::VirtioMmio;

mod dirty;
mod faults;
mod fuzz;
mod layouts;
mod malformed;
mod notify;
mod requests;
mod state;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

const IN: u32 = abi::VIRTIO_BLK_T_IN;
const OUT: u32 = abi::VIRTIO_BLK_T_OUT;
const FLUSH: u32 = abi::VIRTIO_BLK_T_FLUSH;
const GET_ID: u32 = abi::VIRTIO_BLK_T_GET_ID;

/// Guest memory is two mappings that touch here, so that a buffer can lie across both.
const SEAM: u64 = 0x10_0000;
const RAM_END: u64 = 0x20_0000;
const TABLE: u64 = 0x1000;
const AVAIL: u64 = 0x3000;
const USED: u64 = 0x4000;
const HEADER: u64 = 0x8000;
const STATUS: u64 = 0x9000;
const DATA: u64 = 0x2_0000;

const SECTORS: u64 = 64;
const ALL_FEATURES: u64 = 1 << abi::VIRTIO_BLK_F_FLUSH
    | 1 << abi::VIRTIO_BLK_F_BLK_SIZE
    | 1 << abi::VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << config::VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const NEEDS_RESET: u32 = config::VIRTIO_CONFIG_S_NEEDS_RESET;

/// What a disk is on.
#[derive(Clone, Copy, Debug)]
enum On {
    File(EngineChoice),
    Memory,
}

impl From<EngineChoice> for On {
    fn from(engine: EngineChoice) -> Self {
        Self::File(engine)
    }
}

impl std::fmt::Display for On {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(engine) => engine.fmt(f),
            Self::Memory => f.write_str("overlay"),
        }
    }
}

/// The engines that work here. Says so if one does not.
fn engines() -> Vec<On> {
    let mut engines = vec![On::Memory, EngineChoice::Threads.into()];
    match engine::probe_uring() {
        Ok(()) => engines.push(EngineChoice::Uring.into()),
        Err(e) => eprintln!("SKIPPED with engine=uring: {e}: {:?}", std::error::Error::source(&e)),
    }
    engines
}

/// Contents of the disk's byte `i` before any test writes to it.
fn pattern(i: usize) -> u8 {
    (i / 512 * 7 + i % 251) as u8
}

fn image_file() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..(SECTORS * SECTOR) as usize).map(pattern).collect();
    file.write_all(&bytes).unwrap();
    file
}

/// What an overlay's disk holds.
fn contents(overlay: &Overlay) -> Vec<u8> {
    let mut bytes = overlay.base().to_vec();
    for (number, piece) in overlay.changed().iter() {
        let at = *number as usize * PIECE;
        bytes[at..at + piece.len()].copy_from_slice(piece);
    }
    bytes
}

/// A descriptor: address, length, flags. NEXT is added where another follows.
type Piece = (u64, u32, u16);

struct Rig {
    ram: GuestRam,
    mmio: Arc<VirtioMmio<Block>>,
    manager: EventManager<BlkSubscriber>,
    line: EventFd,
    file: NamedTempFile,
    overlay: Option<Overlay>,
    size: u16,
    next_descriptor: u16,
    offered: u16,
    seen: u16,
}

impl Rig {
    fn new(engine: impl Into<On>) -> Self {
        Self::with(engine, false, ALL_FEATURES, 16)
    }

    fn with(engine: impl Into<On>, readonly: bool, features: u64, size: u16) -> Self {
        let file = image_file();
        let half = SEAM as usize;
        let ranges = [(GuestAddress(0), half), (GuestAddress(SEAM), half)];
        let ram: GuestRam = Arc::new(DeviceMemory::from_ranges(&ranges).unwrap());
        let id = "refault-test".parse().unwrap();
        let (disk, overlay) = match engine.into() {
            On::File(engine) => {
                let image = Image::open(file.path(), readonly).unwrap();
                (Block::new(&image, id, engine, ram.clone()).unwrap(), None)
            }
            On::Memory => {
                let overlay = Overlay::open(file.path()).unwrap();
                (Block::on_overlay(&overlay, readonly, id, ram.clone()).unwrap(), Some(overlay))
            }
        };
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let interrupt = Arc::new(Interrupt::new(line.try_clone().unwrap()));
        let mmio = Arc::new(VirtioMmio::new(disk, interrupt, ram.clone()).unwrap());
        let mut manager = EventManager::new().unwrap();
        manager.add_subscriber(BlkSubscriber::new(mmio.clone()).unwrap());
        let (next_descriptor, offered, seen) = (0, 0, 0);
        let mut rig = Self { ram, mmio, manager, line, file, overlay, size, next_descriptor, offered, seen };
        rig.bring_up(features);
        rig
    }

    /// Resets and initialises the device, with empty rings.
    fn bring_up(&mut self, features: u64) {
        self.set(reg::VIRTIO_MMIO_STATUS, 0);
        self.ram.write_slice(&[0; (HEADER - TABLE) as usize], GuestAddress(TABLE)).unwrap();
        (self.next_descriptor, self.offered, self.seen) = (0, 0, 0);
        let known = config::VIRTIO_CONFIG_S_ACKNOWLEDGE | config::VIRTIO_CONFIG_S_DRIVER;
        self.set(reg::VIRTIO_MMIO_STATUS, known);
        for (sel, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.set(reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
            self.set(reg::VIRTIO_MMIO_DRIVER_FEATURES, half);
        }
        let agreed = known | config::VIRTIO_CONFIG_S_FEATURES_OK;
        self.set(reg::VIRTIO_MMIO_STATUS, agreed);
        assert_eq!(self.get(reg::VIRTIO_MMIO_STATUS), agreed);
        self.set(reg::VIRTIO_MMIO_QUEUE_NUM, self.size.into());
        for (register, address) in [
            (reg::VIRTIO_MMIO_QUEUE_DESC_LOW, TABLE),
            (reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL),
            (reg::VIRTIO_MMIO_QUEUE_USED_LOW, USED),
        ] {
            self.set(register, address as u32);
        }
        self.set(reg::VIRTIO_MMIO_QUEUE_READY, 1);
        assert_eq!(self.get(reg::VIRTIO_MMIO_QUEUE_READY), 1);
        self.set(reg::VIRTIO_MMIO_STATUS, agreed | config::VIRTIO_CONFIG_S_DRIVER_OK);
    }

    fn set(&self, register: u32, value: u32) {
        let access: Access<()> = self.mmio.write(register.into(), &value.to_le_bytes());
        assert_eq!(access, Access::Done, "{register:#x} = {value:#x}");
    }

    fn get(&self, register: u32) -> u32 {
        let mut data = [0; 4];
        assert_eq!(Device::<()>::read(&*self.mmio, register.into(), &mut data), Access::Done);
        u32::from_le_bytes(data)
    }

    fn poke<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.ram.write_obj(value, GuestAddress(at)).unwrap();
    }

    fn peek<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.ram.read_obj(GuestAddress(at)).unwrap()
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn put_header(&self, at: u64, kind: u32, sector: u64) {
        self.poke(at, kind.to_le());
        self.poke(at + 4, 0u32);
        self.poke(at + 8, sector.to_le());
    }

    /// Writes one descriptor of the table at `table`.
    fn descriptor(&self, table: u64, index: u16, (address, len, flags): Piece, next: u16) {
        let at = table + u64::from(index) * 16;
        self.poke(at, address.to_le());
        self.poke(at + 8, len.to_le());
        self.poke(at + 12, flags.to_le());
        self.poke(at + 14, next.to_le());
    }

    /// Writes a chain into fresh descriptors, and returns its head.
    fn chain(&mut self, pieces: &[Piece]) -> u16 {
        let head = self.next_descriptor;
        self.next_descriptor += pieces.len() as u16;
        assert!(self.next_descriptor <= self.size);
        self.table(TABLE, head, pieces);
        head
    }

    /// Writes linked descriptors from index `first` of `table`.
    fn table(&self, table: u64, first: u16, pieces: &[Piece]) {
        for (i, (address, len, flags)) in pieces.iter().enumerate() {
            let index = first + i as u16;
            let link = if i + 1 < pieces.len() { NEXT } else { 0 };
            self.descriptor(table, index, (*address, *len, flags | link), index + 1);
        }
    }

    /// Makes a head available without telling the device.
    fn offer(&mut self, head: u16) {
        self.poke(AVAIL + 4 + u64::from(self.offered % self.size) * 2, head.to_le());
        self.offered = self.offered.wrapping_add(1);
        self.poke(AVAIL + 2, self.offered.to_le());
    }

    fn notify(&self) {
        self.set(reg::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    fn used_index(&self) -> u16 {
        u16::from_le(self.peek(USED + 2))
    }

    /// Runs the device loop until `count` more heads were used; returns them with their lengths.
    #[track_caller]
    fn collect(&mut self, count: u16) -> Vec<(u32, u32)> {
        self.run_until("a head to be used", |rig| {
            assert!(!rig.needs_reset(), "device needs reset");
            rig.used_index().wrapping_sub(rig.seen) >= count
        });
        (0..count).map(|_| self.next_used()).collect()
    }

    /// Runs the device loop until `reached`. A turn without an event is not yet a failure: the kernel's work
    /// for io_uring interrupts the wait as a signal would.
    #[track_caller]
    fn run_until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let mut idle = 0;
        while !reached(self) {
            assert!(idle < 100, "waited in vain for {what}");
            let woken = self.manager.run_with_timeout(1000).unwrap();
            idle = if woken == 0 { idle + 1 } else { 0 };
        }
    }

    fn next_used(&mut self) -> (u32, u32) {
        let at = USED + 4 + u64::from(self.seen % self.size) * 8;
        self.seen = self.seen.wrapping_add(1);
        (u32::from_le(self.peek(at)), u32::from_le(self.peek(at + 4)))
    }

    /// Runs the device loop as long as something is ready at once.
    fn settle(&mut self) {
        while self.manager.run_with_timeout(0).unwrap() != 0 {}
    }

    /// Offers one chain, waits for it, and returns its used length. The descriptors are free again after.
    #[track_caller]
    fn run(&mut self, pieces: &[Piece]) -> u32 {
        let head = self.chain(pieces);
        self.run_head(head)
    }

    #[track_caller]
    fn run_head(&mut self, head: u16) -> u32 {
        self.poke(STATUS, 0xeeu8);
        self.offer(head);
        self.notify();
        let used = self.collect(1);
        assert_eq!(used[0].0, u32::from(head));
        assert_eq!(self.used_index(), self.seen, "one head was used twice");
        self.next_descriptor = 0;
        used[0].1
    }

    /// One request in the plainest layout: returns status and used length.
    #[track_caller]
    fn request(&mut self, kind: u32, sector: u64, data: u64, len: u32) -> (u8, u32) {
        self.put_header(HEADER, kind, sector);
        let direction = if kind == OUT { 0 } else { WRITE };
        let mut pieces = vec![(HEADER, 16, 0), (data, len, direction), (STATUS, 1, WRITE)];
        if kind == FLUSH {
            pieces.remove(1);
        }
        let used = self.run(&pieces);
        (self.peek(STATUS), used)
    }

    /// The device still works.
    #[track_caller]
    fn assert_alive(&mut self) {
        assert_eq!(self.request(IN, 3, DATA, 512), (STATUS_OK, 513));
        let want: Vec<u8> = (3 * 512..4 * 512).map(pattern).collect();
        assert_eq!(self.bytes(DATA, 512), want);
    }

    fn counts(&self) -> BlkCounts {
        self.mmio.inspect(|disk| disk.counters().get())
    }

    fn needs_reset(&self) -> bool {
        self.get(reg::VIRTIO_MMIO_STATUS) & NEEDS_RESET != 0
    }

    fn on_disk(&self) -> Vec<u8> {
        let file = std::fs::read(self.file.path()).unwrap();
        let Some(overlay) = &self.overlay else { return file };
        assert_eq!(file[..], overlay.base()[..], "the image was changed");
        contents(overlay)
    }
}
