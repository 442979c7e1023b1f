//! Tests of the address table and of what unclaimed and refused accesses give.

use std::sync::Mutex;

use super::*;

/// Remembers what it was asked and gives a fixed answer.
struct Probe {
    answer: Access<u32>,
    seen: Mutex<Vec<(u64, usize)>>,
}

impl Probe {
    fn new(answer: Access<u32>) -> Arc<Self> {
        Arc::new(Self { answer, seen: Mutex::new(Vec::new()) })
    }

    fn seen(&self) -> Vec<(u64, usize)> {
        self.seen.lock().unwrap().clone()
    }
}

impl Device<u32> for Probe {
    fn read(&self, offset: u64, data: &mut [u8]) -> Access<u32> {
        assert!(data.iter().all(|b| *b == 0xff), "data must arrive holding all-ones");
        self.seen.lock().unwrap().push((offset, data.len()));
        data.fill(0x5a);
        self.answer
    }

    fn write(&self, offset: u64, data: &[u8]) -> Access<u32> {
        self.seen.lock().unwrap().push((offset, data.len()));
        self.answer
    }
}

fn window(base: u64, len: u64) -> Window {
    Window { base, len }
}

#[test]
fn finds_the_device_by_address() {
    let (low, high) = (Probe::new(Access::Done), Probe::new(Access::Then(7)));
    let mut bus = Bus::new();
    bus.insert("high", window(0x2000, 0x1000), high.clone()).unwrap();
    bus.insert("low", window(0x1000, 0x1000), low.clone()).unwrap();

    let mut data = [0; 4];
    assert_eq!(bus.read(0x1ffc, &mut data), Access::Done);
    assert_eq!(data, [0x5a; 4]);
    assert_eq!(bus.write(0x2000, &[1, 2]), Access::Then(7));
    assert_eq!(low.seen(), [(0xffc, 4)]);
    assert_eq!(high.seen(), [(0, 2)]);
    assert_eq!(bus.windows().map(|(n, _)| n).collect::<Vec<_>>(), ["low", "high"]);
    assert_eq!(bus.counts(), BusCounts { claimed: 2, ..BusCounts::default() });
}

#[test]
fn an_unclaimed_access_is_answered_and_counted() {
    let device = Probe::new(Access::Done);
    let mut bus = Bus::new();
    bus.insert("probe", window(0x1000, 0x10), device.clone()).unwrap();

    for addr in [0, 0xfff, 0x100d, 0x1010, u64::MAX, u64::MAX - 3] {
        let mut data = [0; 4];
        assert_eq!(bus.read(addr, &mut data), Access::Refused(Refusal::Unclaimed), "{addr:#x}");
        assert_eq!(data, [0xff; 4]);
        assert_eq!(bus.write(addr, &data), Access::Refused(Refusal::Unclaimed), "{addr:#x}");
    }
    assert_eq!(bus.read(0x1000, &mut []), Access::Refused(Refusal::Unclaimed));
    assert!(device.seen().is_empty());
    let counts = bus.counts();
    assert_eq!((counts.unclaimed_reads, counts.unclaimed_writes, counts.claimed), (7, 6, 0));
}

#[test]
fn a_refused_read_shows_the_guest_nothing() {
    let mut bus = Bus::new();
    bus.insert("probe", window(0, 8), Probe::new(Access::Refused(Refusal::WriteOnly))).unwrap();
    let mut data = [0; 2];
    assert_eq!(bus.read(0, &mut data), Access::Refused(Refusal::WriteOnly));
    assert_eq!(data, [0xff; 2]);
    assert_eq!(bus.counts().refused, 1);
}

#[test]
fn overlap_and_bad_windows_are_refused() {
    let mut bus = Bus::new();
    let device = Probe::new(Access::Done);
    bus.insert("first", window(0x1000, 0x100), device.clone()).unwrap();
    for (base, len) in [(0xfff, 2), (0x10ff, 1), (0x1000, 0x100), (0x1010, 1), (0, 0x1_0000)] {
        let error = bus.insert("second", window(base, len), device.clone()).unwrap_err();
        assert!(matches!(error, BusError::Overlap { .. }), "{base:#x}+{len:#x}: {error}");
        assert!(error.to_string().contains("first") && error.to_string().contains("second"));
    }
    for (base, len) in [(0, 0), (u64::MAX, 2)] {
        let error = bus.insert("second", window(base, len), device.clone()).unwrap_err();
        assert!(matches!(error, BusError::BadWindow { .. }), "{error}");
    }
    bus.insert("below", window(0xfff, 1), device.clone()).unwrap();
    bus.insert("above", window(0x1100, 1), device.clone()).unwrap();
    bus.insert("end", window(u64::MAX, 1), device).unwrap();
}

#[test]
fn string_transfers_all_go_to_one_port() {
    let device = Probe::new(Access::Done);
    let mut bus = Bus::new();
    bus.insert("probe", window(0x3f8, 8), device.clone()).unwrap();
    let mut data = [0; 64];
    assert_eq!(bus.port_in(0x3f8, 1, &mut data), Access::Done);
    assert_eq!(data, [0x5a; 64]);
    assert_eq!(bus.port_out(0x3fc, 4, &[0; 8]), Access::Done);
    let seen = device.seen();
    assert_eq!(seen.len(), 66);
    assert!(seen[..64].iter().all(|s| *s == (0, 1)));
    assert_eq!(seen[64..], [(4, 4), (4, 4)]);
}

#[test]
fn a_string_transfer_stops_where_the_monitor_has_to_act() {
    let device = Probe::new(Access::Then(9));
    let mut bus = Bus::new();
    bus.insert("probe", window(0xf4, 4), device.clone()).unwrap();
    assert_eq!(bus.port_out(0xf4, 1, &[1, 2, 3]), Access::Then(9));
    assert_eq!(device.seen().len(), 1);
}
