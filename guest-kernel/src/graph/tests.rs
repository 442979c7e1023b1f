use std::collections::BTreeMap;

use refault_abi::kcall::{ProcCreate, WaitTable, privilege};

use super::*;

const ASYNC: u64 = 0x2000;
const WAITS: u64 = 0x4000;

/// Tables of waits and asynchronous sends, by address space.
#[derive(Default)]
struct Fake {
    waits: BTreeMap<(u64, u64), Wait>,
    sends: BTreeMap<(u64, u64), AsyncEntry>,
    absent: bool,
}

impl Declarations for Fake {
    fn wait(&mut self, root: u64, address: u64) -> Option<Wait> {
        const FREE: Wait =
            Wait { serial: 0, subject: 0, target: 0, target_subject: 0, reserved: 0, reason: [0; 40] };
        (!self.absent).then(|| self.waits.get(&(root, address)).copied().unwrap_or(FREE))
    }

    fn asynchronous(&mut self, root: u64, address: u64) -> Option<AsyncEntry> {
        (!self.absent).then(|| self.sends.get(&(root, address)).copied().unwrap_or_default())
    }
}

struct System {
    table: Table,
    memory: Fake,
    serial: u64,
}

const APP: usize = 12;
const VFS: usize = 1;
const VM: usize = 8;
const MFS: usize = 10;
const PM: usize = 0;

impl System {
    /// Everybody waits for anything.
    fn new() -> System {
        let mut table = Table::EMPTY;
        for (slot, name) in [(PM, "pm"), (VFS, "vfs"), (VM, "vm"), (MFS, "mfs"), (APP, "softread")] {
            let mut request = ProcCreate {
                slot: slot as i32,
                endpoint: 0,
                privilege: privilege::SERVER,
                priority: 5,
                name: [0; 16],
            };
            request.name[..name.len()].copy_from_slice(name.as_bytes());
            assert_eq!(table.create(&request), Ok(slot));
            let process = &mut table.procs[slot];
            process.root = slot as u64 * 0x1000;
            process.flags = rts::RECEIVING;
            process.receive_from = Endpoint::ANY;
            process.waits = WaitTable { address: WAITS, entries: 4 };
        }
        System { table, memory: Fake::default(), serial: 0 }
    }

    fn endpoint(&self, slot: usize) -> Endpoint {
        self.table.procs[slot].endpoint
    }

    fn asks(&mut self, slot: usize, of: usize) {
        let target = self.endpoint(of);
        let process = &mut self.table.procs[slot];
        (process.flags, process.receive_from, process.reply_pending) = (rts::RECEIVING, target, true);
    }

    fn suspended(&mut self, slot: usize, target: usize, address: u64) {
        let target = self.endpoint(target);
        let process = &mut self.table.procs[slot];
        process.flags = rts::VMREQUEST;
        (process.vm.target, process.vm.address) = (target, address);
    }

    fn declares(&mut self, slot: usize, entry: u64, subject: Endpoint, to: (usize, Endpoint), why: &str) {
        self.serial += 1;
        let mut reason = [0; 40];
        reason[..why.len()].copy_from_slice(why.as_bytes());
        let target = self.endpoint(to.0).raw();
        let wait = Wait {
            serial: self.serial,
            subject: subject.raw(),
            target,
            target_subject: to.1.raw(),
            reserved: 0,
            reason,
        };
        self.memory.waits.insert((slot as u64 * 0x1000, WAITS + entry * 64), wait);
    }

    fn graph(&mut self) -> Graph {
        let mut graph = Graph::EMPTY;
        graph.build(&self.table, &mut self.memory);
        graph
    }

    fn text(&mut self) -> String {
        let graph = self.graph();
        let circle = graph.circle();
        graph.text(&self.table, circle.as_ref()).to_string()
    }

    /// The deadlock CPF_TRY exists to prevent (specification 6.1).
    fn classic() -> System {
        let mut system = System::new();
        let (app, mfs) = (system.endpoint(APP), system.endpoint(MFS));
        system.asks(APP, VFS);
        system.declares(VFS, 0, app, (MFS, Endpoint::NONE), "READ");
        system.suspended(MFS, APP, 0x1234_5000);
        system.declares(VM, 0, mfs, (VFS, Endpoint::SELF), "page-in");
        system.declares(VFS, 3, Endpoint::VM, (MFS, Endpoint::NONE), "PEEK");
        system
    }
}

#[test]
fn the_deadlock_of_the_unflagged_copy() {
    let expected = "wait-for: vfs -> mfs (READ, for softread)\n\
                    wait-for: vfs -> mfs (PEEK, for vm)\n\
                    wait-for: vm -> vfs (page-in, for mfs)\n\
                    wait-for: mfs -> vm (copy suspended: page 0x12345000 of softread)\n\
                    wait-for: softread -> vfs (for the answer)\n\
                    circle: mfs -> vm -> vfs -> mfs\n";
    assert_eq!(System::classic().text(), expected);
}

#[test]
fn without_any_one_edge_there_is_no_circle() {
    let break_it: [fn(&mut System); 4] = [
        |system| system.table.procs[MFS].flags = 0,
        |system| system.memory.waits.retain(|_, wait| wait.target != Endpoint::VFS.raw()),
        |system| system.memory.waits.retain(|_, wait| wait.subject != Endpoint::VM.raw()),
        |system| system.memory.absent = true,
    ];
    for change in break_it {
        let mut system = System::classic();
        change(&mut system);
        assert!(system.graph().circle().is_none(), "{}", system.text());
    }
}

#[test]
fn a_server_that_just_answers_a_heartbeat_still_waits() {
    let mut system = System::classic();
    system.table.procs[VM].flags = 0;
    assert!(system.graph().circle().is_some(), "{}", system.text());
}

#[test]
fn a_page_in_that_goes_on_is_no_circle() {
    // HANDLEMEM of the reader's buffer, whose page VM has asked VFS for, and VFS the file system, which works.
    let mut system = System::new();
    let app = system.endpoint(APP);
    system.asks(APP, VFS);
    system.declares(VFS, 0, app, (VM, Endpoint::NONE), "HANDLEMEM");
    system.declares(VM, 0, app, (VFS, Endpoint::SELF), "page-in");
    system.declares(VFS, 1, Endpoint::VM, (MFS, Endpoint::NONE), "PEEK");
    assert_eq!(system.graph().edges().len(), 4);
    assert!(system.graph().circle().is_none());
}

#[test]
fn locks_are_edges_inside_a_server() {
    // H4: the page-in needs the open file that its requester's request holds.
    let mut system = System::new();
    let app = system.endpoint(APP);
    system.asks(APP, VFS);
    system.declares(VFS, 0, app, (VM, Endpoint::NONE), "HANDLEMEM");
    system.declares(VM, 0, app, (VFS, Endpoint::SELF), "page-in");
    system.declares(VFS, 1, Endpoint::VM, (VFS, app), "open-file lock");
    let text = system.text();
    assert!(text.contains("wait-for: vfs -> vfs (open-file lock, for vm, held for softread)\n"), "{text}");
    assert!(text.ends_with("circle: vfs -> vm -> vfs -> vfs\n"), "{text}");
}

#[test]
fn a_blocked_server_holds_up_everybody_it_serves() {
    // H8: PM's copy waits for VM, VM for VFS, and VFS is blocked sending to PM.
    let mut system = System::new();
    let pm = system.endpoint(PM);
    system.suspended(PM, APP, 0x7000);
    system.declares(VM, 0, pm, (VFS, Endpoint::SELF), "page-in");
    system.table.procs[VFS].flags = rts::SENDING;
    system.table.procs[VFS].send_to = pm;
    system.table.procs[VFS].sending_call = Call::Send as u8;
    let text = system.text();
    assert!(text.contains("wait-for: vfs -> pm (its message is not received)\n"), "{text}");
    assert!(text.ends_with("circle: pm -> vm -> vfs -> pm\n"), "{text}");
}

#[test]
fn fingerprints_tell_the_same_circle_from_one_like_it() {
    let of = |system: &mut System| {
        let graph = system.graph();
        graph.fingerprint(&graph.circle().unwrap())
    };
    let (mut one, mut two) = (System::classic(), System::classic());
    assert_eq!(of(&mut one), of(&mut two));
    two.declares(VFS, 3, Endpoint::VM, (MFS, Endpoint::NONE), "PEEK");
    assert_ne!(of(&mut one), of(&mut two));
    // Somebody who waits elsewhere changes nothing.
    one.table.procs[APP].flags = rts::PAGEFAULT;
    assert_eq!(of(&mut one), of(&mut System::classic()));
}

#[test]
fn page_faults_and_messages_on_their_way() {
    let mut system = System::new();
    system.table.procs[APP].flags = rts::PAGEFAULT;
    system.table.procs[APP].vm.address = 0xabc;
    let process = &mut system.table.procs[VFS];
    (process.async_address, process.async_length) = (ASYNC, 2);
    let entry = AsyncEntry { flags: senda::VALID, destination: Endpoint::MFS.raw(), ..AsyncEntry::default() };
    system.memory.sends.insert((VFS as u64 * 0x1000, ASYNC + 80), entry);
    let text = system.text();
    assert_eq!(
        text,
        "wait-for: vfs -> mfs (its asynchronous message is not received)\n\
         wait-for: softread -> vm (page fault at 0xabc)\n"
    );
}

#[test]
fn the_dead_and_the_impossible_are_no_edges() {
    let mut system = System::new();
    system.declares(VFS, 0, Endpoint::new(7, 12), (MFS, Endpoint::NONE), "for nobody");
    system.declares(VFS, 1, Endpoint::SELF, (MFS, Endpoint::new(3, 3)), "of nobody");
    system.asks(APP, VFS);
    system.table.procs[APP].receive_from = Endpoint::new(9, 1);
    assert_eq!(system.graph().edges(), []);
}

#[test]
fn more_edges_than_there_is_room_for() {
    let mut system = System::new();
    for slot in [PM, VFS, VM] {
        system.table.procs[slot].waits = WaitTable { address: WAITS, entries: 64 };
        for entry in 0..64 {
            system.declares(slot, entry, Endpoint::SELF, (MFS, Endpoint::NONE), "x");
        }
    }
    let graph = system.graph();
    assert_eq!((graph.edges().len(), graph.dropped), (EDGES, 3 * 64 - EDGES));
    assert!(graph.circle().is_none());
    assert!(system.text().ends_with("wait-for: and 64 more\n"));
}
