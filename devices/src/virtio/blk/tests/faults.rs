//! Faults of a plan: each request is answered exactly once, the disk holds what the fault says, and what was decided has happened.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;

use super::counters::InjectedFaults;

use super::*;
use crate::sync::lock;
use crate::virtio::blk::faults::RequestSeen;

/// Faults in the order of requests, and the requests it was asked about.
#[derive(Clone, Default)]
struct Script {
    faults: Arc<Mutex<VecDeque<Option<DiskFault>>>>,
    seen: Arc<Mutex<Vec<RequestSeen>>>,
}

impl FaultPlan for Script {
    fn decide(&mut self, request: &RequestSeen) -> Option<DiskFault> {
        lock(&self.seen).push(*request);
        lock(&self.faults).pop_front().flatten()
    }
}

impl Script {
    fn install(rig: &Rig, faults: impl IntoIterator<Item = Option<DiskFault>>) -> Self {
        let script = Self { faults: Mutex::new(faults.into_iter().collect()).into(), ..Self::default() };
        rig.set_plan(Some(Box::new(script.clone())));
        script
    }
}

impl Rig {
    fn set_plan(&self, plan: Option<Box<dyn FaultPlan>>) {
        self.mmio.drive(|disk| {
            disk.set_plan(plan);
            Work::default()
        });
    }

    fn injected(&self) -> InjectedFaults {
        self.counts().injected
    }

    /// Offers request number `slot` of a batch: header, status and four sectors of data of its own.
    fn offer_slot(&mut self, slot: u64, kind: u32, sector: u64, len: u32) -> u16 {
        self.put_header(HEADER + slot * 16, kind, sector);
        self.poke(STATUS + slot, 0xeeu8);
        let direction = if kind == OUT { 0 } else { WRITE };
        let mut pieces = vec![
            (HEADER + slot * 16, 16, 0),
            (DATA + slot * 2048, len, direction),
            (STATUS + slot, 1, WRITE),
        ];
        if kind == FLUSH {
            pieces.remove(1);
        }
        let head = self.chain(&pieces);
        self.offer(head);
        head
    }

    fn status_of(&self, slot: u64) -> u8 {
        self.peek(STATUS + slot)
    }
}

fn ms(ms: u64) -> Option<DiskFault> {
    Some(DiskFault::Delay(Duration::from_millis(ms)))
}

#[test]
fn a_plan_sees_each_request_from_one_on_and_can_be_changed() {
    let mut rig = Rig::new(On::Memory);
    rig.assert_alive();
    let script = Script::install(&rig, [None, Some(DiskFault::Error)]);
    assert_eq!(rig.request(OUT, 5, DATA, 1024), (STATUS_OK, 1));
    assert_eq!(rig.request(FLUSH, 0, 0, 0), (STATUS_IOERR, 1));
    // Not understood, not a request of the disk's contents.
    assert_eq!(rig.request(IN, SECTORS, DATA, 512), (STATUS_IOERR, 1));
    assert_eq!(rig.request(GET_ID, 0, DATA, 20), (STATUS_OK, 21));
    assert_eq!(rig.request(IN, 3, DATA, 512), (STATUS_OK, 513));
    let seen = |op, offset, bytes, number| RequestSeen { op, offset, bytes, number };
    let write = Op::Write { durable: false };
    let want = [seen(write, 2560, 1024, 1), seen(Op::Flush, 0, 0, 2), seen(Op::Read, 1536, 512, 3)];
    assert_eq!(*lock(&script.seen), want);
    assert_eq!(rig.injected(), InjectedFaults { failed: 1, ..Default::default() });

    let second = Script::install(&rig, []);
    rig.assert_alive();
    assert_eq!(lock(&second.seen).iter().map(|r| r.number).collect::<Vec<_>>(), [1]);
    rig.set_plan(None);
    rig.assert_alive();
    assert_eq!((lock(&script.seen).len(), lock(&second.seen).len()), (3, 1));
}

#[test]
fn torn_and_short_carry_what_they_say() {
    for engine in engines() {
        for sectors in 0..5 {
            for short in [false, true] {
                let mut rig = Rig::new(engine);
                let fault = if short { DiskFault::Short { sectors } } else { DiskFault::Torn { sectors } };
                let (status, extra) = if short { (STATUS_IOERR, 0) } else { (STATUS_OK, 1536) };
                let carried = (sectors * 512).min(1536) as usize;
                Script::install(&rig, [Some(fault), Some(fault)]);
                rig.ram.write_slice(&[0xa5; 2048], GuestAddress(DATA)).unwrap();

                assert_eq!(rig.request(OUT, 4, DATA, 1536), (status, 1), "{engine} {fault:?}");
                let mut want: Vec<u8> = (0..(SECTORS * SECTOR) as usize).map(pattern).collect();
                want[4 * 512..4 * 512 + carried].fill(0xa5);
                assert_eq!(rig.on_disk(), want, "{engine} {fault:?}");

                rig.ram.write_slice(&[0x5a; 2048], GuestAddress(DATA)).unwrap();
                assert_eq!(rig.request(IN, 20, DATA, 1536), (status, 1 + extra), "{engine} {fault:?}");
                let mut buffer = vec![0x5a; 2048];
                buffer[..carried].copy_from_slice(&want[20 * 512..20 * 512 + carried]);
                assert_eq!(rig.bytes(DATA, 2048), buffer, "{engine} {fault:?}");

                let counts = rig.counts();
                let (torn, short) = if short { (0, 2) } else { (2, 0) };
                assert_eq!(counts.injected, InjectedFaults { torn, short, ..Default::default() });
                assert_eq!((counts.errors, counts.completed()), (short, 2));
                rig.assert_alive();
            }
        }
    }
}

#[test]
fn a_late_answer_comes_after_others_and_holds_nobody_up() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        Script::install(&rig, [ms(120), ms(40), None, ms(0)]);
        let begun = Instant::now();
        let heads: Vec<u32> = (0..4).map(|slot| rig.offer_slot(slot, IN, slot, 512).into()).collect();
        rig.notify();
        let quick: Vec<u32> = rig.collect(2).into_iter().map(|used| used.0).collect();
        assert!(quick.contains(&heads[2]) && quick.contains(&heads[3]), "{engine} {quick:?}");
        assert_eq!(rig.mmio.inspect(Block::unanswered), 2);
        assert_eq!([rig.status_of(0), rig.status_of(1)], [0xee; 2]);
        // The data is there: only the answer is late.
        assert_eq!(rig.collect(1), [(heads[1], 513)]);
        assert!(begun.elapsed() >= Duration::from_millis(40));
        assert_eq!(rig.collect(1), [(heads[0], 513)]);
        assert!(begun.elapsed() >= Duration::from_millis(120));
        assert_eq!(rig.injected(), InjectedFaults { delayed: 3, ..Default::default() });
        // The timer does not go on waking the loop.
        assert_eq!(rig.manager.run_with_timeout(20).unwrap(), 0);
        assert!(rig.mmio.inspect(Block::at_rest));
    }
}

#[test]
fn saving_gives_late_answers_at_once_and_putting_back_drops_them() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        Script::install(&rig, [ms(3_600_000), Some(DiskFault::Delay(Duration::MAX))]);
        rig.offer_slot(0, IN, 0, 512);
        rig.offer_slot(1, OUT, 9, 512);
        rig.notify();
        rig.settle();
        let moment = rig.mmio.save();
        assert_eq!(rig.collect(2).len(), 2);
        assert_eq!([rig.status_of(0), rig.status_of(1)], [STATUS_OK; 2]);
        let ram = rig.bytes(0, RAM_END as usize);

        Script::install(&rig, [ms(5), ms(5), Some(DiskFault::Error)]);
        rig.next_descriptor = 0;
        rig.offer_slot(2, IN, 0, 512);
        rig.offer_slot(3, IN, 0, 512);
        rig.notify();
        rig.run_until("both to be carried out", |rig| rig.status_of(2) == 0xee && rig.counts().kicks > 1);
        rig.mmio.park();
        rig.ram.write_slice(&ram, GuestAddress(0)).unwrap();
        rig.mmio.restore(&moment).unwrap();
        rig.offered -= 2;
        std::thread::sleep(Duration::from_millis(10));
        rig.settle();
        assert_eq!(rig.bytes(0, RAM_END as usize), ram, "{engine}");
        let want = InjectedFaults { delayed: 2, dropped: 2, ..Default::default() };
        assert_eq!(rig.injected(), want);
        rig.next_descriptor = 0;
        assert_eq!(rig.request(IN, 0, DATA, 512), (STATUS_IOERR, 1));
        rig.assert_alive();
    }
}

#[test]
fn a_reset_drops_late_answers() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        Script::install(&rig, [ms(5)]);
        rig.offer_slot(0, IN, 0, 512);
        rig.notify();
        rig.settle();
        rig.bring_up(ALL_FEATURES);
        std::thread::sleep(Duration::from_millis(10));
        rig.settle();
        assert_eq!((rig.used_index(), rig.injected().dropped + rig.injected().delayed), (0, 1), "{engine}");
        rig.assert_alive();
    }
}

fn fault() -> impl Strategy<Value = Option<DiskFault>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(DiskFault::Error)),
        1 => (0..4u64).prop_map(ms),
        1 => (0..6u64).prop_map(|sectors| Some(DiskFault::Torn { sectors })),
        1 => (0..6u64).prop_map(|sectors| Some(DiskFault::Short { sectors })),
    ]
}

fn kind() -> impl Strategy<Value = u32> {
    prop_oneof![Just(IN), Just(OUT), Just(FLUSH)]
}

/// How many faults of each kind are in a plan.
fn planned<'a>(faults: impl Iterator<Item = &'a DiskFault>) -> InjectedFaults {
    let mut sum = InjectedFaults::default();
    for fault in faults {
        match fault {
            DiskFault::Error => sum.failed += 1,
            DiskFault::Delay(_) => sum.delayed += 1,
            DiskFault::Torn { .. } => sum.torn += 1,
            DiskFault::Short { .. } => sum.short += 1,
        }
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Batches of requests, each with sectors and memory of its own, so that their order says nothing about what is right.
    #[test]
    fn every_request_is_answered_once_as_its_fault_says(
        batches in prop::collection::vec(prop::collection::vec((kind(), 0..4u32, fault()), 1..5), 1..6),
        which in 0..3usize,
    ) {
        let engines = engines();
        let mut rig = Rig::new(engines[which % engines.len()]);
        let faults: Vec<_> = batches.iter().flatten().map(|(_, _, fault)| *fault).collect();
        Script::install(&rig, faults.clone());
        let mut disk = rig.on_disk();
        for (round, batch) in batches.iter().enumerate() {
            rig.next_descriptor = 0;
            let mut heads = Vec::new();
            let fill = round as u8 + 1;
            for (slot, (kind, sectors, _)) in (0..).zip(batch) {
                rig.ram.write_slice(&[fill; 2048], GuestAddress(DATA + slot * 2048)).unwrap();
                heads.push(u32::from(rig.offer_slot(slot, *kind, slot * 4, sectors * 512)));
            }
            rig.notify();
            let mut used = rig.collect(batch.len() as u16);
            prop_assert!(rig.mmio.inspect(Block::at_rest));
            used.sort_unstable();
            for ((slot, (kind, sectors, fault)), (head, used)) in (0u64..).zip(batch).zip(heads.into_iter().zip(used)) {
                let len = if *kind == FLUSH { 0 } else { *sectors as usize * 512 };
                let carried = fault.map_or(len, |fault| fault.carries(len as u64) as usize);
                let fails = matches!(fault, Some(DiskFault::Error | DiskFault::Short { .. }));
                let wrote = if *kind == IN && !fails { len as u32 } else { 0 };
                prop_assert_eq!(used, (head, wrote + 1));
                prop_assert_eq!(rig.status_of(slot), if fails { STATUS_IOERR } else { STATUS_OK });
                let at = slot as usize * 2048;
                let mut memory = vec![fill; 2048];
                match *kind {
                    IN => memory[..carried].copy_from_slice(&disk[at..at + carried]),
                    OUT => disk[at..at + carried].fill(fill),
                    _ => {}
                }
                prop_assert!(rig.bytes(DATA + at as u64, 2048) == memory);
            }
            prop_assert!(rig.on_disk() == disk);
        }
        prop_assert_eq!(rig.injected(), planned(faults.iter().flatten()));
        prop_assert_eq!(rig.counts().completed(), faults.len() as u64);
    }
}
