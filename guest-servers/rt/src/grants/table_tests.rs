use std::vec::Vec;

use super::*;

fn slots(count: usize) -> Vec<Slot> {
    (0..count).map(|_| Slot::default()).collect()
}

fn request(access: u16) -> Request {
    Request {
        kind: Kind::Magic { owner: Endpoint::INIT },
        grantee: Endpoint::MFS,
        start: 0x1000,
        length: 64,
        access,
        tag: 7,
    }
}

/// What a kernel does after a soft fault in the mode `atomic`: mark only the grant it verified.
fn kernel_marks(slot: &Slot, verified: State, bits: u16, address: u64) -> bool {
    slot.mark_address.store(address, Ordering::Relaxed);
    let marked = verified.with_mark(bits).0;
    slot.state.compare_exchange(verified.0, marked, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

#[test]
fn first_id_is_zero_and_slots_are_reused_last_in_first_out() {
    let slots = slots(4);
    let mut table = Slots::new(&slots, Mark::Atomic);
    let first = table.grant(&request(READ)).unwrap();
    assert_eq!(first, GrantId(0));
    let second = table.grant(&request(READ)).unwrap();
    assert_eq!(second.index(), 1);
    assert_eq!(table.revoke(first).unwrap().fault, None);
    assert_eq!(table.revoke(first), Err(Errno::EINVAL));
    let again = table.grant(&request(READ)).unwrap();
    assert_eq!((again.index(), again.sequence()), (0, 1));
    assert_eq!(table.grant(&request(READ)).unwrap().index(), 2);
}

#[test]
fn entries_say_what_was_asked() {
    let slots = slots(2);
    let mut table = Slots::new(&slots, Mark::Atomic);
    let id = table.grant(&request(WRITE | TRY)).unwrap();
    let slot = &slots[id.index()];
    let state = State(slot.state.load(Ordering::Relaxed));
    assert_eq!(state.flags(), USED | VALID | MAGIC | WRITE | TRY);
    assert_eq!(slot.other.load(Ordering::Relaxed), Endpoint::INIT.raw());
    assert_eq!(slot.tag.load(Ordering::Relaxed), 7);
    let indirect = Kind::Indirect { granter: Endpoint::VFS, id: GrantId(5) };
    let with_access = Request { kind: indirect, ..request(READ) };
    assert_eq!(table.grant(&with_access), Err(Errno::EINVAL));
    let id = table.grant(&Request { kind: indirect, ..request(0) }).unwrap();
    assert_eq!(slots[id.index()].start.load(Ordering::Relaxed), 5);
    assert_eq!(table.grant(&request(0x8000)), Err(Errno::EINVAL));
    assert_eq!(table.grant(&request(READ)), Err(Errno::ENOSPC));
}

#[test]
fn atomic_mark_is_collected_with_side_access_and_address() {
    let slots = slots(1);
    let mut table = Slots::new(&slots, Mark::Atomic);
    let id = table.grant(&request(WRITE | TRY)).unwrap();
    let verified = State(slots[0].state.load(Ordering::Acquire));
    let bits = mark::FAULTED | mark::WRITE_ACCESS | mark::SECOND_STAGE;
    assert!(kernel_marks(&slots[0], verified, bits, 0x1fff));
    let fault = table.revoke(id).unwrap().fault.unwrap();
    let expected =
        SoftFault { side: Side::Granted, access: Access::Write, second_stage: true, address: 0x1fff };
    assert_eq!(fault, expected);
}

#[test]
fn stale_mark_is_dropped_in_atomic_and_kept_by_flag() {
    for (mode, believed) in [(Mark::Atomic, false), (Mark::Id, false), (Mark::Flag, true)] {
        let slots = slots(1);
        let mut table = Slots::new(&slots, mode);
        let old = table.grant(&request(WRITE | TRY)).unwrap();
        let verified = State(slots[0].state.load(Ordering::Acquire));
        assert_eq!(table.revoke(old).unwrap().fault, None);
        let new = table.grant(&request(WRITE | TRY)).unwrap();
        // The kernel's write for the old grant arrives now.
        match mode {
            Mark::Atomic => assert!(!kernel_marks(&slots[0], verified, mark::FAULTED, 1)),
            Mark::Id => slots[0].mark_id.store(old.0, Ordering::Relaxed),
            Mark::Flag => slots[0].mark_id.store(1, Ordering::Relaxed),
        }
        assert_eq!(table.revoke(new).unwrap().fault.is_some(), believed, "{mode:?}");
    }
}

/// The seed's kernel marks grants with TRY only; ours also one without, when it gives up waiting for a page.
#[test]
fn a_mark_that_was_stored_is_collected_with_try_and_without() {
    let slots = slots(1);
    let mut table = Slots::new(&slots, Mark::Id);
    for access in [WRITE, WRITE | TRY] {
        let id = table.grant(&request(access)).unwrap();
        slots[0].mark_id.store(id.0, Ordering::Relaxed);
        assert!(table.revoke(id).unwrap().fault.is_some());
        let id = table.grant(&request(access)).unwrap();
        assert_eq!(table.revoke(id).unwrap().fault, None);
    }
}

#[test]
fn sequences_wrap_where_each_mode_says() {
    for (mode, last) in [(Mark::Id, 2047), (Mark::Flag, 2047), (Mark::Atomic, u32::MAX)] {
        let slots = slots(1);
        slots[0].state.store(State::new(0, 0, last).0, Ordering::Relaxed);
        let mut table = Slots::new(&slots, mode);
        let id = table.grant(&request(READ)).unwrap();
        assert_eq!(id.sequence(), last);
        let _ = table.revoke(id).unwrap();
        assert_eq!(table.grant(&request(READ)).unwrap(), GrantId(0));
    }
}

#[test]
fn growing_keeps_grants_and_continues_upwards() {
    let all = slots(6);
    let mut table = Slots::new(&all[..2], Mark::Atomic);
    let first = table.grant(&request(READ)).unwrap();
    table.grant(&request(READ)).unwrap();
    table.extend(&all);
    let indices: Vec<_> = (0..4).map(|_| table.grant(&request(READ)).unwrap().index()).collect();
    assert_eq!(indices, [2, 3, 4, 5]);
    assert_eq!(table.revoke(first).unwrap().fault, None);
    assert_eq!(table.revoke(GrantId::NONE), Err(Errno::EINVAL));
    assert_eq!(table.revoke(GrantId::new(6, 0)), Err(Errno::EINVAL));
}

#[test]
fn moving_keeps_grants_too_and_a_mark_in_the_old_table_is_lost() {
    let (old, new) = (slots(3), slots(8));
    let mut table = Slots::new(&old, Mark::Id);
    let ids: Vec<_> = (0..3).map(|_| table.grant(&request(WRITE | TRY)).unwrap()).collect();
    old[0].mark_id.store(ids[0].0, Ordering::Relaxed);
    table.move_to(&new);
    old[1].mark_id.store(ids[1].0, Ordering::Relaxed);
    assert_eq!((table.len(), table.address()), (8, new.as_ptr() as u64));
    let entries: Vec<_> = (0..5).map(|_| table.grant(&request(READ)).unwrap().index()).collect();
    assert_eq!(entries, [3, 4, 5, 6, 7]);
    assert_eq!(table.grant(&request(READ)), Err(Errno::ENOSPC));
    assert!(table.revoke(ids[0]).unwrap().fault.is_some(), "stored before the move");
    assert_eq!(table.revoke(ids[1]).unwrap().fault, None, "stored behind its back");
    assert_eq!(new[2].start.load(Ordering::Relaxed), 0x1000);
}

#[test]
fn options_choose_sequences_and_marks_apart() {
    for (line, short, mode) in [
        ("", false, Mark::Atomic),
        ("mode=faithful", true, Mark::Id),
        ("mode=faithful mark=atomic", true, Mark::Atomic),
        ("retry=mark", false, Mark::Id),
    ] {
        let all = slots(1);
        let table = Slots::with_options(&all, &Options::parse(line).unwrap());
        assert_eq!((table.is_short(), table.mode()), (short, mode), "{line}");
    }
}

/// The mark is there when the slot's word is swapped, and gone afterwards.
#[test]
fn the_seeded_bug_looks_too_late() {
    for (mode, late) in [(Mark::Atomic, true), (Mark::Atomic, false), (Mark::Id, true), (Mark::Id, false)] {
        let all = slots(1);
        let mut table = Slots::new(&all, mode);
        table.late = late;
        let id = table.grant(&request(WRITE | TRY)).unwrap();
        let verified = State(all[0].state.load(Ordering::Acquire));
        assert!(kernel_marks(&all[0], verified, mark::FAULTED, 1));
        all[0].mark_id.store(id.0, Ordering::Relaxed);
        assert_eq!(table.revoke(id).unwrap().fault.is_none(), late);
    }
}

/// The kernel and the granter race for one slot; whatever the interleaving, the kernel's belief that its mark
/// was stored and the granter's finding it agree, grant by grant.
#[test]
fn marks_are_neither_lost_nor_misdirected_when_both_sides_race() {
    const ROUNDS: u32 = 20_000;
    let slots = slots(1);
    let kernel_stored = AtomicU64::new(0);
    let mut granter_found = 0u64;
    let done = core::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let verified = State(slots[0].state.load(Ordering::Acquire));
                let usable = verified.flags() & VALID != 0 && verified.mark() == 0;
                if usable && kernel_marks(&slots[0], verified, mark::FAULTED, 1) {
                    kernel_stored.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut table = Slots::new(&slots, Mark::Atomic);
        for _ in 0..ROUNDS {
            let id = table.grant(&request(WRITE | TRY)).unwrap();
            granter_found += u64::from(table.revoke(id).unwrap().fault.is_some());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(kernel_stored.load(Ordering::Relaxed), granter_found);
}
