//! From nothing to a running system: frames, heap, and the servers of the boot image.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use refault_abi::endpoint::NR_PROCS;
use refault_abi::kcall::{PhysRange, privilege};
use refault_abi::layout::{self, KERNEL_END, VM_RAM};
use refault_abi::options::{Mode, virtio_mmio};
use refault_abi::{Endpoint, info};
use refault_rt::heap;
use refault_vm::archive;
use refault_vm::frames::{self, Frames};
use refault_vm::memory::Memory;
use refault_vm::pending::Pending;

use super::waits::Waits;
use super::window::{Doorbell, Window};
use super::{Server, no_slots};

/// A server of the image: its name, its file's, its fixed endpoint, class and priority.
struct BootServer {
    name: &'static str,
    file: &'static str,
    endpoint: Endpoint,
    privilege: u32,
    priority: u32,
}

/// In the order in which they are started. Drivers go first in the scheduler, INIT last.
const SERVERS: &[BootServer] = &[
    BootServer {
        name: "tty",
        file: "tty",
        endpoint: Endpoint::TTY,
        privilege: privilege::DRIVER,
        priority: 1,
    },
    BootServer {
        name: "blk",
        file: "blk",
        endpoint: Endpoint::BLK,
        privilege: privilege::DRIVER,
        priority: 1,
    },
    BootServer {
        name: "mfs",
        file: "mfs",
        endpoint: Endpoint::MFS,
        privilege: privilege::SERVER,
        priority: 3,
    },
    BootServer {
        name: "mfs2",
        file: "mfs",
        endpoint: Endpoint::MFS2,
        privilege: privilege::SERVER,
        priority: 3,
    },
    BootServer {
        name: "pipefs",
        file: "pipefs",
        endpoint: Endpoint::PIPEFS,
        privilege: privilege::SERVER,
        priority: 3,
    },
    BootServer {
        name: "vfs",
        file: "vfs",
        endpoint: Endpoint::VFS,
        privilege: privilege::SERVER,
        priority: 3,
    },
    BootServer { name: "pm", file: "pm", endpoint: Endpoint::PM, privilege: privilege::SERVER, priority: 3 },
    BootServer { name: "rs", file: "rs", endpoint: Endpoint::RS, privilege: privilege::SERVER, priority: 3 },
    BootServer {
        name: "init",
        file: "init",
        endpoint: Endpoint::INIT,
        privilege: privilege::USER,
        priority: 7,
    },
];

/// The name of the server of a slot.
pub fn name_of(slot: i32) -> Option<&'static str> {
    SERVERS.iter().find(|server| server.endpoint.slot() == slot).map(|server| server.name)
}

/// Servers without which nothing works.
const NEEDED: &[&str] = &["pm", "vfs", "init"];
/// Heap beside the part that grows with RAM.
const HEAP_BASE: u64 = 2 << 20;
/// One part in so many of RAM is VM's heap: a cached page costs about 100 bytes of it.
const HEAP_PART: u64 = 32;

/// What is left of VM's heap: addresses in the window.
static HEAP_NEXT: AtomicU64 = AtomicU64::new(0);
static HEAP_END: AtomicU64 = AtomicU64::new(0);

/// The heap's source of pages.
fn heap_pages(bytes: u64) -> Option<NonNull<u8>> {
    let bytes = layout::page_ceil(bytes);
    let start = HEAP_NEXT.load(Ordering::Relaxed);
    let end = start.checked_add(bytes).filter(|end| *end <= HEAP_END.load(Ordering::Relaxed))?;
    HEAP_NEXT.store(end, Ordering::Relaxed);
    NonNull::new(ptr::with_exposed_provenance_mut(start as usize))
}

/// Sets everything up and starts the servers.
pub fn start() -> Result<Server, &'static str> {
    let info = refault_rt::info::info();
    if info.magic != info::MAGIC {
        return Err("the information page has another format");
    }
    let options = refault_rt::info::options().ok_or("the command line makes no sense")?;
    let count = usize::try_from(info.ram_count).unwrap_or(0);
    let ram = info.ram.get(..count).ok_or("the RAM map is too long")?;
    let end = ram.iter().map(|range| range.address.saturating_add(range.bytes)).max().unwrap_or(0);
    let counters = layout::page_ceil(frames::counters_for(end).saturating_mul(4));
    let heap = layout::page_ceil(HEAP_BASE.saturating_add(end / HEAP_PART));
    let own_bytes = counters.saturating_add(heap);
    let own = frames::carve(ram, info.image, KERNEL_END, own_bytes).ok_or("not enough RAM")?;
    HEAP_NEXT.store(VM_RAM + own + counters, Ordering::Relaxed);
    HEAP_END.store(VM_RAM + own + own_bytes, Ordering::Relaxed);
    heap::set_source(heap_pages);
    let reserved = [
        PhysRange { address: 0, bytes: KERNEL_END },
        PhysRange { address: own, bytes: own_bytes },
        info.image,
    ];
    // SAFETY: `carve` chose RAM above KERNEL_END clear of the image, and it is reserved just below.
    let counters = unsafe { Window::take(own, counters) };
    let frames = Frames::new(counters, ram, &reserved);
    // SAFETY: this is VM, and it runs this once.
    let window = unsafe { Window::new() };
    // SAFETY: the kernel's word for where the image is; its frames are reserved.
    let image = unsafe { Window::image(info.image.address, info.image.bytes) };
    let mut server = Server {
        memory: Memory::new(window, frames, info.no_execute != 0, options.bug),
        slots: no_slots(),
        pending: Pending::new(options.mode == Mode::Faithful),
        waits: Waits::new(),
        predecessors: [None; NR_PROCS],
        options,
        free: 0,
        backlog: VecDeque::new(),
        doorbell: Doorbell::new(info.doorbell),
        image,
        info,
    };
    server.start_servers()?;
    Ok(server)
}

impl Server {
    /// Creates all servers first, so that each finds the others, then lets them run.
    fn start_servers(&mut self) -> Result<(), &'static str> {
        let mut created = Vec::new();
        let second_disk = virtio_mmio(self.info.cmdline(), 1).is_some();
        for boot in SERVERS.iter().filter(|boot| second_disk || boot.endpoint != Endpoint::MFS2) {
            let Some(file) = archive::find(self.image, boot.file) else {
                if NEEDED.contains(&boot.name) {
                    refault_rt::diag!("vm: {} is not in the boot image", boot.name);
                    return Err("the boot image is not complete");
                }
                continue;
            };
            // INIT is told the names of the programs there are.
            let mut words = Vec::from([boot.name.as_bytes()]);
            if boot.endpoint == Endpoint::INIT {
                let programs =
                    archive::members(self.image).filter_map(|member| member.name.strip_prefix("bin/"));
                words.extend(programs.map(str::as_bytes).take(100));
            }
            let slot = i32::try_from(boot.endpoint.index().unwrap_or(0)).unwrap_or(0);
            match self.create(file, &words, boot.name, Some(slot), boot.privilege, boot.priority) {
                Ok(endpoint) => created.push(endpoint),
                Err(error) => {
                    refault_rt::diag!("vm: {} cannot be started: {error}", boot.name);
                    return Err("a server cannot be started");
                }
            }
        }
        for endpoint in created {
            let target = refault_abi::kcall::Target { endpoint: endpoint.raw(), reserved: 0 };
            if self.start(&target).is_err() {
                return Err("a server cannot be started");
            }
        }
        Ok(())
    }
}
