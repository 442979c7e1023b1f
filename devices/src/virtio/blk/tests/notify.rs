//! When the driver is interrupted, and when it is asked to notify.

use super::*;

/// Where the driver says how far it wants to be left alone.
fn used_event(rig: &Rig) -> u64 {
    AVAIL + 4 + u64::from(rig.size) * 2
}

/// Where the device says the same.
fn avail_event(rig: &Rig) -> u64 {
    USED + 4 + u64::from(rig.size) * 8
}

#[test]
fn each_request_interrupts_unless_the_flag_says_not() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        rig.assert_alive();
        assert_eq!(rig.line.read().unwrap(), 1);
        assert_eq!(rig.get(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 1);
        rig.set(reg::VIRTIO_MMIO_INTERRUPT_ACK, 1);

        rig.poke(AVAIL, 1u16.to_le());
        rig.assert_alive();
        assert!(rig.line.read().is_err(), "{engine}: interrupted in spite of NO_INTERRUPT");
        assert_eq!(rig.get(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 0);

        rig.poke(AVAIL, 0u16);
        rig.assert_alive();
        assert!(rig.line.read().is_ok());
        assert_eq!(rig.counts().interrupts, 2);
        assert_eq!(rig.peek::<u16>(USED), 0, "notifications are wanted again");
    }
}

#[test]
fn the_event_index_holds_interrupts_back() {
    for engine in engines() {
        let mut rig = Rig::with(engine, false, ALL_FEATURES | EVENT_IDX, 16);
        // Interrupt when entry 2 is used: not for entries 0 and 1.
        rig.poke(used_event(&rig), 2u16.to_le());
        for want in [false, false, true, false, false] {
            rig.assert_alive();
            assert_eq!(rig.line.read().is_ok(), want, "{engine} {}", rig.seen);
        }
        assert_eq!(rig.counts().interrupts, 1);
        // Always, from here on.
        for _ in 0..40 {
            rig.poke(used_event(&rig), rig.seen.to_le());
            rig.assert_alive();
            assert!(rig.line.read().is_ok());
        }
        // The device wants to hear of the next one.
        assert_eq!(u16::from_le(rig.peek(avail_event(&rig))), rig.offered);
    }
}

#[test]
fn indices_wrap() {
    let mut rig = Rig::with(EngineChoice::Threads, false, ALL_FEATURES | EVENT_IDX, 2);
    rig.put_header(HEADER, GET_ID, 0);
    let table = 0xa000;
    rig.table(table, 0, &[(HEADER, 16, 0), (DATA, 20, WRITE), (STATUS, 1, WRITE)]);
    rig.descriptor(TABLE, 0, (table, 48, INDIRECT), 0);
    for i in 0..0x1_0010u32 {
        rig.poke(used_event(&rig), rig.seen.to_le());
        assert_eq!(rig.run_head(0), 21, "{i}");
        assert!(rig.line.read().is_ok(), "{i}");
    }
    assert_eq!(rig.counts().ids, 0x1_0010);
}

#[test]
fn a_full_ring_does_not_hold_the_loop() {
    let mut rig = Rig::with(EngineChoice::Threads, false, ALL_FEATURES, 8);
    rig.put_header(HEADER, GET_ID, 0);
    rig.table(0xa000, 0, &[(HEADER, 16, 0), (DATA, 20, WRITE), (STATUS, 1, WRITE)]);
    for i in 0..8 {
        rig.descriptor(TABLE, i, (0xa000, 48, INDIRECT), 0);
        rig.offer(i);
    }
    rig.notify();
    // One turn takes a ring's worth and gives way; the next finds nothing and stops.
    assert_eq!(rig.manager.run_with_timeout(0).unwrap(), 1);
    assert_eq!(rig.used_index(), 8);
    assert_eq!(rig.manager.run_with_timeout(0).unwrap(), 1);
    assert_eq!(rig.manager.run_with_timeout(0).unwrap(), 0);
    assert_eq!(rig.collect(8).len(), 8);
}
