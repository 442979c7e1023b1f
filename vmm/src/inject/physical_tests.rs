//! Which pages rules of physical addresses take away, and when.

use vm_memory::Bytes;

use super::*;
use crate::inject::injector::Decision;
use crate::inject::notes::{Notes, RECORDS, injector_for, touch_at};
use crate::memory::MIN_RAM;

fn armed(rule: &str, tables: &[(u64, PageClass)], seed: u64) -> Vec<u64> {
    let (injector, notes, _ram) = injector_for(&[rule], seed);
    injector.set_surroundings(Surroundings {
        kernel: vec![Span { first: 0x10_0000, last: 0x10_2fff }],
        rings: Box::new(|| vec![Span { first: 0x5010, last: 0x601f }]),
        answers: Box::new(|| 0),
    });
    injector.set_records(Some(RECORDS));
    assert!(injector.is_pending());
    injector.arm_memory(tables.iter().copied().collect());
    assert!(!injector.is_pending());
    pages_armed(&notes)
}

fn pages_armed(notes: &Notes) -> Vec<u64> {
    notes.taken().into_iter().filter(|(what, _)| *what == "arm").map(|(_, page)| page).collect()
}

#[test]
fn ranges_are_pages_and_every_is_counted_from_their_first() {
    assert_eq!(armed("gpa=0x8fff-0xa000: reflect", &[], 0), [0x8000, 0x9000, 0xa000]);
    assert_eq!(armed("gpa=0x8000-0xcfff every=2: reflect", &[], 0), [0x8000, 0xa000, 0xc000]);
    assert_eq!(armed("gpa=0x8000,0x20000-0x21fff every=2: reflect", &[], 0), [0x8000, 0x2_0000]);
    assert!(armed("gpa=0x8000000-0xffffffffffffffff: reflect", &[], 0).is_empty());
}

#[test]
fn all_ram_but_what_must_stay() {
    let pages = armed("gpa=ram: delay=0s", &[(0x7000, PageClass::PageTables)], 0);
    assert_eq!(
        pages.len() as u64,
        MIN_RAM / PAGE_SIZE - 3 - 2 - 1 - 1,
        "kernel, rings, a table, the records"
    );
    for stays in [0x10_0000, 0x10_2000, 0x5000, 0x6000, 0x7000, RECORDS] {
        assert!(!pages.contains(&stays), "{stays:#x}");
    }
}

#[test]
fn a_class_goes_away_when_it_is_named() {
    let table = [(0x7000, PageClass::PageTables)];
    assert_eq!(armed("gpa=ram class=pagetables: delay=0s", &table, 0), [0x7000]);
    assert_eq!(armed("gpa=ram class=virtqueues: delay=0s", &table, 0), [0x5000, 0x6000]);
    assert_eq!(armed("gpa=0x101000-0xffffff class=kernel: delay=0s", &table, 0), [0x10_1000, 0x10_2000]);
}

#[test]
fn a_share_is_the_seeds() {
    let run = |seed| armed("gpa=ram share=25%: delay=0s", &[], seed);
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
    assert!((80..180).contains(&run(4).len()), "{}", run(4).len());
}

#[test]
fn what_needs_trap_records_waits_for_them() {
    let (i, notes, _ram) = injector_for(&["gpa=0x8000: reflect", "gpa=0x9000: delay=0s"], 0);
    i.arm_memory(BTreeMap::new());
    assert_eq!(pages_armed(&notes), [0x9000]);
    assert!(!i.is_pending());
    i.set_records(Some(RECORDS));
    assert!(i.is_pending());
    i.arm_memory(BTreeMap::new());
    assert_eq!(pages_armed(&notes), [0x9000, 0x8000]);
    i.set_records(Some(RECORDS));
    assert!(!i.is_pending(), "once is enough");
}

#[test]
fn touches_that_are_not_meant_are_let_through() {
    for (rule, decision) in [
        ("gpa=0x8000 access=write: reflect", Decision::Reflect),
        ("gpa=0x8000 access=read: reflect", Decision::Resolve),
        ("gpa=0x8000 vcpu=0: reflect", Decision::Reflect),
        ("gpa=0x8000 vcpu=1,2: reflect", Decision::Resolve),
    ] {
        let (i, _notes, _ram) = injector_for(&[rule], 0);
        i.set_records(Some(RECORDS));
        i.arm_memory(BTreeMap::new());
        assert_eq!(i.touched(0x8000, &touch_at(0x8000)), decision, "{rule}");
        assert!(i.finish().0.conserved());
    }
}

#[test]
fn where_only_writes_are_meant_only_writes_stop() {
    let rules: Vec<Rule> = ["gpa=0x8000 access=write: delay=0s", "gpa=0x9000 access=read: delay=0s"]
        .map(|rule| crate::inject::parse_rule(rule).unwrap())
        .into();
    let ram = Arc::new(GuestRam::new(MIN_RAM).unwrap());
    let (all, writes) = (Notes::default(), Notes::default());
    let injector = Injector::new(ram, Box::new(all.clone()), 1, &rules, 0)
        .with_writes_by(Some(Box::new(writes.clone())));
    injector.arm_memory(BTreeMap::new());
    injector.page_back(0x8000);
    injector.page_back(0x9000);
    assert_eq!(writes.taken(), [("arm", 0x8000), ("disarm", 0x8000)]);
    assert_eq!(all.taken(), [("arm", 0x9000), ("disarm", 0x9000)]);
}

#[test]
fn a_page_that_is_to_be_reflected_more_than_once_stays() {
    let (i, _notes, ram) = injector_for(&["gpa=0x8000: reflect*2", "gpa=0x9000: reflect*forever"], 0);
    i.set_records(Some(RECORDS));
    i.arm_memory(BTreeMap::new());
    for (page, stays) in [(0x8000, [true, false]), (0x9000, [true, true])] {
        for stays in stays {
            assert_eq!(i.touched(page, &touch_at(page)), Decision::Reflect);
            ram.device_view().write_obj(0_u32, vm_memory::GuestAddress(RECORDS)).unwrap();
            i.page_back(page);
            assert_eq!(i.is_away(page), stays, "{page:#x}");
        }
    }
    assert!(i.finish().0.conserved());
}
