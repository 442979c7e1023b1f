//! Random descriptor tables, rings and headers.
//!
//! Two properties. With the rings out of reach of the data: every head offered comes back exactly once, with a
//! used length that its chain can hold. With everything in reach (a guest may well read a sector over its own
//! ring): no panic, no hang, and after a reset the disk works.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const TABLES: u64 = 0xa000;

/// Addresses and lengths that get somewhere: small areas, edges of memory, and nonsense.
fn address(low: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => low..low + 0x800,
        3 => Just(HEADER),
        1 => RAM_END - 600..RAM_END + 8,
        1 => SEAM - 600..SEAM + 8,
        2 => TABLES..TABLES + 256,
        1 => any::<u64>(),
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => Just(16u32),
        3 => Just(512),
        2 => Just(513),
        3 => Just(1),
        2 => (0u32..16).prop_map(|n| n * 16),
        2 => 0u32..2000,
        1 => any::<u32>(),
    ]
}

fn flags() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(NEXT), 3 => Just(NEXT | WRITE), 2 => Just(WRITE), 1 => Just(INDIRECT), 1 => any::<u16>()]
}

type Descriptor = (u64, u32, u16, u16);

fn nonsense(low: u64) -> impl Strategy<Value = Descriptor> {
    let next = prop_oneof![8 => 0u16..16, 1 => any::<u16>()];
    prop_oneof![
        9 => (address(low), length(), flags(), next),
        1 => any::<Descriptor>(),
    ]
}

/// A table of good chains of three, each descriptor of which is nonsense now and then.
fn table(low: u64) -> impl Strategy<Value = Vec<Descriptor>> {
    let slots: Vec<_> = (0u16..16)
        .map(|i| {
            let good = (any::<bool>(), 0u32..3).prop_map(move |(takes, sectors)| {
                let data = low + u64::from(i) * 0x100;
                match i % 3 {
                    0 => (HEADER, 16, NEXT, i + 1),
                    1 => (data, sectors * 512, NEXT | if takes { WRITE } else { 0 }, i + 1),
                    _ => (STATUS, 1, WRITE, 0),
                }
            });
            prop_oneof![4 => good, 1 => nonsense(low)]
        })
        .collect();
    slots
}

#[derive(Clone, Debug)]
struct Case {
    table: Vec<Descriptor>,
    indirect: Vec<Descriptor>,
    kind: u32,
    sector: u64,
    heads: Vec<u16>,
}

fn case(low: u64, heads: impl Strategy<Value = Vec<u16>>) -> impl Strategy<Value = Case> {
    let kind =
        prop_oneof![4 => Just(IN), 4 => Just(OUT), 1 => Just(FLUSH), 1 => Just(GET_ID), 1 => any::<u32>()];
    let sector = prop_oneof![4 => 0..SECTORS, 1 => any::<u64>()];
    (table(low), table(low), kind, sector, heads).prop_map(|(table, indirect, kind, sector, heads)| Case {
        table,
        indirect,
        kind,
        sector,
        heads,
    })
}

/// Heads that a correct driver could offer together: each once.
fn distinct_heads() -> impl Strategy<Value = Vec<u16>> {
    Just((0u16..16).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_flat_map(|heads| (1..=16usize).prop_map(move |n| heads[..n].to_vec()))
}

fn set_up(rig: &mut Rig, case: &Case) {
    rig.bring_up(ALL_FEATURES);
    rig.put_header(HEADER, case.kind, case.sector);
    for (table, descriptors) in [(TABLE, &case.table), (TABLES, &case.indirect)] {
        for (index, (address, len, flags, next)) in (0..).zip(descriptors) {
            rig.descriptor(table, index, (*address, *len, *flags), *next);
        }
    }
    for head in &case.heads {
        rig.offer(*head);
    }
    rig.notify();
}

fn config() -> ProptestConfig {
    // As many cases as PROPTEST_CASES says. Failures are printed whole; no file of old ones is kept.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn with_each_engine(test: impl Fn(On, &RefCell<Rig>)) {
    for engine in engines() {
        test(engine, &RefCell::new(Rig::new(engine)));
    }
}

#[test]
fn no_head_is_ever_lost() {
    with_each_engine(|engine, rig| {
        let answered = Cell::new(0usize);
        proptest!(config(), |(case in case(DATA, distinct_heads()))| {
            let mut rig = rig.borrow_mut();
            set_up(&mut rig, &case);
            let used = rig.collect(case.heads.len() as u16);
            let got: HashSet<u32> = used.iter().map(|u| u.0).collect();
            let want: HashSet<u32> = case.heads.iter().map(|h| u32::from(*h)).collect();
            prop_assert_eq!(got, want);
            rig.settle();
            prop_assert_eq!(rig.used_index(), rig.seen, "a head was used twice");
            prop_assert!(!rig.needs_reset());
            answered.set(answered.get() + used.iter().filter(|u| u.1 > 0).count());
        });
        // The property would be empty if nothing but nonsense had been tried.
        let counts = rig.borrow().counts();
        let cases = u64::from(config().cases);
        assert!(answered.get() as u64 > cases, "{engine}: only {} chains had a status", answered.get());
        // Cases are drawn anew each time; the bounds are far enough from the means (100 bytes and more) for any draw.
        assert!(counts.bytes_read > cases * 10 && counts.bytes_written > cases * 10, "{engine}: {counts:?}");
        assert!(counts.errors > cases && counts.without_status > cases, "{engine}: {counts:?}");
    });
}

#[test]
fn nothing_breaks_the_disk_for_good() {
    with_each_engine(|_, rig| {
        let heads = prop::collection::vec(prop_oneof![9 => 0u16..16, 1 => any::<u16>()], 1..16);
        proptest!(config(), |(case in case(TABLE, heads), index in any::<Option<u16>>())| {
            let mut rig = rig.borrow_mut();
            set_up(&mut rig, &case);
            if let Some(index) = index {
                rig.poke(AVAIL + 2, index);
            }
            for _ in 0..4 {
                rig.manager.run_with_timeout(0).unwrap();
            }
            rig.bring_up(ALL_FEATURES);
            rig.settle();
            prop_assert_eq!(rig.request(GET_ID, 0, DATA, 20), (STATUS_OK, 21));
        });
    });
}
