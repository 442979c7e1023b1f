//! Register tests of the transport, with a device that only remembers what was done to it.

use virtio_queue::Queue;
use vm_memory::GuestAddress;

use super::super::{Broken, DeviceMemory};
use super::*;

const FEATURES: u64 = 1 << 9 | EVENT_IDX;
const RAM: usize = 0x10_0000;

#[derive(Default)]
struct Probe {
    started: Vec<(usize, u16, u64, bool)>,
    stopped: Vec<usize>,
}

impl VirtioDevice for Probe {
    type State = usize;

    fn device_id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16, 8]
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = (offset + i) as u8;
        }
    }

    fn start_queue(&mut self, index: usize, queue: Queue, features: u64) {
        self.started.push((index, queue.size(), features, queue.event_idx_enabled()));
    }

    fn stop_queue(&mut self, index: usize) {
        self.stopped.push(index);
    }

    fn settle(&mut self) -> Work {
        Work::default()
    }

    fn save(&self) -> usize {
        self.started.len()
    }

    fn restore(&mut self, state: &usize) -> Result<(), StateError> {
        self.started.truncate(*state);
        Ok(())
    }
}

struct Machine {
    mmio: VirtioMmio<Probe>,
    line: EventFd,
}

impl Machine {
    fn new() -> Self {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let interrupt = Arc::new(Interrupt::new(line.try_clone().unwrap()));
        let ram = Arc::new(DeviceMemory::from_ranges(&[(GuestAddress(0), RAM)]).unwrap());
        Self { mmio: VirtioMmio::new(Probe::default(), interrupt, ram).unwrap(), line }
    }

    fn read(&self, offset: u32) -> u32 {
        let mut data = [0xff; 4];
        assert_eq!(Device::<()>::read(&self.mmio, offset.into(), &mut data), Access::Done, "{offset:#x}");
        u32::from_le_bytes(data)
    }

    fn try_write(&self, offset: u32, value: u32) -> Access<()> {
        self.mmio.write(offset.into(), &value.to_le_bytes())
    }

    #[track_caller]
    fn write(&self, offset: u32, value: u32) {
        assert_eq!(self.try_write(offset, value), Access::Done, "{offset:#x} = {value:#x}");
    }

    #[track_caller]
    fn refuse(&self, offset: u32, value: u32) {
        assert_eq!(self.try_write(offset, value), Access::Refused(Refusal::Forbidden), "{offset:#x}");
    }

    /// Features accepted, FEATURES_OK seen.
    fn negotiate(&self, features: u64) {
        self.write(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
        self.write(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
        for (sel, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
            self.write(reg::VIRTIO_MMIO_DRIVER_FEATURES, half);
        }
        self.write(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    }

    fn describe(&self, queue: u32, size: u32) {
        self.write(reg::VIRTIO_MMIO_QUEUE_SEL, queue);
        self.write(reg::VIRTIO_MMIO_QUEUE_NUM, size);
        let base = 0x1000 + queue * 0x3000;
        for (low, address) in [
            (reg::VIRTIO_MMIO_QUEUE_DESC_LOW, base),
            (reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW, base + 0x1000),
            (reg::VIRTIO_MMIO_QUEUE_USED_LOW, base + 0x2000),
        ] {
            self.write(low, address);
            self.write(low + 4, 0);
        }
    }

    fn live(&self) {
        self.negotiate(FEATURES | VERSION_1);
        self.describe(0, 16);
        self.write(reg::VIRTIO_MMIO_QUEUE_READY, 1);
        self.write(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }
}

#[test]
fn identity_and_features() {
    let m = Machine::new();
    assert_eq!(m.read(reg::VIRTIO_MMIO_MAGIC_VALUE), u32::from_le_bytes(*b"virt"));
    assert_eq!(m.read(reg::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(m.read(reg::VIRTIO_MMIO_DEVICE_ID), 2);
    assert_eq!(m.read(reg::VIRTIO_MMIO_VENDOR_ID), u32::from_le_bytes(*b"RFLT"));
    assert_eq!(m.read(reg::VIRTIO_MMIO_CONFIG_GENERATION), 0);
    assert_eq!(m.read(reg::VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
    for (sel, want) in [(0, FEATURES as u32), (1, 1), (2, 0), (u32::MAX, 0)] {
        m.write(reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
        assert_eq!(m.read(reg::VIRTIO_MMIO_DEVICE_FEATURES), want);
    }
}

#[test]
fn a_full_start_hands_the_ready_queues_over() {
    let m = Machine::new();
    m.live();
    assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    m.mmio.inspect(|d| assert_eq!(d.started, [(0, 16, FEATURES | VERSION_1, true)]));
    // A queue made ready afterwards starts at once.
    m.describe(1, 4);
    m.write(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(m.read(reg::VIRTIO_MMIO_QUEUE_READY), 1);
    m.mmio.inspect(|d| assert_eq!(d.started.last(), Some(&(1, 4, FEATURES | VERSION_1, true))));
    // And stops at once.
    m.write(reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(m.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
    m.mmio.inspect(|d| assert_eq!(d.stopped, [1]));
}

#[test]
fn features_are_refused_without_version_1_or_beyond_the_offer() {
    for features in [FEATURES, VERSION_1 | 1, VERSION_1 | 1 << 40, 0] {
        let m = Machine::new();
        m.negotiate(features);
        assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS), ACKNOWLEDGE | DRIVER, "{features:#x}");
        m.refuse(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        m.describe(0, 8);
        m.refuse(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    }
    let m = Machine::new();
    m.negotiate(VERSION_1);
    assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    // Agreed is agreed.
    m.refuse(reg::VIRTIO_MMIO_DRIVER_FEATURES, 0);
}

#[test]
fn status_bits_are_not_taken_back_nor_invented() {
    let m = Machine::new();
    m.refuse(reg::VIRTIO_MMIO_STATUS, DRIVER_OK);
    m.refuse(reg::VIRTIO_MMIO_STATUS, 0x100 | ACKNOWLEDGE);
    m.write(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
    m.refuse(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
    // The driver cannot say that the device needs a reset.
    m.write(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | NEEDS_RESET);
    assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS), ACKNOWLEDGE | DRIVER);
    m.write(reg::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FAILED);
    assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS), ACKNOWLEDGE | DRIVER | FAILED);
}

#[test]
fn a_queue_that_cannot_work_is_refused_and_a_reset_is_needed() {
    for spoil in [
        (reg::VIRTIO_MMIO_QUEUE_NUM, 3),
        (reg::VIRTIO_MMIO_QUEUE_NUM, 32),
        (reg::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1008),
        (reg::VIRTIO_MMIO_QUEUE_USED_LOW, RAM as u32),
        (reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 1),
    ] {
        let m = Machine::new();
        m.negotiate(FEATURES | VERSION_1);
        m.describe(0, 8);
        m.write(spoil.0, spoil.1);
        m.refuse(reg::VIRTIO_MMIO_QUEUE_READY, 1);
        assert_eq!(m.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
        assert_ne!(m.read(reg::VIRTIO_MMIO_STATUS) & NEEDS_RESET, 0);
        m.write(reg::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS), 0);
        m.live();
    }
}

#[test]
fn a_ready_queue_is_not_described_again_and_queues_that_do_not_exist_are_empty() {
    let m = Machine::new();
    m.negotiate(VERSION_1);
    m.describe(0, 8);
    m.write(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    for offset in [
        reg::VIRTIO_MMIO_QUEUE_NUM,
        reg::VIRTIO_MMIO_QUEUE_DESC_LOW,
        reg::VIRTIO_MMIO_QUEUE_DESC_HIGH,
        reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
        reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
        reg::VIRTIO_MMIO_QUEUE_USED_LOW,
        reg::VIRTIO_MMIO_QUEUE_USED_HIGH,
    ] {
        m.refuse(offset, 0);
    }
    m.refuse(reg::VIRTIO_MMIO_QUEUE_READY, 2);
    for queue in [2, u32::MAX] {
        m.write(reg::VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(m.read(reg::VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        assert_eq!(m.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
        m.refuse(reg::VIRTIO_MMIO_QUEUE_NUM, 8);
        m.refuse(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    }
    m.write(reg::VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(m.read(reg::VIRTIO_MMIO_QUEUE_NUM_MAX), 8);
}

#[test]
fn notifications_reach_the_kick_descriptors_by_either_way() {
    let m = Machine::new();
    let registers: Vec<_> = m.mmio.notify_registers().collect();
    assert_eq!(registers.iter().map(|r| (r.offset, r.datamatch)).collect::<Vec<_>>(), [(0x50, 0), (0x50, 1)]);
    m.write(reg::VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    assert!(registers[0].kick.read().is_err());
    assert_eq!(registers[1].kick.read().unwrap(), 1);
    m.refuse(reg::VIRTIO_MMIO_QUEUE_NOTIFY, 2);
    m.refuse(reg::VIRTIO_MMIO_QUEUE_NOTIFY, u32::MAX);
}

#[test]
fn work_done_interrupts_and_is_acknowledged() {
    let m = Machine::new();
    m.live();
    m.mmio.drive(|_| Work::default());
    assert!(m.line.read().is_err());
    m.mmio.drive(|_| Work { notify: true, broken: None });
    assert_eq!(m.line.read().unwrap(), 1);
    assert_eq!(m.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    m.write(reg::VIRTIO_MMIO_INTERRUPT_ACK, 2);
    assert_eq!(m.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    m.write(reg::VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_eq!(m.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_eq!(m.mmio.interrupt().raised(), 1);
}

#[test]
fn a_broken_ring_needs_a_reset_and_reset_forgets_everything() {
    let m = Machine::new();
    m.live();
    m.mmio.drive(|_| Work { notify: false, broken: Some(Broken::AvailIndex) });
    assert_eq!(m.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    assert_ne!(m.read(reg::VIRTIO_MMIO_STATUS) & NEEDS_RESET, 0);

    m.write(reg::VIRTIO_MMIO_STATUS, 0);
    assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS), 0);
    assert_eq!(m.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_eq!(m.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
    m.mmio.inspect(|d| assert_eq!(d.stopped, [0, 1]));
    m.live();
    m.mmio.inspect(|d| assert_eq!(d.started.len(), 2));
}

#[test]
fn every_offset_and_width_has_an_answer() {
    let m = Machine::new();
    m.live();
    for offset in 0..WINDOW_LEN {
        for width in 1..=9usize {
            let mut data = vec![0xff; width];
            let read = Device::<()>::read(&m.mmio, offset, &mut data);
            // Status and notify are left alone, so that the device stays live throughout.
            if offset != u64::from(reg::VIRTIO_MMIO_STATUS) {
                let written: Access<()> = m.mmio.write(offset, &vec![0xa5; width]);
                assert!(width == 4 || matches!(written, Access::Refused(_)), "{offset:#x} {width}");
            }
            let aligned = matches!(width, 1 | 2 | 4 | 8) && offset % width as u64 == 0;
            if offset >= 0x100 {
                assert_eq!(read == Access::Done, aligned, "{offset:#x} {width}");
                if aligned {
                    assert_eq!(data[0], offset as u8);
                }
            } else if width != 4 || offset % 4 != 0 {
                assert_eq!(read, Access::Refused(Refusal::Width), "{offset:#x} {width}");
            }
        }
    }
    assert_eq!(m.read(reg::VIRTIO_MMIO_STATUS) & NEEDS_RESET, 0);
    assert_eq!(m.try_write(reg::VIRTIO_MMIO_VERSION, 1), Access::Refused(Refusal::ReadOnly));
    let read = Device::<()>::read(&m.mmio, reg::VIRTIO_MMIO_QUEUE_NOTIFY.into(), &mut [0; 4]);
    assert_eq!(read, Access::Refused(Refusal::WriteOnly));
}
