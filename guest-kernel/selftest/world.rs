//! RAM, address spaces and agents, for the test cases.
//!
//! An agent shares the program's text and constants; it has an arena of its own at [`ARENA`], whose pages VM
//! reads and writes through its window.

use refault_abi::info::Info;
use refault_abi::ipc::{Call, peers};
use refault_abi::kcall::{self, ProcCreate, ProcInfo, ProcStart, Target, VmCtl, privilege, vmctl};
use refault_abi::layout::{self, PAGE, pte};
use refault_abi::{Endpoint, Message};
use refault_kernel::{elf, image};
use zerocopy::FromZeros;

use crate::trap::{kernel_call, primitive};
use crate::{agent, same};

/// An agent's arena.
pub const ARENA: u64 = layout::MMAP_START;
/// Pages of an arena; those from the sixth on are absent at first.
pub const ARENA_PAGES: u64 = 16;
/// Pages that are there from the start.
pub const ARENA_PRESENT: u64 = 6;
const STACK_PAGES: u64 = 4;
const USER: u64 = pte::PRESENT | pte::USER;

/// A process of the test.
#[derive(Clone, Copy, Debug)]
pub struct Agent {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// Its top-level page table.
    pub root: u64,
    /// GPA of its arena.
    pub arena: u64,
}

/// What an agent reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// `rax` of its trap.
    pub result: i64,
    /// Delivery status.
    pub status: u64,
    /// First words of its message afterwards.
    pub words: [u64; 6],
}

impl Report {
    /// Source of the message it received.
    pub fn source(&self) -> Endpoint {
        Endpoint::from_raw(self.words[0] as u32 as i32)
    }

    /// Type of the message it received.
    pub fn kind(&self) -> u16 {
        (self.words[0] >> 32) as u16
    }
}

/// Everything.
pub struct World {
    info: &'static Info,
    next: u64,
    end: u64,
    idler: Option<Agent>,
}

/// First words of a message.
pub fn head(kind: u16) -> u64 {
    u64::from(kind) << 32
}

impl World {
    /// Finds free RAM and starts the agent of the lowest priority.
    pub fn new() -> World {
        // SAFETY: the kernel maps the page read-only.
        let info = unsafe { &*core::ptr::with_exposed_provenance::<Info>(layout::INFO as usize) };
        let ram = info.ram.iter().take(info.ram_count as usize);
        let range = ram.max_by_key(|range| range.address + range.bytes).expect("RAM");
        let start = range.address.max(layout::KERNEL_END);
        let mut end = range.address + range.bytes;
        if (start..end).contains(&info.image.address) {
            end = info.image.address & !(PAGE - 1);
        }
        let mut world = World { info, next: start, end, idler: None };
        world.idler = Some(world.agent("idler", privilege::TEST, 15));
        world
    }

    /// The information page.
    pub fn info(&self) -> &'static Info {
        self.info
    }

    /// VM's address of a GPA.
    pub fn window<T>(&self, gpa: u64) -> *mut T {
        core::ptr::with_exposed_provenance_mut((layout::VM_RAM + gpa) as usize)
    }

    /// Reads a word of RAM.
    pub fn read(&self, gpa: u64) -> u64 {
        // SAFETY: RAM through the window.
        unsafe { self.window::<u64>(gpa).read_volatile() }
    }

    /// Writes a word of RAM.
    pub fn write(&self, gpa: u64, value: u64) {
        // SAFETY: RAM through the window that the test owns.
        unsafe { self.window::<u64>(gpa).write_volatile(value) }
    }

    /// Takes zeroed pages.
    pub fn pages(&mut self, count: u64) -> u64 {
        let gpa = self.next;
        self.next += count * PAGE;
        assert!(self.next <= self.end, "out of RAM");
        for word in 0..count * 512 {
            self.write(gpa + word * 8, 0);
        }
        gpa
    }

    /// Maps a page.
    pub fn map(&mut self, root: u64, address: u64, physical: u64, flags: u64) {
        let mut table = root;
        for level in [3, 2, 1] {
            let place = table + ((address >> (12 + 9 * level)) & 511) * 8;
            let mut entry = self.read(place);
            if entry == 0 {
                entry = self.pages(1) | USER | pte::WRITABLE;
                self.write(place, entry);
            }
            table = entry & pte::ADDRESS;
        }
        self.write(table + ((address >> 12) & 511) * 8, physical | flags);
    }

    /// Takes a page out of an address space; the entry it had.
    pub fn unmap(&mut self, root: u64, address: u64) -> u64 {
        let mut table = root;
        for level in [3, 2, 1] {
            table = self.read(table + ((address >> (12 + 9 * level)) & 511) * 8) & pte::ADDRESS;
        }
        let place = table + ((address >> 12) & 511) * 8;
        let entry = self.read(place);
        self.write(place, 0);
        entry
    }

    /// Starts an agent in the first free slot.
    pub fn agent(&mut self, name: &str, privilege: u32, level: u32) -> Agent {
        self.agent_in(-1, name, privilege, level)
    }

    /// Starts an agent in `slot`.
    pub fn agent_in(&mut self, slot: i32, name: &str, privilege: u32, level: u32) -> Agent {
        let mut create = ProcCreate::new_zeroed();
        create.slot = slot;
        create.privilege = privilege;
        create.priority = level;
        create.name[..name.len()].copy_from_slice(name.as_bytes());
        let (result, message) = kernel_call(kcall::PROC_CREATE, &create);
        assert_eq!(result, 0, "PROC_CREATE");
        let endpoint = Endpoint::from_raw(message.get::<ProcCreate>().endpoint);

        let (root, arena) = self.address_space();
        let start = ProcStart {
            endpoint: endpoint.raw(),
            reserved: 0,
            rip: agent::main as *const () as u64,
            // As after a call: the stack is aligned to 16 at the function's first push.
            rsp: layout::STACK_TOP - 8,
            argument: 0,
            root,
        };
        let (result, _) = kernel_call(kcall::PROC_START, &start);
        assert_eq!(result, 0, "PROC_START");
        Agent { endpoint, root, arena }
    }

    /// An agent's address space: the program, a stack, the stub and an arena; its root and its arena.
    fn address_space(&mut self) -> (u64, u64) {
        let root = self.pages(1);
        self.map_program(root);
        let stack = self.pages(STACK_PAGES);
        for page in 0..STACK_PAGES {
            let address = layout::STACK_TOP - (STACK_PAGES - page) * PAGE;
            self.map(root, address, stack + page * PAGE, USER | pte::WRITABLE);
        }
        self.map(root, layout::STUB, self.info.stub, USER);
        let arena = self.pages(ARENA_PAGES);
        for page in 0..ARENA_PRESENT {
            self.map(root, ARENA + page * PAGE, arena + page * PAGE, USER | pte::WRITABLE);
        }
        (root, arena)
    }

    /// Maps the program's own segments, as they are in the boot image, except for writable ones, which agents
    /// do not use.
    fn map_program(&mut self, root: u64) {
        let bytes = self.info.image;
        // SAFETY: the boot image, which nobody changes any more.
        let archive =
            unsafe { core::slice::from_raw_parts(self.window::<u8>(bytes.address), bytes.bytes as usize) };
        let file = image::find(archive, "vm").expect("vm in the image");
        let program = elf::parse(&archive[file.offset..file.offset + file.length]).expect("ELF");
        let place = bytes.address + file.offset as u64;
        for segment in program.segments.iter().take(program.count).filter(|segment| !segment.writable) {
            for page in 0..segment.file_bytes.div_ceil(PAGE) {
                self.map(root, segment.address + page * PAGE, place + segment.offset + page * PAGE, USER);
            }
        }
    }

    /// Where a page of an address space is; 0 when it is absent.
    fn physical(&self, root: u64, address: u64) -> u64 {
        let mut table = root;
        for level in [3, 2, 1, 0] {
            table = self.read(table + ((address >> (12 + 9 * level)) & 511) * 8) & pte::ADDRESS;
            if table == 0 {
                return 0;
            }
        }
        table
    }

    /// An address space like that of `agent`, with pages of its own; its root and its arena.
    pub fn twin(&mut self, agent: &Agent) -> (u64, u64) {
        let (root, arena) = self.address_space();
        self.copy_memory(agent, root);
        (root, arena)
    }

    /// Makes what is in the stack and the arena of `agent` the contents of the address space `root`.
    pub fn copy_memory(&self, agent: &Agent, root: u64) {
        let stack = (1..=STACK_PAGES).map(|page| layout::STACK_TOP - page * PAGE);
        for address in stack.chain((0..ARENA_PRESENT).map(|page| ARENA + page * PAGE)) {
            let (from, to) = (self.physical(agent.root, address), self.physical(root, address));
            for word in 0..512 {
                self.write(to + word * 8, self.read(from + word * 8));
            }
        }
    }

    /// Takes the notification of a suspended copy, if one is waiting.
    pub fn drain(&mut self) {
        let mut message = Message::default();
        primitive(Call::ReceiveNb, Endpoint::NONE, Endpoint::HARDWARE, &mut message);
    }

    /// Removes an agent.
    pub fn remove(&mut self, agent: &Agent) {
        let target = Target { endpoint: agent.endpoint.raw(), reserved: 0 };
        same!(kernel_call(kcall::PROC_EXIT, &target).0, 0, "PROC_EXIT");
    }

    /// Gives an agent an order; it must be waiting for one or about to.
    pub fn order_raw(&mut self, agent: &Agent, kind: u16, payload: [u64; 7]) {
        let mut order = Message::bare(kind);
        order.payload = payload;
        let (result, _) = primitive(Call::Send, agent.endpoint, Endpoint::NONE, &mut order);
        assert_eq!(result, 0, "an agent did not take its order");
    }

    /// Tells an agent to execute a primitive.
    pub fn order(&mut self, agent: &Agent, call: Call, to: Endpoint, from: Endpoint, words: &[u64]) {
        let mut payload = [0; 7];
        payload[0] = peers(to, from);
        payload[1..1 + words.len()].copy_from_slice(words);
        self.order_raw(agent, agent::ORDER + call as u16, payload);
    }

    /// Waits for an agent's report.
    pub fn report(&mut self, agent: &Agent) -> Report {
        let mut message = Message::default();
        let (result, _) = primitive(Call::Receive, Endpoint::NONE, agent.endpoint, &mut message);
        assert_eq!(result, 0, "no report");
        assert_eq!(message.kind(), agent::REPORT, "no report");
        let [outcome, words @ ..] = message.payload;
        Report { result: i64::from(outcome as u32 as i32), status: outcome >> 32, words }
    }

    /// Order and report of a primitive that does not block.
    pub fn execute(
        &mut self,
        agent: &Agent,
        call: Call,
        to: Endpoint,
        from: Endpoint,
        words: &[u64],
    ) -> Report {
        self.settle();
        self.order(agent, call, to, from, words);
        self.report(agent)
    }

    /// A kernel call by an agent.
    pub fn call(&mut self, agent: &Agent, number: u16, words: &[u64]) -> Report {
        self.settle();
        self.start_call(agent, number, words);
        self.report(agent)
    }

    /// The same without waiting for its end.
    pub fn start_call(&mut self, agent: &Agent, number: u16, words: &[u64]) {
        let mut all = [0; 6];
        all[0] = head(number);
        all[1..1 + words.len()].copy_from_slice(words);
        self.order(agent, Call::Kernel, Endpoint::NONE, Endpoint::NONE, &all);
    }

    /// Waits until nobody but the idler can run.
    pub fn settle(&mut self) {
        let Some(idler) = self.idler else { return };
        let mut order = Message::bare(agent::TOUCH);
        order.payload[0] = ARENA;
        // The idler may still be on its way back from the last order: SEND waits for it, and it waits for
        // nobody but VM.
        primitive(Call::Send, idler.endpoint, Endpoint::NONE, &mut order);
        self.report(&idler);
    }

    /// Run-time flags and wait target of a process.
    pub fn state(&mut self, agent: &Agent) -> (u32, Endpoint) {
        let mut info = ProcInfo::new_zeroed();
        info.slot = agent.endpoint.slot();
        let (result, message) = kernel_call(kcall::PROC_INFO, &info);
        assert_eq!(result, 0, "PROC_INFO");
        let info: ProcInfo = message.get();
        (info.flags, Endpoint::from_raw(info.waits_for))
    }

    /// The next suspended kernel call.
    pub fn memory_request(&mut self) -> Option<VmCtl> {
        let mut request = VmCtl::new_zeroed();
        request.operation = vmctl::MEMREQ_GET;
        let (result, message) = kernel_call(kcall::VMCTL, &request);
        (result == 0).then(|| message.get())
    }

    /// Answers it.
    pub fn answer_memory_request(&mut self, request: &VmCtl, value: i64) -> i64 {
        let reply = VmCtl { operation: vmctl::MEMREQ_REPLY, value, ..*request };
        kernel_call(kcall::VMCTL, &reply).0
    }
}
