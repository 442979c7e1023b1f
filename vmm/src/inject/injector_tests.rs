//! Decisions and sums, with a mechanism that only takes notes.

use super::*;
use crate::inject::parse_rule;
use crate::memory::MIN_RAM;
use refault_abi::fs;
use refault_abi::grant::Tag;
use std::io;

const SITES: u64 = 0x3000;
const RECORDS: u64 = 0x4000;
const PAGE: u64 = 0x8000;

#[derive(Debug, Default, Clone)]
struct Notes(Arc<Mutex<Vec<(&'static str, u64)>>>);

impl Notes {
    fn taken(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().unwrap().clone()
    }
}

impl Mechanism for Notes {
    fn name(&self) -> &'static str {
        "notes"
    }
    fn arm(&self, page: u64) -> io::Result<()> {
        self.0.lock().unwrap().push(("arm", page));
        Ok(())
    }
    fn disarm(&self, page: u64) -> io::Result<()> {
        self.0.lock().unwrap().push(("disarm", page));
        Ok(())
    }
    fn trapped(&self, notice: Notice) -> TrapPage {
        match notice {
            Notice::RunFailed { gpa: None } => TrapPage::Unknown,
            Notice::Interpreted { gpa } => TrapPage::Known(gpa & !0xfff),
            _ => TrapPage::NotMine,
        }
    }
}

fn injector(rule: &str) -> (Injector, Notes, Arc<GuestRam>) {
    let ram = Arc::new(GuestRam::new(MIN_RAM).unwrap());
    let notes = Notes::default();
    let injector = Injector::new(ram.clone(), Box::new(notes.clone()), 1, vec![parse_rule(rule).unwrap()]);
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

fn touch() -> Option<Touch> {
    Some(Touch { gpa: PAGE + 8, gva: 0xffff_8000_0000_8008, rip: 0x1234, access: access::WRITE })
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
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Reflect);
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
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Reflect);
    assert_eq!(i.touched(PAGE + 0x1000, 0, touch()), Decision::Resolve);
    clear_busy(&ram);
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Reflect);
    let (counters, _) = i.finish();
    assert_eq!((counters.reflected, counters.resolved, counters.reflected_again), (1, 1, 1));
    assert!(counters.conserved());
}

#[test]
fn without_records_or_without_a_known_access_the_host_resolves() {
    let (i, notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    assert_eq!(i.touched(PAGE, 0, None), Decision::Resolve);
    announce(&i, &ram, PAGE, 2);
    i.set_records(None);
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Resolve);
    assert_eq!(notes.taken().len(), 4);
    assert_eq!(i.finish().0.resolved, 2);
}

#[test]
fn processors_without_a_record_are_not_given_a_neighbours() {
    let (i, _notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    assert_eq!(i.touched(PAGE, 1, touch()), Decision::Resolve);
}

#[test]
fn a_late_touch_is_told_from_a_foreign_one() {
    let (i, _notes, ram) = injector("read: reflect");
    announce(&i, &ram, PAGE, 1);
    i.page_back(PAGE);
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Stale);
    assert_eq!(i.touched(PAGE + 0x1000, 0, touch()), Decision::NotMine);
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
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Stale);
    assert_eq!(i.trapped_page(Notice::Interpreted { gpa: 0x9123 }, &[]), Some(0x9000));
    assert_eq!(i.trapped_page(Notice::BusError { hva: 1 }, &[]), None);
}

#[test]
fn there_is_a_limit_to_what_is_away_at_once() {
    let ram = Arc::new(GuestRam::new((AWAY_LIMIT as u64 + 64) * PAGE_SIZE).unwrap());
    let rules = vec![parse_rule("read: reflect").unwrap()];
    let i = Injector::new(ram.clone(), Box::new(Notes::default()), 1, rules);
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
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Reflect);
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

/// The guest touches the poisoned page and is told by a machine check.
fn poisoned(i: &Injector, ram: &GuestRam) {
    assert_eq!(i.touched(PAGE, 0, touch()), Decision::Poison);
    assert_eq!(record(ram).access, access::WRITE | access::POISON);
    clear_busy(ram);
}

#[test]
fn a_poisoned_page_never_comes_back() {
    let wish = |i: &Injector, _: &GuestRam| i.page_away(PAGE, TIMES_POISON);
    let rule = |i: &Injector, ram: &GuestRam| announce(i, ram, PAGE, 1);
    let ways: [(&str, &dyn Fn(&Injector, &GuestRam)); 2] = [("guest: allow", &wish), ("read: poison", &rule)];
    for (text, begin) in ways {
        let (i, notes, ram) = injector(text);
        begin(&i, &ram);
        i.page_back(PAGE);
        for _ in 0..3 {
            poisoned(&i, &ram);
            i.page_back(PAGE);
            assert!(i.is_away(PAGE), "{text}");
        }
        assert_eq!(notes.taken(), [("arm", PAGE)]);
        let (counters, _) = i.finish();
        assert!(counters.conserved() && !i.is_away(PAGE), "{text}");
        assert_eq!((counters.armed, counters.poisoned, counters.poisoned_again), (1, 1, 2), "{text}");
        assert_eq!(counters.reflected + counters.reflected_again, 0);
    }
}
