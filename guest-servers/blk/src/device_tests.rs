use std::cell::Cell;
use std::collections::BTreeMap;

use super::*;

/// A device that offers `features` and remembers what was written.
struct Fake {
    features: u64,
    written: BTreeMap<u64, u32>,
    driver_features: u64,
    refuses: bool,
    /// Times that a reset is not over yet.
    busy: Cell<u32>,
    queue: u32,
    generation: Cell<u32>,
    restless: u32,
}

impl Fake {
    fn new(features: u64) -> Fake {
        Fake {
            features,
            written: BTreeMap::new(),
            driver_features: 0,
            refuses: false,
            busy: Cell::new(0),
            queue: 256,
            generation: Cell::new(0),
            restless: 1,
        }
    }

    fn value(&self, offset: u64) -> u32 {
        self.written.get(&offset).copied().unwrap_or(0)
    }
}

impl Registers for Fake {
    fn read(&self, offset: u64) -> u32 {
        match offset {
            reg::MAGIC => MAGIC,
            reg::VERSION | reg::DEVICE_ID => 2,
            reg::DEVICE_FEATURES => (self.features >> (32 * self.value(reg::DEVICE_FEATURES_SELECT))) as u32,
            reg::STATUS if self.value(offset) == 0 && self.busy.get() > 0 => {
                self.busy.set(self.busy.get() - 1);
                DRIVER_OK
            }
            reg::STATUS if self.refuses => self.value(offset) & !FEATURES_OK,
            reg::STATUS => self.value(offset),
            reg::QUEUE_SIZE_MAX => self.queue,
            // Changes while the capacity is read for the first time.
            reg::CONFIG_GENERATION => {
                self.generation.set(self.generation.get() + 1);
                self.generation.get().min(1 + self.restless)
            }
            reg::CAPACITY => 0x10,
            offset if offset == reg::CAPACITY + 4 => 1,
            reg::SEG_MAX => 126,
            reg::BLOCK_SIZE => 4096,
            _ => 0xdead_beef,
        }
    }

    fn write(&mut self, offset: u64, value: u32) {
        if offset == reg::DRIVER_FEATURES {
            self.driver_features |= u64::from(value) << (32 * self.value(reg::DRIVER_FEATURES_SELECT));
        }
        self.written.insert(offset, value);
    }
}

#[test]
fn only_known_features_are_taken() {
    let mut fake = Fake::new(u64::MAX);
    let agreed = negotiate(&mut fake, 128).unwrap();
    assert_eq!(fake.driver_features, feature::WANTED);
    let expected = Agreed {
        features: feature::WANTED,
        queue_size: 128,
        sectors: 0x1_0000_0010,
        block: 4096,
        segments: 126,
    };
    assert_eq!(agreed, expected);
    start(&mut fake, 128, 0x1_0000_1000, 0x2000, 0x3000);
    assert_eq!((fake.value(0x80), fake.value(0x84)), (0x1000, 1));
    assert_eq!(fake.value(reg::STATUS), 15);
}

#[test]
fn a_plain_device_gets_defaults() {
    let mut fake = Fake::new(feature::VERSION_1);
    fake.queue = 100;
    let agreed = negotiate(&mut fake, 128).unwrap();
    assert_eq!((agreed.queue_size, agreed.block, agreed.segments), (64, 512, 62));
    assert!(!agreed.has(feature::FLUSH));
}

#[test]
fn unusable_devices_are_given_up() {
    let mut legacy = Fake::new(feature::FLUSH);
    assert_eq!(negotiate(&mut legacy, 128), None);
    let mut refusing = Fake::new(u64::MAX);
    refusing.refuses = true;
    assert_eq!(negotiate(&mut refusing, 128), None);
    let mut queueless = Fake::new(u64::MAX);
    queueless.queue = 0;
    assert_eq!(negotiate(&mut queueless, 128), None);
    assert_eq!(queueless.value(reg::STATUS), FAILED);
    let mut restless = Fake::new(u64::MAX);
    restless.restless = u32::MAX - 1;
    assert!(negotiate(&mut restless, 128).is_some());
}

#[test]
fn a_reset_is_waited_for() {
    let mut fake = Fake::new(u64::MAX);
    fake.written.insert(reg::STATUS, 15);
    fake.busy.set(5);
    assert!(reset(&mut fake));
    assert_eq!((fake.busy.get(), fake.value(reg::STATUS)), (0, 0));
    fake.busy.set(u32::MAX);
    assert!(!reset(&mut fake), "one that never stops is not waited for for ever");
    assert_eq!(negotiate(&mut fake, 128), None);
}
