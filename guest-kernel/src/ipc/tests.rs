//! Message passing, case by case; against a model in `model`.

mod model;

use std::collections::BTreeMap;

use refault_abi::ipc::{AsyncEntry, Call, Delivery, NOTIFY_TYPE, peers, senda};
use refault_abi::kcall::{ProcCreate, privilege, rts};
use refault_abi::{Endpoint, Errno, Message};
use zerocopy::FromZeros;

use super::Machine;
use crate::frame::{Frame, head};
use crate::process::{FROM_CLOCK, FROM_HARDWARE};
use crate::table::Table;

/// A machine whose memory is a map from (address space, address) to asynchronous entries.
#[derive(Default)]
struct Fake {
    entries: BTreeMap<(u64, u64), AsyncEntry>,
    delivered: u64,
    tables: Vec<(u64, u64, u64)>,
}

impl Machine for Fake {
    fn now(&mut self) -> u64 {
        77
    }
    fn read_async(&mut self, root: u64, address: u64) -> Option<AsyncEntry> {
        self.entries.get(&(root, address)).copied()
    }
    fn finish_async(&mut self, root: u64, address: u64, flags: u32, result: i32) {
        if let Some(entry) = self.entries.get_mut(&(root, address)) {
            (entry.flags, entry.result) = (flags, result);
        }
    }
    fn count_notification(&mut self) {}

    fn message_table(&mut self, root: u64, address: u64, bytes: u64) {
        self.tables.push((root, address, bytes));
    }

    fn count_message(&mut self) {
        self.delivered += 1;
    }
}

const FIRST: usize = Endpoint::FIRST_DYNAMIC_SLOT;

fn table(processes: usize) -> Box<Table> {
    let mut table = Box::new(Table::EMPTY);
    for number in 0..processes {
        let mut request = ProcCreate::new_zeroed();
        (request.slot, request.privilege, request.priority) = (-1, privilege::TEST, 5);
        let slot = table.create(&request).unwrap();
        table.start(slot, Frame::EMPTY, slot as u64);
        assert_eq!(slot, FIRST + number);
    }
    // Everybody counts as running somewhere: scheduling is not what is tested here.
    while table.schedule(None, false).is_some() {}
    table
}

fn endpoint(table: &Table, number: usize) -> Endpoint {
    table.procs[FIRST + number].endpoint
}

fn run(
    table: &mut Table,
    fake: &mut Fake,
    who: usize,
    call: Call,
    to: Endpoint,
    from: Endpoint,
    (kind, word): (u32, u64),
) {
    let frame = &mut table.procs[FIRST + who].frame;
    frame.message = [head(Endpoint::from_raw(0x55), kind), word, 0, 0, 0, 0, 0, 0];
    frame.rax = call as u64;
    frame.rdi = peers(to, from);
    table.primitive(fake, FIRST + who, call);
    while table.schedule(None, false).is_some() {}
}

fn result(table: &Table, who: usize) -> i64 {
    table.procs[FIRST + who].frame.rax.cast_signed()
}

fn code(error: Errno) -> i64 {
    i64::from(error.code())
}

#[test]
fn message_arrives_whole_and_signed() {
    let mut table = table(2);
    let mut fake = Fake::default();
    let (a, b) = (endpoint(&table, 0), endpoint(&table, 1));
    run(&mut table, &mut fake, 1, Call::Receive, Endpoint::NONE, a, (0, 0));
    table.procs[FIRST].frame.message = [0xffff_ffff_ffff_ffff, 1, 2, 3, 4, 5, 6, 7];
    table.procs[FIRST].frame.rdi = peers(b, b);
    table.primitive(&mut fake, FIRST, Call::SendRec);
    let got = table.procs[FIRST + 1].frame;
    assert_eq!(got.message, [head(a, 0xffff_ffff), 1, 2, 3, 4, 5, 6, 7], "the source cannot be forged");
    assert_eq!((got.rax, Delivery(got.rdi).call()), (0, Call::SendRec as u64));
    assert_eq!(fake.delivered, 1);
}

#[test]
fn refusals() {
    let cases: &[(Call, Endpoint, Endpoint, Errno)] = &[
        (Call::Send, Endpoint::ANY, Endpoint::NONE, Errno::EINVAL),
        (Call::Send, Endpoint::NONE, Endpoint::NONE, Errno::EDEADSRCDST),
        (Call::Send, Endpoint::SELF, Endpoint::NONE, Errno::EDEADSRCDST),
        (Call::Send, Endpoint::new(1, FIRST as i32 + 1), Endpoint::NONE, Errno::EDEADSRCDST),
        (Call::Send, Endpoint::CLOCK, Endpoint::NONE, Errno::EDEADSRCDST),
        (Call::Send, Endpoint::from_raw(i32::MIN), Endpoint::NONE, Errno::EDEADSRCDST),
        (Call::Send, Endpoint::new(0, FIRST as i32), Endpoint::NONE, Errno::ELOCKED),
        (Call::SendRec, Endpoint::new(0, FIRST as i32), Endpoint::NONE, Errno::ELOCKED),
        (Call::Receive, Endpoint::NONE, Endpoint::NONE, Errno::EDEADSRCDST),
        (Call::Receive, Endpoint::NONE, Endpoint::new(0, 63), Errno::EDEADSRCDST),
        (Call::Receive, Endpoint::NONE, Endpoint::new(0, FIRST as i32), Errno::ELOCKED),
        (Call::ReceiveNb, Endpoint::NONE, Endpoint::ANY, Errno::ENOTREADY),
        (Call::SendNb, Endpoint::new(0, FIRST as i32 + 1), Endpoint::NONE, Errno::ENOTREADY),
        (Call::Notify, Endpoint::new(0, 63), Endpoint::NONE, Errno::EDEADSRCDST),
    ];
    for (call, to, from, error) in cases {
        let mut table = table(2);
        run(&mut table, &mut Fake::default(), 0, *call, *to, *from, (1, 1));
        assert_eq!(result(&table, 0), code(*error), "{call:?} to {to:?} from {from:?}");
        assert_eq!(table.procs[FIRST].flags, 0);
    }
}

#[test]
fn masks() {
    let mut table = table(2);
    let b = endpoint(&table, 1);
    table.procs[FIRST].trap_mask = Call::SendRec.mask();
    run(&mut table, &mut Fake::default(), 0, Call::Notify, b, Endpoint::NONE, (1, 1));
    assert_eq!(result(&table, 0), code(Errno::ETRAPDENIED));
    table.procs[FIRST].send_mask = 1;
    run(&mut table, &mut Fake::default(), 0, Call::SendRec, b, b, (1, 1));
    assert_eq!(result(&table, 0), code(Errno::ECALLDENIED));
}

#[test]
fn kernel_notifications_come_first_and_carry_signals() {
    let mut table = table(2);
    let mut fake = Fake::default();
    let b = endpoint(&table, 1);
    run(&mut table, &mut fake, 0, Call::Notify, b, Endpoint::NONE, (0, 0));
    table.procs[FIRST + 1].signals = 0x20;
    table.notify_from_kernel(FIRST + 1, FROM_CLOCK);
    table.notify_from_kernel(FIRST + 1, FROM_HARDWARE);
    let mut sources = Vec::new();
    for _ in 0..3 {
        run(&mut table, &mut fake, 1, Call::Receive, Endpoint::NONE, Endpoint::ANY, (0, 0));
        let frame = table.procs[FIRST + 1].frame;
        sources.push((Endpoint::from_raw(frame.message[0] as u32 as i32), frame.message[2], frame.rdi >> 8));
    }
    let a = endpoint(&table, 0);
    assert_eq!(sources, [(Endpoint::HARDWARE, 0x20, 1), (Endpoint::CLOCK, 0, 1), (a, 0, 0)]);
    // To a receiver they are delivered at once, but not as an answer.
    run(&mut table, &mut fake, 1, Call::Receive, Endpoint::NONE, Endpoint::HARDWARE, (0, 0));
    table.notify_from_kernel(FIRST + 1, FROM_CLOCK);
    assert_eq!(table.procs[FIRST + 1].flags, rts::RECEIVING);
    table.notify_from_kernel(FIRST + 1, FROM_HARDWARE);
    assert_eq!(table.procs[FIRST + 1].flags, 0);
}

#[test]
fn death_wakes_everybody_who_waits() {
    let mut table = table(4);
    let mut fake = Fake::default();
    let victim = endpoint(&table, 0);
    run(&mut table, &mut fake, 1, Call::SendRec, victim, victim, (1, 1));
    run(&mut table, &mut fake, 2, Call::Send, victim, Endpoint::NONE, (1, 1));
    run(&mut table, &mut fake, 3, Call::Receive, Endpoint::NONE, victim, (1, 1));
    table.exit(FIRST);
    for who in 1..4 {
        assert_eq!((table.procs[FIRST + who].flags, result(&table, who)), (0, code(Errno::EDEADSRCDST)));
        assert_eq!(table.procs[FIRST + who].queue_next, crate::process::NIL);
    }
    assert_eq!(table.lookup(victim), None);
    let mut request = ProcCreate::new_zeroed();
    request.slot = -1;
    let slot = table.create(&request).unwrap();
    assert_eq!((slot, table.procs[slot].endpoint), (FIRST, victim.next_generation()));
}

#[test]
fn a_message_in_somebody_elses_name() {
    let mut table = table(3);
    let mut fake = Fake::default();
    let (victim, server) = (endpoint(&table, 0), endpoint(&table, 1));
    table.procs[FIRST].frame.message = [9; 8];
    table.procs[FIRST].frame.rax = 99;
    table.procs[FIRST].flags = rts::PAGEFAULT;
    table.send_for(&mut fake, FIRST, server, 0xcff, [1, 2, 3, 4, 5, 6, 7]).unwrap();
    assert_eq!(table.procs[FIRST].flags, rts::PAGEFAULT | rts::SENDING);
    run(&mut table, &mut fake, 1, Call::Receive, Endpoint::NONE, Endpoint::ANY, (0, 0));
    let got = table.procs[FIRST + 1].frame;
    assert_eq!(got.message, [head(victim, 0xcff), 1, 2, 3, 4, 5, 6, 7]);
    assert!(Delivery(got.rdi).from_kernel());
    table.unblock(FIRST, rts::PAGEFAULT);
    let process = &table.procs[FIRST];
    assert_eq!(
        (process.flags, process.frame.rax, process.frame.message),
        (0, 99, [9; 8]),
        "registers untouched"
    );
}

fn entry(flags: u32, to: Endpoint, kind: u16) -> AsyncEntry {
    AsyncEntry { flags, destination: to.raw(), result: 0, reserved: 0, message: Message::bare(kind) }
}

fn register(table: &mut Table, fake: &mut Fake, who: usize, entries: &[AsyncEntry]) {
    const PLACE: u64 = 0x1000;
    let root = table.procs[FIRST + who].root;
    for (index, entry) in entries.iter().enumerate() {
        fake.entries.insert((root, PLACE + index as u64 * 80), *entry);
    }
    table.procs[FIRST + who].frame.message = [PLACE, entries.len() as u64, 0, 0, 0, 0, 0, 0];
    table.primitive(fake, FIRST + who, Call::SendA);
    while table.schedule(None, false).is_some() {}
}

#[test]
fn asynchronous_entries_keep_order_and_wait_for_receivers() {
    let mut table = table(2);
    let mut fake = Fake::default();
    let b = endpoint(&table, 1);
    register(
        &mut table,
        &mut fake,
        0,
        &[entry(senda::VALID, b, 1), entry(0, b, 9), entry(senda::VALID, b, 2)],
    );
    assert_eq!(result(&table, 0), 0);
    for kind in [1, 2] {
        run(&mut table, &mut fake, 1, Call::ReceiveNb, Endpoint::NONE, Endpoint::ANY, (0, 0));
        let frame = table.procs[FIRST + 1].frame;
        assert_eq!((frame.rax, frame.message[0] >> 32, frame.rdi), (0, kind, Call::SendA as u64));
    }
    run(&mut table, &mut fake, 1, Call::ReceiveNb, Endpoint::NONE, Endpoint::ANY, (0, 0));
    assert_eq!(result(&table, 1), code(Errno::ENOTREADY));
    assert_eq!(table.procs[FIRST + 1].async_pending, 0, "the bit goes when there is nothing left");
    let flags: Vec<u32> = fake.entries.values().map(|entry| entry.flags).collect();
    assert_eq!(flags, [senda::VALID | senda::DONE, 0, senda::VALID | senda::DONE]);
    // A table is named when it is registered where none was, and not at each use.
    let named = fake.tables.clone();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].2, 3 * size_of::<AsyncEntry>() as u64);
    register(&mut table, &mut fake, 0, &[entry(0, b, 9)]);
    assert_eq!(fake.tables, named);
}

#[test]
fn noreply_is_no_answer_but_others_are() {
    let mut table = table(2);
    let mut fake = Fake::default();
    let (a, b) = (endpoint(&table, 0), endpoint(&table, 1));
    // Waiting before the SENDREC blocks, and after.
    for before in [true, false] {
        let mut fake = Fake::default();
        let mut table = self::table(2);
        let only = [entry(senda::VALID | senda::NOREPLY, b, 1)];
        if before {
            register(&mut table, &mut fake, 0, &only);
        }
        run(&mut table, &mut fake, 0, Call::Receive, Endpoint::NONE, Endpoint::ANY, (0, 0));
        run(&mut table, &mut fake, 1, Call::SendRec, a, a, (5, 5));
        assert_eq!(result(&table, 0), 0);
        if !before {
            register(&mut table, &mut fake, 0, &only);
        }
        assert_eq!(table.procs[FIRST + 1].flags, rts::RECEIVING, "before: {before}");
        let both = [only[0], entry(senda::VALID, b, 2)];
        register(&mut table, &mut fake, 0, &both);
        let frame = table.procs[FIRST + 1].frame;
        assert_eq!((table.procs[FIRST + 1].flags, frame.message[0] >> 32), (0, 2));
    }
    // An entry that waits already answers the SENDREC at once.
    register(&mut table, &mut fake, 0, &[entry(senda::VALID, b, 7)]);
    run(&mut table, &mut fake, 0, Call::Receive, Endpoint::NONE, Endpoint::ANY, (0, 0));
    run(&mut table, &mut fake, 1, Call::SendRec, a, a, (5, 5));
    assert_eq!((table.procs[FIRST + 1].flags, table.procs[FIRST + 1].frame.message[0] >> 32), (0, 7));
}

#[test]
fn an_entry_reaches_a_sender_that_becomes_a_receiver() {
    let mut table = table(2);
    let mut fake = Fake::default();
    let (a, b) = (endpoint(&table, 0), endpoint(&table, 1));
    run(&mut table, &mut fake, 1, Call::SendRec, a, a, (5, 5));
    assert_eq!(table.procs[FIRST + 1].flags, rts::SENDING | rts::RECEIVING);
    register(&mut table, &mut fake, 0, &[entry(senda::VALID, b, 8)]);
    assert_eq!(table.procs[FIRST + 1].flags, rts::SENDING | rts::RECEIVING, "not while it is still sending");
    run(&mut table, &mut fake, 0, Call::Receive, Endpoint::NONE, Endpoint::ANY, (0, 0));
    assert_eq!((table.procs[FIRST + 1].flags, table.procs[FIRST + 1].frame.message[0] >> 32), (0, 8));
}

#[test]
fn hostile_tables() {
    let mut table = table(2);
    let mut fake = Fake::default();
    let cases = [
        (0x1000, 1u64 << 40, Errno::EINVAL),
        (0x1004, 1, Errno::EINVAL),
        (u64::MAX - 7, 2, Errno::EFAULT),
        (refault_abi::layout::USER_END - 72, 1, Errno::EFAULT),
        (0x5000, 1, Errno::EFAULT),
    ];
    for (address, length, error) in cases {
        table.procs[FIRST].frame.message = [address, length, 0, 0, 0, 0, 0, 0];
        table.primitive(&mut fake, FIRST, Call::SendA);
        assert_eq!(result(&table, 0), code(error), "{address:#x} {length}");
    }
    // A table that vanishes after it was registered: the receiver just finds nothing.
    let b = endpoint(&table, 1);
    register(&mut table, &mut fake, 0, &[entry(senda::VALID, b, 1)]);
    fake.entries.clear();
    run(&mut table, &mut fake, 1, Call::ReceiveNb, Endpoint::NONE, Endpoint::ANY, (0, 0));
    assert_eq!(result(&table, 1), code(Errno::ENOTREADY));
}
