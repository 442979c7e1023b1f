//! Naming pages, and what rules of classes make of it.

use std::collections::BTreeMap;

use super::*;
use crate::inject::injector::Decision;
use crate::inject::notes::{Notes, RECORDS, injector_for, touch_at};
use crate::memory::MIN_RAM;

const TABLE: u64 = 0x8000;
const OTHER: u64 = 0x9000;

fn begun(rule: &str) -> (Injector, Notes) {
    let (injector, notes, _ram) = injector_for(&[rule], 0);
    injector.set_records(Some(RECORDS));
    injector.arm_memory(BTreeMap::new());
    (injector, notes)
}

#[test]
fn a_named_page_goes_away_only_for_a_rule_that_means_its_class() {
    let (injector, notes) = begun("gpa=ram class=granttables: reflect");
    assert!(notes.taken().is_empty());
    injector.name_page(TABLE + 64, Some(PageClass::GrantTables));
    injector.name_page(OTHER, Some(PageClass::Messages));
    injector.name_page(TABLE, Some(PageClass::GrantTables));
    assert_eq!(notes.taken(), [("arm", TABLE)], "once, and not the other class");
    assert_eq!(injector.touched(TABLE, &touch_at(TABLE)), Decision::Reflect);
    injector.page_back(TABLE);
    assert!(!injector.is_away(TABLE));
    assert!(injector.finish().0.conserved());
}

#[test]
fn what_is_named_is_no_business_of_other_rules() {
    let (injector, _notes) = begun("gpa=ram: delay=0s");
    assert!(injector.is_away(TABLE));
    injector.name_page(TABLE, Some(PageClass::GrantTables));
    assert!(!injector.is_away(TABLE), "it comes back");
    // Named before the rule takes effect, it never goes away.
    let (injector, _notes, _ram) = injector_for(&["gpa=ram: delay=0s"], 0);
    injector.name_page(TABLE, Some(PageClass::Messages));
    injector.arm_memory(BTreeMap::new());
    assert!(!injector.is_away(TABLE) && injector.is_away(OTHER));
}

#[test]
fn a_page_that_is_of_no_class_any_more_comes_back() {
    let (injector, notes) = begun("gpa=ram class=messages: reflect*forever");
    injector.name_page(TABLE, Some(PageClass::Messages));
    injector.name_page(TABLE, None);
    injector.name_page(OTHER, None);
    assert_eq!(notes.taken(), [("arm", TABLE), ("disarm", TABLE)]);
    injector.name_page(TABLE, Some(PageClass::Messages));
    injector.name_page(TABLE, Some(PageClass::GrantTables));
    assert!(!injector.is_away(TABLE), "of another one");
}

#[test]
fn addresses_and_shares_hold_for_named_pages_too() {
    let (injector, notes) = begun("gpa=0x9800-0xafff class=messages: reflect");
    for page in [TABLE, OTHER, 0xa000, 0xb000] {
        injector.name_page(page, Some(PageClass::Messages));
    }
    assert_eq!(notes.taken(), [("arm", OTHER), ("arm", 0xa000)]);
    let (injector, notes) = begun("gpa=ram every=2 class=messages: reflect");
    injector.name_page(TABLE, Some(PageClass::Messages));
    assert!(notes.taken().is_empty());
}

#[test]
fn a_guest_can_name_so_many_pages_and_no_more() {
    let (injector, _notes) = begun("read: reflect");
    for number in 0..NAMED_LIMIT as u64 + 10 {
        injector.name_page(number * PAGE_SIZE, Some(PageClass::Messages));
    }
    assert_eq!(injector.registered().named.len(), NAMED_LIMIT);
    injector.name_page(0, None);
    injector.name_page(u64::MAX, Some(PageClass::Messages));
    assert_eq!(injector.registered().named.len(), NAMED_LIMIT);
    assert!(NAMED_LIMIT as u64 > MIN_RAM / PAGE_SIZE);
}

#[test]
fn what_an_exception_needs_is_never_told_of_by_one() {
    for class in [PageClass::Kernel, PageClass::Descriptors] {
        for action in ["reflect", "reflect*3", "reflect*forever", "poison"] {
            let (injector, _notes, _ram) = injector_for(&[&format!("gpa=ram class={class}: {action}")], 0);
            injector.set_records(Some(RECORDS));
            injector.arm_memory(BTreeMap::from([(TABLE, class)]));
            assert_eq!(injector.touched(TABLE, &touch_at(TABLE)), Decision::Resolve, "{class}: {action}");
            assert!(!injector.is_away(TABLE));
            let counters = injector.finish().0;
            assert_eq!((counters.armed, counters.resolved), (1, 1), "{class}: {action}");
        }
    }
    let (injector, _notes, _ram) = injector_for(&["gpa=ram class=pagetables: reflect"], 0);
    injector.set_records(Some(RECORDS));
    injector.arm_memory(BTreeMap::from([(TABLE, PageClass::PageTables)]));
    assert_eq!(injector.touched(TABLE, &touch_at(TABLE)), Decision::Reflect);
}

#[test]
fn numbers_of_classes() {
    assert_eq!(PageClass::from_doorbell(0), Some(None));
    assert_eq!(PageClass::from_doorbell(1), Some(Some(PageClass::GrantTables)));
    assert_eq!(PageClass::from_doorbell(2), Some(Some(PageClass::Messages)));
    assert_eq!(PageClass::from_doorbell(3), None);
}
