//! Chains that make no sense: an error where there is a byte for one, a used length that is exact, and the head
//! back in every case.

use super::*;

/// Runs `pieces` and expects the status of a failure and nothing else.
#[track_caller]
fn refused(rig: &mut Rig, pieces: &[Piece]) {
    assert_eq!(rig.run(pieces), 1, "used length");
    assert_eq!(rig.peek::<u8>(STATUS), STATUS_IOERR);
}

/// Runs `pieces` and expects the head back and nothing written.
#[track_caller]
fn unanswered(rig: &mut Rig, pieces: &[Piece]) {
    let before = rig.counts().without_status;
    assert_eq!(rig.run(pieces), 0, "used length");
    assert_eq!(rig.peek::<u8>(STATUS), 0xee);
    assert_eq!(rig.counts().without_status, before + 1);
}

#[test]
fn no_byte_for_a_status() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let before = rig.on_disk();
        rig.put_header(HEADER, OUT, 0);
        unanswered(&mut rig, &[(HEADER, 16, 0), (DATA, 512, 0)]);
        // Not writable.
        unanswered(&mut rig, &[(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 1, 0)]);
        // Empty, not memory, beyond the end of memory, wrapping.
        for at in [(STATUS, 0), (RAM_END, 1), (u64::MAX, 1), (u64::MAX - 1, 4), (RAM_END - 1, 2)] {
            unanswered(&mut rig, &[(HEADER, 16, 0), (DATA, 512, 0), (at.0, at.1, WRITE)]);
        }
        // The request was not carried out, as nothing could have been said about it.
        assert_eq!(rig.on_disk(), before);
        rig.put_header(HEADER, IN, 0);
        rig.poke(DATA, 0u64);
        unanswered(&mut rig, &[(HEADER, 16, 0), (DATA, 512, WRITE), (RAM_END, 1, WRITE)]);
        assert_eq!(rig.peek::<u64>(DATA), 0);
        rig.assert_alive();
    }
}

#[test]
fn headers_that_are_short_absent_or_not_memory() {
    let mut rig = Rig::new(EngineChoice::Threads);
    rig.put_header(HEADER, IN, 0);
    refused(&mut rig, &[(STATUS, 1, WRITE)]);
    refused(&mut rig, &[(HEADER, 15, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    refused(&mut rig, &[(HEADER, 8, 0), (HEADER + 8, 7, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    for at in [RAM_END, RAM_END - 8, u64::MAX - 15, u64::MAX - 3, 1 << 63] {
        refused(&mut rig, &[(at, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    }
    // The header given as writable.
    refused(&mut rig, &[(HEADER, 16, WRITE), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    rig.assert_alive();
}

#[test]
fn data_that_is_not_memory() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        for kind in [IN, OUT, GET_ID] {
            rig.put_header(HEADER, kind, 0);
            let direction = if kind == OUT { 0 } else { WRITE };
            for at in [RAM_END, RAM_END - 256, u64::MAX, u64::MAX - 511, 1 << 40] {
                let at = if kind == GET_ID && at == RAM_END - 256 { RAM_END - 10 } else { at };
                refused(&mut rig, &[(HEADER, 16, 0), (at, 512, direction), (STATUS, 1, WRITE)]);
                // Also where only the last piece is bad.
                let good = (DATA, 8, direction);
                refused(&mut rig, &[(HEADER, 16, 0), good, (at, 504 + 512, direction), (STATUS, 1, WRITE)]);
            }
        }
        rig.assert_alive();
    }
}

#[test]
fn readable_after_writable() {
    let mut rig = Rig::new(EngineChoice::Threads);
    rig.put_header(HEADER, OUT, 0);
    let before = rig.on_disk();
    refused(&mut rig, &[(STATUS, 1, WRITE), (HEADER, 16, 0), (DATA, 512, 0)]);
    refused(&mut rig, &[(HEADER, 16, 0), (STATUS, 1, WRITE), (DATA, 512, 0)]);
    refused(&mut rig, &[(HEADER, 16, 0), (DATA + 512, 8, WRITE), (DATA, 512, 0), (STATUS, 1, WRITE)]);
    assert_eq!(rig.on_disk(), before);
    rig.assert_alive();
}

#[test]
fn chains_without_an_end() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        rig.put_header(HEADER, IN, 0);
        // To itself; a loop of two; out of the table.
        rig.descriptor(TABLE, 0, (STATUS, 1, WRITE | NEXT), 0);
        assert_eq!(rig.run_head(0), 0);
        rig.descriptor(TABLE, 0, (HEADER, 16, NEXT), 1);
        rig.descriptor(TABLE, 1, (STATUS, 1, WRITE | NEXT), 0);
        assert_eq!(rig.run_head(0), 0);
        rig.descriptor(TABLE, 1, (STATUS, 1, WRITE | NEXT), 16);
        assert_eq!(rig.run_head(0), 0);
        rig.descriptor(TABLE, 1, (STATUS, 1, WRITE | NEXT), u16::MAX);
        assert_eq!(rig.run_head(0), 0);
        // More than 2^32 bytes.
        rig.table(TABLE, 0, &[(DATA, u32::MAX, 0), (DATA, u32::MAX, 0), (STATUS, 1, WRITE)]);
        assert_eq!(rig.run_head(0), 0);
        assert_eq!(rig.peek::<u8>(STATUS), 0xee);
        assert_eq!(rig.counts().without_status, 5);
        rig.assert_alive();
    }
}

#[test]
fn indirect_tables_that_make_no_sense() {
    let mut rig = Rig::new(EngineChoice::Threads);
    let table = 0xa000;
    rig.put_header(HEADER, IN, 0);
    rig.table(table, 0, &[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    for (at, len) in [
        (RAM_END, 48),
        (RAM_END - 16, 48),
        (u64::MAX - 15, 48),
        (u64::MAX, 16),
        (table, 0),
        (table, 8),
        (table, 47),
        (table, 32),
        (table, 16 * 0x1_0000),
        (table, !15),
    ] {
        unanswered(&mut rig, &[(at, len, INDIRECT)]);
    }
    // A table in a table, and one that loops.
    rig.table(table, 0, &[(HEADER, 16, 0), (table, 48, INDIRECT)]);
    unanswered(&mut rig, &[(table, 32, INDIRECT)]);
    rig.descriptor(table, 0, (HEADER, 16, NEXT), 0);
    unanswered(&mut rig, &[(table, 16, INDIRECT)]);
    // More descriptors than the device takes.
    let mut pieces = vec![(HEADER, 16, 0)];
    pieces.extend([(DATA, 2, WRITE); 256]);
    rig.table(table, 0, &pieces);
    unanswered(&mut rig, &[(table, 257 * 16, INDIRECT)]);
    rig.assert_alive();
}

/// Breaks the ring by `spoil` and checks that only a reset helps.
#[track_caller]
fn breaks(engine: On, spoil: impl FnOnce(&mut Rig)) {
    let mut rig = Rig::new(engine);
    spoil(&mut rig);
    rig.notify();
    rig.run_until("the need of a reset", Rig::needs_reset);
    assert_eq!(rig.get(reg::VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2, "the driver is told");
    // The ring is left alone from here on.
    let used = rig.used_index();
    rig.put_header(HEADER, IN, 0);
    let head = rig.chain(&[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    rig.offer(head);
    rig.notify();
    rig.settle();
    assert_eq!(rig.used_index(), used);
    rig.bring_up(ALL_FEATURES);
    assert!(!rig.needs_reset());
    rig.assert_alive();
}

#[test]
fn a_broken_ring_needs_a_reset() {
    for engine in engines() {
        // A head that is not in the table.
        breaks(engine, |rig| rig.offer(16));
        breaks(engine, |rig| rig.offer(u16::MAX));
        // More heads than the ring holds.
        breaks(engine, |rig| rig.poke(AVAIL + 2, 17u16.to_le()));
        breaks(engine, |rig| rig.poke(AVAIL + 2, u16::MAX.to_le()));
    }
}

#[test]
fn a_head_that_is_still_in_use_breaks_the_ring() {
    for engine in engines() {
        breaks(engine, |rig| {
            // Long enough to be in flight when the second one is looked at: both come in one batch.
            rig.put_header(HEADER, IN, 0);
            let head = rig.chain(&[(HEADER, 16, 0), (DATA, 32768, WRITE), (STATUS, 1, WRITE)]);
            rig.offer(head);
            rig.offer(head);
        });
    }
}

#[test]
fn a_reset_waits_for_requests_in_flight_and_forgets_them() {
    for engine in engines() {
        let mut rig = Rig::with(engine, false, ALL_FEATURES, 256);
        for round in 0..20u64 {
            for i in 0..32 {
                rig.put_header(HEADER + i * 16, IN, 0);
                let head = rig.chain(&[
                    (HEADER + i * 16, 16, 0),
                    (DATA + i * 0x8000, 32768, WRITE),
                    (STATUS + i, 1, WRITE),
                ]);
                rig.offer(head);
            }
            rig.notify();
            // The device has taken them; some may have ended already.
            rig.manager.run_with_timeout(20_000).unwrap();
            rig.set(reg::VIRTIO_MMIO_STATUS, 0);
            // The memory is the guest's again.
            let mark = 0xa5a5_0000 + round;
            for i in 0..32 {
                rig.poke(DATA + i * 0x8000 + 32760, mark);
            }
            rig.bring_up(ALL_FEATURES);
            rig.settle();
            assert_eq!(rig.used_index(), 0, "{engine}: an old request was answered after the reset");
            for i in 0..32 {
                assert_eq!(rig.peek::<u64>(DATA + i * 0x8000 + 32760), mark);
            }
        }
        rig.assert_alive();
    }
}
