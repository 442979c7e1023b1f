//! The kernel's state, all of it, in one place behind one lock.

use refault_abi::counters::Counter;
use refault_abi::kcall::rts;
use refault_abi::layout::pte;
use refault_abi::pm::Killed;
use refault_abi::vm::{self, PageFault};
use refault_abi::{Endpoint, Errno, pm};
use refault_kernel::graph::Graph;
use refault_kernel::marks::Marks;
use refault_kernel::options::KernelOptions;
use refault_kernel::poison::{Poisoned, Poisons};
use refault_kernel::process::FROM_HARDWARE;
use refault_kernel::table::Table;
use refault_kernel::watchdog::Watchdog;
use zerocopy::IntoBytes;

use crate::arch::Machine;

/// I/O APIC lines that can be routed to a driver.
pub const LINES: usize = 24;

/// Everything the big kernel lock guards.
pub struct Kernel {
    /// Processes.
    pub table: Table,
    /// The hardware.
    pub machine: Machine,
    /// Modes.
    pub options: KernelOptions,
    /// Copying kernel calls so far.
    pub copies: u64,
    /// Copies of the present kernel call behind the one under way.
    pub later: u8,
    /// Who gets which interrupt line.
    pub lines: [Endpoint; LINES],
    /// Marks that could not be stored yet.
    pub marks: Marks,
    /// Poisoned pages VM has not heard of.
    pub poisons: Poisons,
    /// Who waits for whom, when somebody looks.
    pub graph: Graph,
    /// Looks whether anything goes on.
    pub watchdog: Watchdog,
    /// Bytes on their way from a process to a device.
    pub buffer: [u8; 4096],
}

impl Kernel {
    /// Adds one to a counter.
    #[inline(always)]
    pub fn count(&mut self, counter: Counter) {
        self.machine.count(counter, 1);
    }

    /// A process's own access met an absent page: VM is told in its name, and it waits.
    pub fn page_fault(&mut self, me: usize, address: u64, second_stage: bool) {
        self.count(Counter::PageFaults);
        if second_stage {
            self.count(Counter::ReflectedUser);
        }
        let process = &mut self.table.procs[me];
        let fault = PageFault {
            address,
            error: process.frame.error,
            flags: u64::from(if second_stage { vm::FAULT_SECOND_STAGE } else { 0 }),
            rip: process.frame.rip,
        };
        process.flags |= rts::PAGEFAULT;
        // For the wait-for graph.
        process.vm.address = address;
        let payload = payload(&fault);
        if self.table.send_for(&mut self.machine, me, Endpoint::VM, vm::PAGEFAULT, payload).is_err() {
            panic!("page fault at {address:#x} without a VM server");
        }
    }

    /// A poisoned page of the process in `owner` was touched, at its `address`, by itself or for it: it never runs again, so that
    /// it sees no result of what was going on, and VM is told, which takes the page out of use and has the process ended.
    ///
    /// # Panics
    /// If the page is VM's, or that of PM, who would have to be told of its own end.
    pub fn poisoned(&mut self, owner: usize, page: u64, address: u64) {
        let endpoint = self.table.procs[owner].endpoint;
        let vm = self.table.lookup(Endpoint::VM).filter(|_| endpoint != Endpoint::PM);
        let Some(vm) = vm.filter(|vm| *vm != owner) else {
            let name = self.table.procs[owner].name();
            panic!("poisoned page {page:#x} of {name}, at {address:#x}");
        };
        // Each process is ended once.
        let ends = self.table.procs[owner].flags & rts::STOPPED != 0;
        self.table.stop(owner);
        let owner = if ends { Endpoint::NONE } else { endpoint };
        // Without room the page is told of when it is touched again.
        self.poisons.remember(Poisoned { page, owner, address });
        self.table.procs[vm].signals |= vm::SIGNAL_POISON;
        self.table.notify_from_kernel(vm, FROM_HARDWARE);
    }

    /// A process did something it cannot continue from: it stops, and PM is told.
    pub fn stop(&mut self, me: usize, signal: u32, address: u64) {
        let process = &mut self.table.procs[me];
        if process.endpoint == Endpoint::PM {
            // Whoever would be told is the one that cannot listen.
            panic!("signal {signal} in PM, at {address:#x}");
        }
        process.flags |= rts::STOPPED;
        let killed = Killed { endpoint: process.endpoint.raw(), signal, address };
        let payload = payload(&killed);
        // Without PM the process just stays stopped: there is nobody who could remove it.
        let told: Result<(), Errno> =
            self.table.send_for(&mut self.machine, me, Endpoint::PM, pm::KILLED, payload);
        if told.is_err() {
            crate::arch::log(format_args!(
                "kernel: {} stopped by signal {signal} at {:#x}, and there is no PM\n",
                self.table.procs[me].name(),
                self.table.procs[me].frame.rip
            ));
        }
    }

    /// An interrupt line fired.
    pub fn interrupt(&mut self, line: usize) {
        self.count(Counter::Interrupts);
        let Some(slot) = self.lines.get(line).and_then(|owner| self.table.lookup(*owner)) else { return };
        self.table.procs[slot].signals |= 1 << (line & 63);
        self.table.notify_from_kernel(slot, FROM_HARDWARE);
    }
}

/// The payload words of a message.
fn payload<T: IntoBytes + zerocopy::Immutable>(value: &T) -> [u64; 7] {
    let mut words = [0u64; 7];
    let bytes = value.as_bytes();
    if let Some(place) = words.as_mut_bytes().get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
    words
}

/// Bits a user page needs to be reachable: for whoever builds tables in this kernel.
pub const USER_TABLE: u64 = pte::PRESENT | pte::WRITABLE | pte::USER;
