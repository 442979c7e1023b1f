//! From the boot loader's hand-over to VM's first instruction.
//!
//! The one thing to hold in mind: everything the loader left is somebody else's word until `pvh`, `image` and
//! `elf` have looked at it. The kernel loads one program, VM; VM starts everything else.

use core::cell::UnsafeCell;
use core::ptr;

use refault_abi::Endpoint;
use refault_abi::doorbell::event;
use refault_abi::info::{CMDLINE_MAX, Info, MAGIC};
use refault_abi::kcall::{PhysRange, ProcCreate, privilege};
use refault_abi::layout::{DIRECT_MAP, KERNEL_END, PAGE, STACK_TOP, pte};
use refault_abi::options::{CopyLock, Mode};
use refault_kernel::frame::Frame;
use refault_kernel::options::{KernelOptions, Trap as TrapOption};
use refault_kernel::watchdog::Watchdog;
use refault_kernel::{elf, image, pvh};
use zerocopy::FromZeros;

use super::apic::{Interrupts, Timer};
use super::cpu::{Cpu, USER_CODE, USER_DATA};
use super::pages::{self, EarlyPhysical, SharedPages, physical_of};
use super::probe::{Trap, works};
use super::registers::{msr, read_msr, time_stamp};
use super::{doorbell, serial, trap};

/// Scheduling level of VM: it serves everybody.
const VM_LEVEL: u32 = 2;
/// Bytes at the top of VM's stack that hold its (empty) start information.
const START_INFO: u64 = 64;

#[repr(C, align(4096))]
struct InfoPage(UnsafeCell<Info>);
// SAFETY: written before the first process runs, read-only from then on.
unsafe impl Sync for InfoPage {}

#[unsafe(link_section = ".bss.pages")]
static INFO: InfoPage = InfoPage(UnsafeCell::new(Info {
    magic: 0,
    image: PhysRange { address: 0, bytes: 0 },
    stub: 0,
    info: 0,
    stats: 0,
    doorbell: 0,
    root: 0,
    vm_pages: PhysRange { address: 0, bytes: 0 },
    no_execute: 0,
    processors: 0,
    tsc_khz: 0,
    ram_count: 0,
    ram: [PhysRange { address: 0, bytes: 0 }; refault_abi::info::RAM_MAX],
    cmdline_length: 0,
    cmdline: [0; CMDLINE_MAX],
}));

#[repr(C, align(16))]
struct BootStack(UnsafeCell<[u8; 32768]>);
// SAFETY: only the first processor's stack pointer ever points there.
unsafe impl Sync for BootStack {}
static BOOT_STACK: BootStack = BootStack(UnsafeCell::new([0; 32768]));

core::arch::global_asm!(".globl boot_stack_top", ".set boot_stack_top, {} + 32768", sym BOOT_STACK);

unsafe extern "C" {
    fn leave_kernel();
}

/// A slice of physical memory in the direct map.
///
/// # Safety
/// The range is mapped and nobody changes it while the slice is used.
unsafe fn physical_bytes(range: PhysRange) -> &'static [u8] {
    let start = ptr::with_exposed_provenance((DIRECT_MAP + range.address) as usize);
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(start, range.bytes as usize) }
}

/// The first Rust code, on the boot stack. `start_info`: physical address of the PVH start information.
#[unsafe(no_mangle)]
extern "C" fn kernel_start(start_info: u32) -> ! {
    trap::lock_for_start();
    let cpu = Cpu::start(0);
    serial::start();
    // SAFETY: nothing else runs yet.
    let kernel = unsafe { trap::kernel() };
    let no_execute = if read_msr(msr::EFER) & 0x800 != 0 { pte::NO_EXECUTE } else { 0 };
    pages::remove_low_mappings(no_execute);

    let mut early = EarlyPhysical { no_execute };
    let found = match pvh::read(&mut early, u64::from(start_info)) {
        Ok(found) => found,
        Err(refused) => panic!("boot: {}", refused.text()),
    };
    let ram = found.ram.get(..found.ram_count).unwrap_or_default();
    for range in ram {
        pages::map_direct(range.address, range.bytes, no_execute);
        let end = range.address + range.bytes;
        if range.address < 4 << 30 {
            kernel.machine.low_end = kernel.machine.low_end.max(end.min(4 << 30));
        }
        if end > 4 << 30 {
            kernel.machine.high_end = kernel.machine.high_end.max(end);
        }
    }

    // SAFETY: nobody else uses the page before the first process runs.
    let info = unsafe { &mut *INFO.0.get() };
    read_cmdline(&mut early, found.cmdline, info);
    let options = match KernelOptions::parse(info.cmdline()) {
        Ok(options) => options,
        Err(word) => {
            // Found only now, so that the monitor hears of the panic, too.
            if let Some(address) = refault_abi::options::doorbell(info.cmdline()) {
                doorbell::start(address, no_execute);
            }
            panic!("boot: bad option `{word}` on the command line")
        }
    };
    kernel.options = options;
    kernel.machine.drop_lock = options.copylock == CopyLock::Dropped;

    let Some(interrupts) = Interrupts::start(no_execute) else { panic!("boot: no room to map the APICs") };
    kernel.machine.interrupts = interrupts;
    kernel.machine.timer = Timer::start(&kernel.machine.interrupts, options.lapic_hz);
    if options.mode == Mode::Faithful {
        kernel.table.suspensions = None;
    }
    if options.watchdog != 0 {
        kernel.watchdog = Watchdog::new(options.watchdog, kernel.machine.timer.khz, time_stamp());
        kernel.machine.timer.arm(&kernel.machine.interrupts, kernel.watchdog.next);
    }
    let doorbell = options.doorbell.filter(|address| doorbell::start(*address, no_execute));

    let inside = |range: &&PhysRange| {
        found.image.address >= range.address
            && found.image.address + found.image.bytes <= range.address + range.bytes
    };
    if ram.iter().find(inside).is_none() || found.image.address < KERNEL_END {
        panic!("boot: the boot image is not in RAM above {KERNEL_END:#x}");
    }
    // SAFETY: in RAM, mapped just now; nobody changes it.
    let archive = unsafe { physical_bytes(found.image) };
    let Some(file) = image::find(archive, "vm") else { panic!("boot: no file `vm` in the boot image") };
    let place = found.image.address + file.offset as u64;
    let bytes = archive.get(file.offset..file.offset + file.length).unwrap_or_default();
    let program = match elf::parse(bytes) {
        Ok(program) => program,
        Err(refused) => panic!("boot: `vm`: {}", refused.text()),
    };
    if !place.is_multiple_of(PAGE) {
        panic!("boot: `vm` does not begin on a page of the boot image");
    }

    info.magic = MAGIC;
    info.image = found.image;
    info.info = physical_of(&INFO);
    info.stats = doorbell::counters_page();
    info.doorbell = doorbell.unwrap_or(0);
    info.root = pages::system_root();
    info.no_execute = u32::from(no_execute != 0);
    info.processors = 1;
    info.tsc_khz = kernel.machine.timer.khz;
    info.ram_count = found.ram_count as u64;
    info.ram = found.ram;

    let mut shared = SharedPages { stub: Trap::Syscall.page(), info: info.info, stats: info.stats };
    if pages::build_vm(&program, place, &shared, ram, info.doorbell, no_execute).is_err() {
        panic!("boot: `vm` needs more memory than there is below {KERNEL_END:#x}");
    }
    let trap = choose_trap(cpu, kernel, options.trap);
    shared.stub = trap.page();
    pages::replace_stub(shared.stub);
    info.stub = shared.stub;
    if options.measure {
        super::cpu::announce_traps();
    }
    info.vm_pages = pages::pool_used();

    let mut request = ProcCreate::new_zeroed();
    request.slot = Endpoint::VM.slot();
    request.privilege = privilege::SERVER;
    request.priority = VM_LEVEL;
    request.name = *b"vm\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let Ok(slot) = kernel.table.create(&request) else { panic!("boot: no slot for VM") };
    let frame = Frame {
        rip: program.entry,
        rsp: STACK_TOP - START_INFO,
        rdi: STACK_TOP - START_INFO,
        ..user_frame()
    };
    kernel.table.start(slot, frame, pages::system_root());
    doorbell::event(event::FIRST_RING3, 0);
    let frame = trap::first(kernel, cpu);
    // SAFETY: leave_kernel takes the frame in rax and the lock held, and does not come back.
    unsafe { core::arch::asm!("jmp {}", sym leave_kernel, in("rax") frame, options(noreturn)) }
}

/// Registers of a process before its first instruction: everything zero, interrupts on.
pub fn user_frame() -> Frame {
    Frame { cs: USER_CODE, ss: USER_DATA, rflags: 0x202, ..Frame::EMPTY }
}

fn read_cmdline(early: &mut EarlyPhysical, address: u64, info: &mut Info) {
    use pvh::Physical;
    if address == 0 {
        return;
    }
    let room = (pvh::MAX_PHYSICAL - address).min(CMDLINE_MAX as u64) as usize;
    let mut at = 0;
    // In small pieces, up to the NUL: what lies behind it is not ours to read.
    while at < room {
        let end = (at + 64).min(room);
        let Some(piece) = info.cmdline.get_mut(at..end) else { break };
        early.read(address + at as u64, piece);
        if let Some(nul) = piece.iter().position(|byte| *byte == 0) {
            piece.get_mut(nul..).unwrap_or_default().fill(0);
            info.cmdline_length = (at + nul) as u64;
            return;
        }
        at = end;
    }
    panic!("boot: the command line is longer than {CMDLINE_MAX} bytes");
}

/// Finds a trap instruction that works. The stub page mapped for VM is replaced for each candidate.
fn choose_trap(cpu: &Cpu, kernel: &mut crate::kernel::Kernel, wanted: TrapOption) -> Trap {
    // A frame for the processor to save into: the probe comes before any process.
    cpu.set_current(usize::from(refault_kernel::process::NIL), &raw mut kernel.table.procs[0].frame);
    for candidate in [Trap::Syscall, Trap::Int3] {
        if candidate == Trap::Syscall && wanted == TrapOption::Int3 {
            continue;
        }
        pages::replace_stub(candidate.page());
        if works(candidate) {
            return candidate;
        }
    }
    panic!("boot: neither SYSCALL nor INT3 enters the kernel from ring 3");
}
