//! Putting a disk back: what was offered, what was answered, and what must not arrive afterwards.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;
use crate::virtio::mmio::MmioState;

/// A moment of the whole machine, as a session keeps it.
struct Moment {
    ram: Vec<u8>,
    disk: MmioState<BlockState>,
    seen: u16,
    offered: u16,
}

impl Rig {
    fn keep(&self) -> Moment {
        let disk = self.mmio.save();
        Moment { disk, ram: self.bytes(0, RAM_END as usize), seen: self.seen, offered: self.offered }
    }

    fn put_back(&mut self, moment: &Moment) {
        self.mmio.park();
        self.ram.write_slice(&moment.ram, GuestAddress(0)).unwrap();
        self.mmio.restore(&moment.disk).unwrap();
        (self.seen, self.offered, self.next_descriptor) = (moment.seen, moment.offered, 0);
    }

    fn at_rest(&self) -> bool {
        self.mmio.inspect(Block::at_rest)
    }

    /// Offers a read of `sector` without waiting for it.
    fn begin_read(&mut self, sector: u64, data: u64) {
        let header = HEADER + u64::from(self.next_descriptor) * 16;
        self.put_header(header, IN, sector);
        let status = STATUS + u64::from(self.next_descriptor);
        let head = self.chain(&[(header, 16, 0), (data, 512, WRITE), (status, 1, WRITE)]);
        self.offer(head);
    }
}

#[test]
fn a_machine_put_back_goes_on_from_the_moment_it_was_kept() {
    for engine in engines() {
        for features in [ALL_FEATURES, ALL_FEATURES | EVENT_IDX] {
            let mut rig = Rig::with(engine, false, features, 16);
            for _ in 0..5 {
                rig.assert_alive();
            }
            let registers = |rig: &Rig| {
                [reg::VIRTIO_MMIO_STATUS, reg::VIRTIO_MMIO_INTERRUPT_STATUS, reg::VIRTIO_MMIO_QUEUE_READY]
                    .map(|register| rig.get(register))
            };
            let (moment, before) = (rig.keep(), registers(&rig));
            for round in 0..20 {
                // More than the ring has, so that indices would be noticed.
                for _ in 0..round * 2 {
                    rig.assert_alive();
                }
                if round % 3 == 0 {
                    rig.set(reg::VIRTIO_MMIO_INTERRUPT_ACK, 1);
                }
                if round % 5 == 0 {
                    rig.bring_up(ALL_FEATURES);
                }
                rig.put_back(&moment);
                assert_eq!(registers(&rig), before, "{engine} {round}");
                assert!(rig.at_rest() && rig.line.read().is_err());
                rig.settle();
                assert_eq!(rig.bytes(0, RAM_END as usize), moment.ram, "{engine} {round}: left-over work");
            }
            rig.assert_alive();
        }
    }
}

#[test]
fn saving_finishes_what_was_offered() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        for i in 0..5 {
            rig.begin_read(i, DATA + i * 512);
        }
        assert_eq!(rig.mmio.inspect(Block::unanswered), 5);
        rig.notify();
        let moment = rig.keep();
        assert!(rig.at_rest(), "{engine}");
        assert_eq!(rig.used_index(), 5);
        let want: Vec<u8> = (0..5 * 512).map(pattern).collect();
        assert_eq!(rig.bytes(DATA, 5 * 512), want);
        assert_eq!(rig.bytes(STATUS, 15).iter().step_by(3).copied().collect::<Vec<_>>(), [STATUS_OK; 5]);
        assert!(rig.line.read().is_ok(), "nobody was told");
        // The kick was part of that.
        rig.settle();
        assert_eq!(rig.counts().kicks, 0, "{engine}");
        rig.put_back(&moment);
        assert_eq!(rig.collect(5).len(), 5);
        rig.next_descriptor = 0;
        rig.assert_alive();
    }
}

#[test]
fn what_was_in_flight_is_never_answered_after() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let moment = rig.keep();
        for round in 0..50 {
            for i in 0..5 {
                rig.begin_read(i, DATA + i * 512);
            }
            rig.notify();
            // Sometimes taken and under way, sometimes not yet seen.
            if round % 2 == 0 {
                rig.manager.run_with_timeout(0).unwrap();
            }
            rig.put_back(&moment);
            rig.settle();
            assert_eq!(rig.bytes(0, RAM_END as usize), moment.ram, "{engine} {round}");
            assert!(rig.line.read().is_err() && rig.at_rest());
        }
        rig.assert_alive();
    }
}

#[test]
fn a_parked_disk_touches_no_memory() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let moment = rig.keep();
        rig.mmio.park();
        rig.begin_read(0, DATA);
        rig.notify();
        let before = rig.bytes(0, RAM_END as usize);
        rig.settle();
        assert_eq!(rig.bytes(0, RAM_END as usize), before);
        rig.put_back(&moment);
        rig.assert_alive();
    }
}

#[test]
fn the_loop_may_be_running_all_the_time() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        rig.assert_alive();
        let moment = rig.keep();
        let subscriber = BlkSubscriber::new(rig.mmio.clone()).unwrap();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(SeqCst) {
                    subscriber.poll();
                }
            });
            let mut kicks = rig.counts().kicks;
            for round in 0..300 {
                // Nobody acts on a kick of the time before.
                let late = rig.counts().kicks != kicks;
                if late {
                    end.store(true, SeqCst);
                }
                assert!(!late, "{engine} {round}");
                for i in 0..round % 6 {
                    rig.begin_read(i, DATA + i * 512);
                    rig.notify();
                }
                rig.put_back(&moment);
                kicks = rig.counts().kicks;
                let quiet = rig.bytes(0, RAM_END as usize) == moment.ram && rig.line.read().is_err();
                if !quiet {
                    end.store(true, SeqCst);
                }
                assert!(quiet, "{engine} {round}");
            }
            end.store(true, SeqCst);
        });
        rig.settle();
        assert_eq!(rig.bytes(0, RAM_END as usize), moment.ram, "{engine}");
        rig.assert_alive();
    }
}

#[test]
fn a_disk_without_a_driver_is_kept_too() {
    let mut rig = Rig::new(On::Memory);
    rig.set(reg::VIRTIO_MMIO_STATUS, 0);
    let moment = rig.keep();
    rig.bring_up(ALL_FEATURES);
    rig.assert_alive();
    rig.put_back(&moment);
    assert_eq!(rig.get(reg::VIRTIO_MMIO_STATUS), 0);
    rig.bring_up(ALL_FEATURES);
    rig.assert_alive();
}
