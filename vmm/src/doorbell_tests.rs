//! The window from the guest's side, with a guest that lies.

use super::*;
use crate::memory::MIN_RAM;
use refault_abi::doorbell::event;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

fn doorbell() -> (Doorbell, UnboundedReceiver<VmEvent>) {
    let ram = Arc::new(GuestRam::new(MIN_RAM).unwrap());
    let console = Arc::new(ConsoleTimes::new(Instant::now()));
    let (news, heard) = unbounded_channel();
    (Doorbell::new(ram, None, 1, Instant::now(), console, news), heard)
}

fn read(doorbell: &Doorbell, offset: u64) -> Option<u32> {
    let mut data = [0; 4];
    (doorbell.read(offset, &mut data) == Access::Done).then_some(u32::from_le_bytes(data))
}

#[test]
fn it_says_what_it_is() {
    let (d, _heard) = doorbell();
    assert_eq!(read(&d, reg::MAGIC), Some(MAGIC));
    assert_eq!(read(&d, reg::VERSION), Some(VERSION));
    assert_eq!(read(&d, reg::FEATURES), Some(feature::REPORT | feature::ARGUMENT));
    assert_eq!(read(&d, reg::EVENT), None);
    assert_eq!(d.read(reg::MAGIC, &mut [0; 8]), Access::Refused(Refusal::Width));
}

#[test]
fn an_argument_is_read_whole_or_in_halves() {
    let (d, _heard) = doorbell();
    let whole = |d: &Doorbell| {
        let mut data = [0xee; 8];
        assert_eq!(d.read(reg::ARGUMENT, &mut data), Access::Done);
        u64::from_le_bytes(data)
    };
    assert_eq!(whole(&d), 0);
    d.set_argument(0x0123_4567_89ab_cdef);
    assert_eq!(whole(&d), 0x0123_4567_89ab_cdef);
    assert_eq!(read(&d, reg::ARGUMENT), Some(0x89ab_cdef));
    assert_eq!(read(&d, reg::ARGUMENT + 4), Some(0x0123_4567));
    assert_eq!(d.read(reg::ARGUMENT, &mut [0; 2]), Access::Refused(Refusal::Width));
    assert_eq!(d.read(reg::ARGUMENT + 4, &mut [0; 8]), Access::Refused(Refusal::Width));
    // Nothing that the guest writes changes it.
    assert_eq!(d.write(reg::ARGUMENT, &[0; 8]), Access::Refused(Refusal::ReadOnly));
    assert_eq!(d.write(reg::ARGUMENT, &[0; 4]), Access::Refused(Refusal::ReadOnly));
    assert_eq!(d.write(reg::ARGUMENT + 4, &[0; 4]), Access::Refused(Refusal::ReadOnly));
    assert_eq!(whole(&d), 0x0123_4567_89ab_cdef);
}

#[test]
fn events_arrive_whole_or_in_halves() {
    let (d, mut heard) = doorbell();
    let value = u64::from(event::CASE_BEGIN) | 77 << 32;
    assert_eq!(d.write(reg::EVENT, &value.to_le_bytes()), Access::Done);
    assert_eq!(d.write(reg::EVENT, &event::READY.to_le_bytes()), Access::Done);
    assert_eq!(d.write(reg::EVENT + 4, &0_u32.to_le_bytes()), Access::Then(Action::Ready));
    let codes: Vec<(u32, u32)> = std::iter::from_fn(|| match heard.try_recv().ok()? {
        VmEvent::Guest(event) => Some((event.code, event.value)),
        _ => None,
    })
    .collect();
    assert_eq!(codes, [(event::CASE_BEGIN, 77), (event::READY, 0)]);
    assert_eq!(d.write(reg::EVENT + 4, &[0; 4]), Access::Refused(Refusal::NoRegister));
    for register in [reg::TRAP_RECORDS, reg::SITE_PAGE, reg::COUNTERS, reg::REPORT_PAGE, reg::PAGE_BACK] {
        assert_eq!(d.write(register, &0x4000_u32.to_le_bytes()), Access::Done);
        assert_eq!(d.write(register + 4, &0_u32.to_le_bytes()), Access::Done);
    }
    assert_eq!(d.lock().counters_page, Some(0x4000));
}

#[test]
fn the_argument_is_read_whole_or_in_halves() {
    let (d, _heard) = doorbell();
    d.begin(&d.registers(), 0x1122_3344_5566_7788);
    let mut whole = [0; 8];
    assert_eq!(d.read(reg::ARGUMENT, &mut whole), Access::Done);
    assert_eq!(u64::from_le_bytes(whole), 0x1122_3344_5566_7788);
    assert_eq!(read(&d, reg::ARGUMENT), Some(0x5566_7788));
    assert_eq!(read(&d, reg::ARGUMENT + 4), Some(0x1122_3344));
    assert_eq!(d.write(reg::ARGUMENT, &[0; 8]), Access::Refused(Refusal::ReadOnly));
}

#[test]
fn reports_come_from_the_page_and_no_further() {
    let (d, mut heard) = doorbell();
    assert_eq!(d.write(reg::REPORT, &4_u32.to_le_bytes()), Access::Refused(Refusal::Forbidden));
    assert_eq!(d.write(reg::REPORT_PAGE, &0x3000_u64.to_le_bytes()), Access::Done);
    d.ram.device_view().write_slice(b"got 4096", GuestAddress(0x3000)).unwrap();
    assert_eq!(d.write(reg::REPORT, &8_u32.to_le_bytes()), Access::Done);
    assert!(matches!(heard.try_recv(), Ok(VmEvent::Report(text)) if text == "got 4096"));
    assert_eq!(d.write(reg::REPORT, &4097_u32.to_le_bytes()), Access::Refused(Refusal::Forbidden));
}

#[test]
fn addresses_that_are_not_ram_are_refused() {
    let (d, _heard) = doorbell();
    for register in [reg::TRAP_RECORDS, reg::SITE_PAGE, reg::COUNTERS, reg::REPORT_PAGE, reg::PAGE_BACK] {
        for bad in [MIN_RAM, u64::MAX, 1 << 63] {
            assert_eq!(d.write(register, &bad.to_le_bytes()), Access::Refused(Refusal::Forbidden));
        }
    }
    assert_eq!(d.write(reg::COUNTERS, &0x1008_u64.to_le_bytes()), Access::Refused(Refusal::Forbidden));
}

#[test]
fn counters_are_read_when_asked_for() {
    let (d, _heard) = doorbell();
    assert!(d.guest_counters().is_empty());
    assert_eq!(d.write(reg::COUNTERS, &0x4000_u64.to_le_bytes()), Access::Done);
    d.ram.device_view().write_obj(9_u64, GuestAddress(0x4000 + 8 * 7)).unwrap();
    let counters = d.guest_counters();
    assert_eq!((counters.len(), counters[7]), (WORDS, 9));
}

#[test]
fn a_talkative_guest_is_cut_off() {
    let (d, mut heard) = doorbell();
    for _ in 0..NEWS_LIMIT + 10 {
        assert_eq!(d.write(reg::EVENT, &[0; 8]), Access::Done);
    }
    let mut count = 0;
    while heard.try_recv().is_ok() {
        count += 1;
    }
    assert_eq!(count, NEWS_LIMIT);
}

#[test]
fn a_panic_is_heard_whatever_came_before() {
    let (d, mut heard) = doorbell();
    for _ in 0..NEWS_LIMIT + 10 {
        assert_eq!(d.write(reg::EVENT, &[0; 8]), Access::Done);
    }
    for _ in 0..2 {
        assert_eq!(d.write(reg::EVENT, &u64::from(event::PANIC).to_le_bytes()), Access::Done);
    }
    let all: Vec<u32> = std::iter::from_fn(|| match heard.try_recv().ok()? {
        VmEvent::Guest(event) => Some(event.code),
        _ => None,
    })
    .collect();
    assert_eq!(all.len() as u64, NEWS_LIMIT + 1);
    assert_eq!(all.last(), Some(&event::PANIC));
}

#[test]
fn trap_records_lie_in_one_page() {
    let ram = Arc::new(GuestRam::new(MIN_RAM).unwrap());
    let console = Arc::new(ConsoleTimes::new(Instant::now()));
    let d = Doorbell::new(ram, None, 2, Instant::now(), console, unbounded_channel().0);
    assert_eq!(d.write(reg::TRAP_RECORDS, &0x4f80_u64.to_le_bytes()), Access::Done);
    assert_eq!(d.write(reg::TRAP_RECORDS, &0x4fc0_u64.to_le_bytes()), Access::Refused(Refusal::Forbidden));
}

#[test]
fn pages_go_away_only_where_a_rule_allows_it() {
    let (d, _heard) = doorbell();
    assert_eq!(d.write(reg::AWAY_TIMES, &2_u32.to_le_bytes()), Access::Done);
    assert_eq!(d.write(reg::PAGE_AWAY, &0x5000_u64.to_le_bytes()), Access::Refused(Refusal::Forbidden));
    assert_eq!(read(&d, reg::PAGE_AWAY), None);
    assert_eq!(read(&d, reg::AWAY_TIMES), None);
}

#[test]
fn the_first_graph_of_a_wedged_guest_is_told() {
    let (d, mut heard) = doorbell();
    let wedged = |bytes: u64| (u64::from(event::WEDGED) | bytes << 32).to_le_bytes();
    assert_eq!(d.write(reg::REPORT_PAGE, &0x3000_u64.to_le_bytes()), Access::Done);
    d.ram.device_view().write_slice(b"wait-for: mfs -> vm", GuestAddress(0x3000)).unwrap();
    for bytes in [19, 5, 4097] {
        assert_eq!(d.write(reg::EVENT, &wedged(bytes)), Access::Done);
    }
    let graphs: Vec<String> = std::iter::from_fn(|| heard.try_recv().ok())
        .filter_map(|news| match news {
            VmEvent::Wedged(text) => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(graphs, ["wait-for: mfs -> vm"]);
}

#[test]
fn pages_of_a_class_can_be_named_and_nothing_else() {
    use crate::inject::notes::injector_for;
    let (injector, notes, ram) = injector_for(&["gpa=ram class=granttables: delay=0s"], 0);
    injector.arm_memory(std::collections::BTreeMap::new());
    let console = Arc::new(ConsoleTimes::new(Instant::now()));
    let (news, _heard) = unbounded_channel();
    let d = Doorbell::new(ram, Some(Arc::new(injector)), 1, Instant::now(), console, news);
    assert_ne!(read(&d, reg::FEATURES).unwrap() & feature::CLASSES, 0);
    let name = |value: u64| d.write(reg::CLASS_PAGE, &value.to_le_bytes());
    // A class that is none, and what is no RAM.
    for bad in [0x8003, 0x8fff, MIN_RAM | 1, !0xfff | 1] {
        assert_eq!(name(bad), Access::Refused(Refusal::Forbidden), "{bad:#x}");
    }
    assert_eq!(read(&d, reg::CLASS_PAGE), None);
    assert!(notes.taken().is_empty());
    assert_eq!(name(0x8001), Access::Done);
    // In halves, too.
    assert_eq!(d.write(reg::CLASS_PAGE, &0x9001_u32.to_le_bytes()), Access::Done);
    assert_eq!(d.write(reg::CLASS_PAGE + 4, &0_u32.to_le_bytes()), Access::Done);
    assert_eq!(notes.taken(), [("arm", 0x8000), ("arm", 0x9000)]);
    let (without, _heard) = doorbell();
    assert_eq!(without.write(reg::CLASS_PAGE, &[0; 8]), Access::Refused(Refusal::Forbidden));
}
