//! Decisions and sums, with a mechanism that only takes notes.

use std::time::Duration;

use refault_abi::doorbell::{TIMES_POISON, TrapRecord, access};
use refault_abi::fs;
use refault_abi::grant::Tag;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::inject::mechanism::AWAY_LIMIT;
use crate::inject::notes::{Notes, RECORDS, SITES, injector_for, touch_at};
use crate::inject::parse_rule;
use crate::inject::rule::Side;
use crate::inject::trap::{Answer, Trap};
use crate::memory::MIN_RAM;

const PAGE: u64 = 0x8000;

fn injector(rule: &str) -> (Injector, Notes, Arc<GuestRam>) {
    let (injector, notes, ram) = injector_for(&[rule], 0);
    injector.set_site_page(Some(SITES));
    injector.set_records(Some(RECORDS));
    (injector, notes, ram)
}

/// The guest announces a read of page `page` of a range of 17 at `gpa`.
fn announce(injector: &Injector, ram: &GuestRam, gpa: u64, page: u32) {
    let mut site = Site::new_zeroed();
    (site.gpa, site.page, site.pages) = (gpa, page, 17);
    site.tag = Tag::new(fs::READ, 1, 7).0;
    ram.device_view().write_slice(site.as_bytes(), GuestAddress(SITES + 64)).unwrap();
    ram.device_view().write_obj(0_u64, GuestAddress(SITES)).unwrap();
    injector.site(0);
    assert_eq!(ram.device_view().read_obj::<u64>(GuestAddress(SITES)).unwrap(), 1, "counting again");
}

fn touch() -> Trap {
    touch_at(PAGE)
}

/// One of which nothing is known but the page.
fn unknown() -> Trap {
    Trap { gva: None, access: 0, ..touch() }
}

fn record(ram: &GuestRam) -> TrapRecord {
    let mut bytes = [0; size_of::<TrapRecord>()];
    ram.device_view().read_slice(&mut bytes, GuestAddress(RECORDS)).unwrap();
    TrapRecord::read_from_bytes(&bytes).unwrap()
}

fn clear_busy(ram: &GuestRam) {
    ram.device_view().write_obj(0_u32, GuestAddress(RECORDS)).unwrap();
}

#[test]
fn a_matching_page_goes_away_is_reflected_and_comes_back() {
    let (i, notes, ram) = injector("read page=1: reflect");
    announce(&i, &ram, PAGE + 5, 1);
    announce(&i, &ram, PAGE + 0x1000, 2);
    assert_eq!(notes.taken(), [("arm", PAGE)]);
    assert_eq!(i.touched(PAGE, &touch()), Decision::Reflect);
    let r = record(&ram);
    assert_eq!((r.busy, r.sequence, r.gpa, r.access), (TrapRecord::BUSY, 1, PAGE + 8, access::WRITE));
    assert_eq!((r.gva, r.rip), (0xffff_8000_0000_8008, 0x1234));
    assert!(i.is_away(PAGE));
    i.page_back(PAGE + 77);
    assert_eq!(notes.taken().last(), Some(&("disarm", PAGE)));
    let (counters, log) = i.finish();
    assert!(counters.conserved());
    assert_eq!((counters.sites, counters.armed, counters.reflected, counters.asked_back), (2, 1, 1, 1));
    assert_eq!((log.len(), log[0].sequence, log[0].request, log[0].page), (1, 1, 7, 1));
}

#[test]
fn while_the_record_is_busy_nothing_more_is_reflected() {
    let (i, _notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    announce(&i, &ram, PAGE + 0x1000, 2);
    assert_eq!(i.touched(PAGE, &touch()), Decision::Reflect);
    assert_eq!(i.touched(PAGE + 0x1000, &touch()), Decision::Resolve);
    clear_busy(&ram);
    assert_eq!(i.touched(PAGE, &touch()), Decision::Reflect);
    let (counters, _) = i.finish();
    assert_eq!((counters.reflected, counters.resolved, counters.reflected_again), (1, 1, 1));
    assert!(counters.conserved());
}

#[test]
fn without_records_or_without_a_known_access_the_host_resolves() {
    let (i, notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    assert_eq!(i.touched(PAGE, &unknown()), Decision::Resolve);
    announce(&i, &ram, PAGE, 2);
    i.set_records(None);
    assert_eq!(i.touched(PAGE, &touch()), Decision::Resolve);
    assert_eq!(notes.taken().len(), 4);
    assert_eq!(i.finish().0.resolved, 2);
}

#[test]
fn processors_without_a_record_are_not_given_a_neighbours() {
    let (i, _notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    assert_eq!(i.touched(PAGE, &Trap { vcpu: 1, ..touch() }), Decision::Resolve);
}

#[test]
fn a_late_touch_is_told_from_a_foreign_one() {
    let (i, _notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    i.page_back(PAGE);
    assert_eq!(i.touched(PAGE, &touch()), Decision::Stale);
    assert_eq!(i.touched(PAGE + 0x1000, &touch()), Decision::NotMine);
    i.page_back(PAGE);
    let (counters, _) = i.finish();
    assert_eq!((counters.never_touched, counters.asked_back, counters.asked_back_idle), (1, 1, 1));
    assert!(counters.conserved());
}

#[test]
fn pages_that_must_stay_and_pages_that_are_not_ram_stay() {
    let (i, notes, ram) = injector("read: reflect");
    for (gpa, page) in [(SITES, 1), (RECORDS + 8, 2), (MIN_RAM, 3), (u64::MAX, 4)] {
        announce(&i, &ram, gpa, page);
    }
    assert!(notes.taken().is_empty());
    assert_eq!(i.finish().0.sites_refused, 4);
}

#[test]
fn a_processor_that_does_not_exist_announces_nothing() {
    let (i, notes, _ram) = injector("read: reflect");
    for processor in [16, u32::MAX] {
        i.site(processor);
    }
    assert!(notes.taken().is_empty());
    assert_eq!(i.finish().0.sites, 0);
}

#[test]
fn what_is_still_away_at_the_end_is_given_back_and_counted() {
    let (i, notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    let (counters, _) = i.finish();
    assert_eq!(notes.taken(), [("arm", PAGE), ("disarm", PAGE)]);
    assert_eq!(counters.never_touched, 1);
    assert!(counters.conserved());
}

#[test]
fn a_mechanism_that_knows_no_address_is_helped_by_the_instruction() {
    let (i, _notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    let nothing_known = Notice::RunFailed { gpa: None };
    assert_eq!(i.trapped_page(nothing_known, &[0x9000, PAGE]), Some(PAGE));
    assert_eq!(i.trapped_page(nothing_known, &[0x9000]), None);
    i.page_back(PAGE);
    assert_eq!(i.trapped_page(nothing_known, &[0x9000, PAGE]), Some(PAGE));
    assert_eq!(i.touched(PAGE, &touch()), Decision::Stale);
    assert_eq!(i.trapped_page(Notice::Interpreted { gpa: 0x9123 }, &[]), Some(0x9000));
    assert_eq!(i.trapped_page(Notice::BusError { hva: 1 }, &[]), None);
}

#[test]
fn there_is_a_limit_to_what_is_away_at_once() {
    let ram = Arc::new(GuestRam::new((AWAY_LIMIT as u64 + 64) * PAGE_SIZE).unwrap());
    let rules = vec![parse_rule("read: reflect").unwrap()];
    let i = Injector::new(ram.clone(), Box::new(Notes::default()), 1, &rules, 0);
    i.set_site_page(Some(SITES));
    for page in 0..AWAY_LIMIT as u64 + 8 {
        announce(&i, &ram, PAGE + page * PAGE_SIZE, page as u32);
    }
    let counters = i.counters();
    assert_eq!((counters.armed, counters.sites_refused), (AWAY_LIMIT as u64, 8));
    // One that comes back makes room for another.
    i.page_back(PAGE);
    announce(&i, &ram, PAGE + (AWAY_LIMIT as u64 + 9) * PAGE_SIZE, 99_999);
    assert_eq!(i.counters().armed, AWAY_LIMIT as u64 + 1);
    assert!(i.finish().0.conserved());
}

#[test]
fn a_page_that_is_away_comes_back_when_it_is_registered() {
    let (i, notes, ram) = injector("read page=1: reflect");
    announce(&i, &ram, PAGE, 1);
    assert!(i.is_away(PAGE));
    i.keep_page(0x20, Some(PAGE));
    assert!(!i.is_away(PAGE));
    assert_eq!(notes.taken(), [("arm", PAGE), ("disarm", PAGE)]);
    let (counters, _) = i.finish();
    assert!(counters.conserved() && counters.never_touched == 1);
}

/// The guest touches the page once and is told.
fn reflected(i: &Injector, ram: &GuestRam) {
    assert_eq!(i.touched(PAGE, &touch()), Decision::Reflect);
    clear_busy(ram);
}

#[test]
fn a_guest_takes_nothing_away_unless_a_rule_allows_it() {
    let (i, notes, _ram) = injector("read: reflect");
    i.page_away(PAGE, 1);
    assert!(!i.allows_guest() && notes.taken().is_empty());
    assert_eq!((i.counters().guest_asked, i.counters().guest_refused, i.counters().armed), (1, 1, 0));
}

#[test]
fn a_page_the_guest_took_away_comes_back_when_asked_for() {
    let (i, notes, ram) = injector("guest: allow");
    assert_eq!(ram.device_view().read_obj::<u64>(GuestAddress(SITES)).unwrap(), 0, "sites cost nothing");
    i.page_away(PAGE + 17, 1);
    i.page_away(PAGE, 1);
    reflected(&i, &ram);
    i.page_back(PAGE);
    // One that nobody touched comes back all the same.
    i.page_away(PAGE, 1);
    i.page_back(PAGE);
    assert!(!i.is_away(PAGE));
    assert_eq!(notes.taken(), [("arm", PAGE), ("disarm", PAGE), ("arm", PAGE), ("disarm", PAGE)]);
    let (counters, log) = i.finish();
    assert!(counters.conserved());
    assert_eq!((counters.guest_asked, counters.guest_refused), (3, 1));
    assert_eq!((counters.armed, counters.trapped, counters.never_touched), (2, 1, 1));
    assert_eq!((log.len(), log[0].request, log[0].attempt), (1, 0, 0));
}

#[test]
fn as_many_accesses_as_wished_are_reflected() {
    let (i, notes, ram) = injector("guest: allow");
    i.page_away(PAGE, 3);
    i.page_back(PAGE);
    assert!(i.is_away(PAGE), "asking before anybody touched it is in vain");
    for round in 1..=3 {
        reflected(&i, &ram);
        i.page_back(PAGE);
        assert_eq!(i.is_away(PAGE), round < 3);
    }
    // Twice in one taking-away counts twice.
    i.page_away(PAGE, 2);
    reflected(&i, &ram);
    reflected(&i, &ram);
    i.page_back(PAGE);
    assert!(!i.is_away(PAGE));
    assert_eq!(notes.taken().len(), 4, "re-armings touch no memory");
    let (counters, _) = i.finish();
    assert!(counters.conserved());
    assert_eq!((counters.reflected, counters.reflected_again), (4, 1));
}

#[test]
fn for_ever_ends_with_the_machine() {
    let (i, _notes, ram) = injector("guest: allow");
    i.page_away(PAGE, u32::MAX);
    for _ in 0..50 {
        reflected(&i, &ram);
        i.page_back(PAGE);
        assert!(i.is_away(PAGE));
    }
    let (counters, _) = i.finish();
    assert!(counters.conserved() && !i.is_away(PAGE));
    assert_eq!((counters.reflected, counters.never_touched), (50, 1));
}

#[test]
fn hostile_wishes_are_refused_and_counted() {
    let (i, notes, _ram) = injector("guest: allow");
    for gpa in [SITES, RECORDS, RECORDS + 0xfff, MIN_RAM, 1 << 50, u64::MAX] {
        i.page_away(gpa, 0);
    }
    assert!(notes.taken().is_empty());
    assert_eq!((i.counters().guest_asked, i.counters().guest_refused), (6, 6));
}

#[test]
fn a_held_touch_goes_on_after_its_time_and_the_page_is_back() {
    let (i, notes, ram) = injector("read: delay=5ms");
    announce(&i, &ram, PAGE, 1);
    let began = Instant::now();
    let Decision::Hold(held) = i.touched(PAGE, &touch()) else { panic!("not held") };
    i.hold(held, || false);
    assert!(began.elapsed() >= Duration::from_millis(5));
    assert_eq!(notes.taken(), [("arm", PAGE), ("disarm", PAGE)]);
    assert_eq!(record(&ram).busy, 0, "the guest notices nothing");
    let (counters, log) = i.finish();
    assert!(counters.conserved());
    assert_eq!((counters.delayed, counters.trapped, counters.delay_expired), (1, 1, 0));
    assert_eq!((log[0].answer, log[0].sequence), (Answer::Delayed, 0));
}

#[test]
fn a_held_touch_goes_on_when_the_machine_stops_or_the_page_is_asked_for() {
    let (i, _notes, ram) = injector("read: delay=10s");
    announce(&i, &ram, PAGE, 1);
    let Decision::Hold(held) = i.touched(PAGE, &touch()) else { panic!("not held") };
    let stopping = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| i.hold(held, || stopping.load(SeqCst)));
        std::thread::sleep(Duration::from_millis(5));
        stopping.store(true, SeqCst);
        i.interrupt();
        waits.join().unwrap();
    });
    announce(&i, &ram, PAGE + 0x1000, 2);
    let Decision::Hold(held) = i.touched(PAGE + 0x1000, &touch()) else { panic!("not held") };
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| i.hold(held, || false));
        i.page_back(PAGE + 0x1000);
        waits.join().unwrap();
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(i.finish().0.conserved());
}

#[test]
fn a_touch_is_held_until_another_or_until_patience_ends() {
    let (i, _notes, ram) = injector("read: delay until=trap");
    announce(&i, &ram, PAGE, 1);
    announce(&i, &ram, PAGE + 0x1000, 2);
    let Decision::Hold(held) = i.touched(PAGE, &touch()) else { panic!("not held") };
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| i.hold(held, || false));
        assert!(matches!(i.touched(PAGE + 0x1000, &touch_at(PAGE + 0x1000)), Decision::Hold(_)));
        waits.join().unwrap();
    });
    assert_eq!(i.counters().delay_expired, 0);
    let (i, _notes, ram) = injector("read: delay until=site");
    announce(&i, &ram, PAGE, 1);
    let Decision::Hold(held) = i.touched(PAGE, &touch()) else { panic!("not held") };
    let began = Instant::now();
    i.hold(held, || false);
    assert!((1..5).contains(&began.elapsed().as_secs()));
    assert_eq!(i.finish().0.delay_expired, 1);
}

#[test]
fn a_poisoned_page_never_comes_back() {
    for text in ["guest: allow", "read: poison"] {
        let (i, notes, ram) = injector(text);
        match text {
            "guest: allow" => i.page_away(PAGE, TIMES_POISON),
            _ => announce(&i, &ram, PAGE, 1),
        }
        // In vain, before the first touch and after each.
        i.page_back(PAGE);
        for _ in 0..3 {
            assert_eq!(i.touched(PAGE, &touch()), Decision::Poison);
            assert_eq!(record(&ram).access, access::WRITE | access::POISON);
            clear_busy(&ram);
            i.page_back(PAGE);
            assert!(i.is_away(PAGE), "{text}");
        }
        assert_eq!(notes.taken(), [("arm", PAGE)]);
        let (counters, _) = i.finish();
        assert!(counters.conserved() && !i.is_away(PAGE), "{text}");
        assert_eq!((counters.poisoned, counters.poisoned_again, counters.reflected), (1, 2, 0), "{text}");
    }
}

#[test]
fn poison_that_cannot_be_told_exactly_is_let_through() {
    let (i, _notes, ram) = injector("read: poison");
    // A guest that has a gate for page faults and none for machine checks.
    let few = Trap { vectors: 15, ..touch() };
    assert_eq!((few.deliverable(14), few.deliverable(18)), (few.gva, None));
    for (page, trap) in [(PAGE, unknown()), (PAGE + 0x1000, few)] {
        announce(&i, &ram, page, (page >> 12) as u32);
        assert_eq!(i.touched(page, &trap), Decision::Resolve);
    }
    assert_eq!((i.counters().resolved, i.counters().poisoned), (2, 0));
}

#[test]
fn a_numbered_site_is_counted_down_to_by_the_guest_alone() {
    let (i, notes, ram) = injector("nth=900: reflect");
    let countdown = || ram.device_view().read_obj::<u64>(GuestAddress(SITES)).unwrap();
    assert_eq!(countdown(), 900);
    let mut site = Site::new_zeroed();
    (site.gpa, site.pages, site.tag) = (PAGE, 17, Tag::new(fs::READ, 1, 7).0);
    ram.device_view().write_slice(site.as_bytes(), GuestAddress(SITES + 64)).unwrap();
    i.site(0);
    assert_eq!((countdown(), notes.taken()), (0, vec![("arm", PAGE)]));
    assert_eq!(i.counters().sites, 1);
    // A new run counts anew.
    i.restart(&[parse_rule("nth=7,9: reflect").unwrap()], &i.registered(), false, 0);
    assert_eq!(countdown(), 7);
    i.restart(&[parse_rule("nth=7: reflect").unwrap()], &i.registered(), true, 0);
    assert_eq!(countdown(), 1, "all are to be named");
}

#[test]
fn the_log_says_when_what_happened() {
    let (i, _notes, ram) = injector("read page=1 side=granter: reflect");
    announce(&i, &ram, PAGE, 1);
    assert_eq!(i.touched(PAGE, &touch()), Decision::Reflect);
    i.resumed(0);
    i.page_back(PAGE);
    let line = i.finish().1[0];
    let times = [line.exit_ns, line.decided_ns, line.resumed_ns, line.back_ns];
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
    assert_eq!((line.operation, line.side, line.copy), (fs::READ, Some(Side::Granter), 1));
    assert_eq!((line.vcpu, line.cpl, line.mechanism), (0, 0, "notes"));
}
