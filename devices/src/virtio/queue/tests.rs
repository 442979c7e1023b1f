//! Tests of the checks on a driver's description of a queue.

use super::*;

const RAM: u64 = 0x10_0000;

fn ram() -> DeviceMemory {
    DeviceMemory::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap()
}

fn good() -> QueueSetup {
    QueueSetup { size: 8, descriptors: 0x1000, available: 0x2002, used: 0x3004, ..QueueSetup::new(16) }
}

#[test]
fn a_good_description_becomes_the_queue_described() {
    let queue = good().build(&ram()).unwrap();
    assert!(queue.is_valid(&ram()));
    assert_eq!(queue.size(), 8);
    assert_eq!((queue.desc_table(), queue.avail_ring(), queue.used_ring()), (0x1000, 0x2002, 0x3004));
}

#[test]
fn sizes_are_powers_of_two_up_to_the_maximum() {
    for size in [1, 2, 4, 8, 16] {
        assert!(QueueSetup { size, ..good() }.build(&ram()).is_ok(), "{size}");
    }
    for size in [0, 3, 15, 32, 0x1_0000, 0x1_0008, u32::MAX] {
        let error = QueueSetup { size, ..good() }.build(&ram()).unwrap_err();
        assert_eq!(error, QueueError::Size { size, max: 16 });
    }
}

#[test]
fn areas_must_be_aligned() {
    for (setup, area) in [
        (QueueSetup { descriptors: 0x1008, ..good() }, Area::Descriptors),
        (QueueSetup { available: 0x2001, ..good() }, Area::Available),
        (QueueSetup { used: 0x3002, ..good() }, Area::Used),
    ] {
        let error = setup.build(&ram()).unwrap_err();
        assert!(matches!(error, QueueError::Alignment { area: a, .. } if a == area), "{error}");
    }
}

#[test]
fn areas_must_be_in_memory_to_their_last_byte() {
    assert!(QueueSetup { descriptors: RAM - 8 * 16, ..good() }.build(&ram()).is_ok());
    assert!(QueueSetup { available: RAM - 22, ..good() }.build(&ram()).is_ok());
    for (setup, area) in [
        (QueueSetup { descriptors: RAM - 7 * 16, ..good() }, Area::Descriptors),
        (QueueSetup { available: RAM - 20, ..good() }, Area::Available),
        (QueueSetup { used: RAM - 68, ..good() }, Area::Used),
        (QueueSetup { descriptors: 0, ..good() }, Area::Descriptors),
        (QueueSetup { available: 0, ..good() }, Area::Available),
        (QueueSetup { used: 0, ..good() }, Area::Used),
        (QueueSetup { descriptors: !15, ..good() }, Area::Descriptors),
        (QueueSetup { available: 1 << 63, ..good() }, Area::Available),
        (QueueSetup { used: !3, ..good() }, Area::Used),
    ] {
        let error = setup.build(&ram()).unwrap_err();
        assert!(matches!(error, QueueError::NotMemory { area: a, .. } if a == area), "{error}");
    }
}
