use std::boxed::Box;
use std::vec::Vec;

use super::*;

fn memory() -> Box<Memory> {
    // SAFETY: all fields are atomics, for which zeroes are valid.
    unsafe { Box::<Memory>::new_zeroed().assume_init() }
}

fn piece(address: u64, bytes: u32, device_writes: bool) -> Piece {
    Piece { address, bytes, device_writes }
}

/// The device's side, as the specification describes it.
struct Device<'m> {
    memory: &'m Memory,
    size: u16,
    avail: u16,
    used: u16,
}

impl Device<'_> {
    fn fetch(&mut self) -> Option<(u16, Vec<Piece>)> {
        if self.memory.avail_index.load(Ordering::Acquire) == self.avail {
            return None;
        }
        let head = self.memory.avail[usize::from(self.avail % self.size)].load(Ordering::Relaxed);
        self.avail = self.avail.wrapping_add(1);
        let mut pieces = Vec::new();
        let mut index = head;
        loop {
            let descriptor = &self.memory.descriptors[usize::from(index)];
            let rest = descriptor.rest.load(Ordering::Relaxed);
            let flags = (rest >> 32) as u16 as u64;
            let address = descriptor.address.load(Ordering::Relaxed);
            pieces.push(piece(address, rest as u32, flags & DEVICE_WRITES != 0));
            if flags & NEXT == 0 {
                return Some((head, pieces));
            }
            index = (rest >> 48) as u16;
        }
    }

    fn put(&mut self, head: u32, bytes: u32) {
        let place = 2 * usize::from(self.used % self.size);
        self.memory.used[place].store(head, Ordering::Relaxed);
        self.memory.used[place + 1].store(bytes, Ordering::Relaxed);
        self.used = self.used.wrapping_add(1);
        self.memory.used_index.store(self.used, Ordering::Release);
    }
}

#[test]
fn chains_reach_the_device_and_come_back_in_any_order() {
    let memory = memory();
    let mut ring = Ring::new(&memory, 8, false);
    let mut device = Device { memory: &memory, size: 8, avail: 0, used: 0 };
    // Long enough for every index to wrap.
    for round in 0..40_000u64 {
        let first = [piece(round, 16, false), piece(round + 1, 512, true), piece(round + 2, 1, true)];
        let second = [piece(7, 16, false), piece(8, 1, true)];
        let heads = [ring.add(&first).unwrap(), ring.add(&second).unwrap()];
        assert_eq!(ring.add(&[first[0]; 4]), None);
        assert!(ring.publish());
        assert_eq!(device.fetch(), Some((heads[0], first.to_vec())));
        assert_eq!(device.fetch(), Some((heads[1], second.to_vec())));
        assert_eq!(device.fetch(), None);
        assert!(!ring.has_used());
        device.put(u32::from(heads[1]), 1);
        device.put(u32::from(heads[0]), 513);
        assert_eq!(ring.next_used(), Ok(Some(Used { head: heads[1], bytes: 1 })));
        assert_eq!(ring.next_used(), Ok(Some(Used { head: heads[0], bytes: 513 })));
        assert_eq!(ring.next_used(), Ok(None));
    }
    assert_eq!(ring.free_count, 8);
}

#[test]
fn a_device_that_talks_nonsense_is_not_followed() {
    for (head, ahead) in [(8, 1), (0xffff_ffff, 1), (3, 1), (0, 9)] {
        let memory = memory();
        let mut ring = Ring::new(&memory, 8, false);
        ring.add(&[piece(1, 1, true)]).unwrap();
        ring.publish();
        let mut device = Device { memory: &memory, size: 8, avail: 0, used: 0 };
        for _ in 0..ahead {
            device.put(head, 0);
        }
        assert_eq!(ring.next_used(), Err(Nonsense));
    }
    // The same buffer twice.
    let memory = memory();
    let mut ring = Ring::new(&memory, 8, false);
    let head = ring.add(&[piece(1, 1, true)]).unwrap();
    let mut device = Device { memory: &memory, size: 8, avail: 0, used: 0 };
    device.put(u32::from(head), 0);
    device.put(u32::from(head), 0);
    assert!(ring.next_used().unwrap().is_some());
    assert_eq!(ring.next_used(), Err(Nonsense));
}

#[test]
fn notifications_are_sent_when_the_device_asks() {
    let memory = memory();
    let mut ring = Ring::new(&memory, 4, true);
    let avail_event = &memory.used[8];
    let used_event = &memory.avail[4];
    ring.add(&[piece(1, 1, true)]).unwrap();
    assert!(ring.publish());
    ring.add(&[piece(1, 1, true)]).unwrap();
    // The device still wants index 0 only.
    assert!(!ring.publish());
    avail_event.store(2, Ordering::Relaxed);
    ring.add(&[piece(1, 1, true)]).unwrap();
    assert!(ring.publish());
    ring.want_interrupt(false);
    assert_eq!(used_event.load(Ordering::Relaxed), 0xffff);
    ring.want_interrupt(true);
    assert_eq!(used_event.load(Ordering::Relaxed), 0);

    let memory = super::tests::memory();
    let mut ring = Ring::new(&memory, 4, false);
    memory.used_flags.store(NO_NOTIFY, Ordering::Relaxed);
    ring.add(&[piece(1, 1, true)]).unwrap();
    assert!(!ring.publish());
    ring.want_interrupt(false);
    assert_eq!(memory.avail_flags.load(Ordering::Relaxed), NO_INTERRUPT);
}

#[test]
fn an_indirect_request_takes_one_descriptor() {
    let memory = memory();
    let table: Vec<RawDescriptor> =
        (0..4).map(|_| RawDescriptor { address: AtomicU64::new(0), rest: AtomicU64::new(0) }).collect();
    let mut ring = Ring::new(&memory, 2, false);
    let pieces = [piece(1, 2, false), piece(3, 4, true), piece(5, 6, true)];
    let head = ring.add_indirect(&table, 0x9000, &pieces).unwrap();
    assert_eq!(ring.free_count, 1);
    let rest = memory.descriptors[usize::from(head)].rest.load(Ordering::Relaxed);
    assert_eq!((rest as u32, (rest >> 32) as u16 as u64), (48, INDIRECT));
    assert_eq!(table[0].rest.load(Ordering::Relaxed), 2 | NEXT << 32 | 1 << 48);
    assert_eq!(table[2].rest.load(Ordering::Relaxed), 6 | DEVICE_WRITES << 32);
    assert_eq!(ring.add_indirect(&table, 0x9000, &[pieces[0]; 5]), None);
}
