//! The device's registers: identification, negotiation, geometry (virtio 1.2, 4.2 and 5.2).

/// Registers of a virtio-mmio device, 32 bits each.
pub trait Registers {
    /// Reads a register.
    fn read(&self, offset: u64) -> u32;
    /// Writes a register.
    fn write(&mut self, offset: u64, value: u32);
}

/// Register offsets.
pub mod reg {
    /// "virt".
    pub const MAGIC: u64 = 0x000;
    /// 2 for a modern device.
    pub const VERSION: u64 = 0x004;
    /// Device type.
    pub const DEVICE_ID: u64 = 0x008;
    /// Features the device offers, 32 at a time.
    pub const DEVICE_FEATURES: u64 = 0x010;
    /// Which 32.
    pub const DEVICE_FEATURES_SELECT: u64 = 0x014;
    /// Features the driver takes.
    pub const DRIVER_FEATURES: u64 = 0x020;
    /// Which 32.
    pub const DRIVER_FEATURES_SELECT: u64 = 0x024;
    /// Which queue.
    pub const QUEUE_SELECT: u64 = 0x030;
    /// Its largest size.
    pub const QUEUE_SIZE_MAX: u64 = 0x034;
    /// Its size.
    pub const QUEUE_SIZE: u64 = 0x038;
    /// It is in use.
    pub const QUEUE_READY: u64 = 0x044;
    /// There is something in it.
    pub const QUEUE_NOTIFY: u64 = 0x050;
    /// Interrupts handled.
    pub const INTERRUPT_ACK: u64 = 0x064;
    /// Device status.
    pub const STATUS: u64 = 0x070;
    /// Descriptor table, low half; the high half follows.
    pub const QUEUE_DESCRIPTORS: u64 = 0x080;
    /// Avail ring.
    pub const QUEUE_AVAIL: u64 = 0x090;
    /// Used ring.
    pub const QUEUE_USED: u64 = 0x0a0;
    /// Changes when the configuration does.
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    /// Capacity in sectors, 64 bits.
    pub const CAPACITY: u64 = 0x100;
    /// Most segments of a request.
    pub const SEG_MAX: u64 = 0x10c;
    /// Block size.
    pub const BLOCK_SIZE: u64 = 0x114;
}

/// Feature bits this driver understands.
pub mod feature {
    /// `seg_max` is valid.
    pub const SEG_MAX: u64 = 1 << 2;
    /// Read-only device.
    pub const READ_ONLY: u64 = 1 << 5;
    /// `blk_size` is valid.
    pub const BLOCK_SIZE: u64 = 1 << 6;
    /// Flush requests.
    pub const FLUSH: u64 = 1 << 9;
    /// Indirect descriptors.
    pub const INDIRECT: u64 = 1 << 28;
    /// Event indices.
    pub const EVENT_INDEX: u64 = 1 << 29;
    /// Not legacy.
    pub const VERSION_1: u64 = 1 << 32;
    /// All of them.
    pub const WANTED: u64 = SEG_MAX | READ_ONLY | BLOCK_SIZE | FLUSH | INDIRECT | EVENT_INDEX | VERSION_1;
}

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const BLOCK_DEVICE: u32 = 2;
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const FAILED: u32 = 128;

/// What stands behind a register window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A modern block device.
    Block,
    /// A block device of the legacy kind, which this driver does not know.
    Legacy,
    /// Something else, or nothing.
    Other,
}

/// Looks at a window.
pub fn identify(registers: &impl Registers) -> Identity {
    if registers.read(reg::MAGIC) != MAGIC || registers.read(reg::DEVICE_ID) != BLOCK_DEVICE {
        return Identity::Other;
    }
    if registers.read(reg::VERSION) == 2 { Identity::Block } else { Identity::Legacy }
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Feature bits.
    pub features: u64,
    /// Entries of the queue.
    pub queue_size: u16,
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Preferred block size in bytes.
    pub block: u32,
    /// Most segments of a request.
    pub segments: u32,
}

impl Agreed {
    /// Whether a feature was agreed on.
    pub const fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }
}

/// Times that a device is asked whether its reset is over.
const RESET_TURNS: usize = 10_000;

/// Stops the device: when this answers true, it does not touch memory any more. False when it does not stop.
pub fn reset(registers: &mut impl Registers) -> bool {
    registers.write(reg::STATUS, 0);
    (0..RESET_TURNS).any(|_| registers.read(reg::STATUS) == 0)
}

/// Resets the device, agrees on features and reads the geometry; the queue comes next. `None` when the device
/// does not accept, or has no queue.
pub fn negotiate(registers: &mut impl Registers, largest_queue: u16) -> Option<Agreed> {
    if !reset(registers) {
        return None;
    }
    registers.write(reg::STATUS, ACKNOWLEDGE);
    registers.write(reg::STATUS, ACKNOWLEDGE | DRIVER);
    let mut offered = 0;
    for half in [0, 1] {
        registers.write(reg::DEVICE_FEATURES_SELECT, half);
        offered |= u64::from(registers.read(reg::DEVICE_FEATURES)) << (32 * half);
    }
    let features = offered & feature::WANTED;
    for half in [0, 1] {
        registers.write(reg::DRIVER_FEATURES_SELECT, half);
        registers.write(reg::DRIVER_FEATURES, (features >> (32 * half)) as u32);
    }
    registers.write(reg::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    let accepted = registers.read(reg::STATUS) & FEATURES_OK != 0;
    registers.write(reg::QUEUE_SELECT, 0);
    let largest = registers.read(reg::QUEUE_SIZE_MAX).min(u32::from(largest_queue)) as u16;
    if !accepted || features & feature::VERSION_1 == 0 || largest == 0 {
        registers.write(reg::STATUS, FAILED);
        return None;
    }
    let queue_size = 1 << largest.ilog2();
    // A capacity that changes while it is read is read again; one that never rests is taken as it is.
    let mut sectors = 0;
    for _ in 0..8 {
        let generation = registers.read(reg::CONFIG_GENERATION);
        sectors =
            u64::from(registers.read(reg::CAPACITY)) | (u64::from(registers.read(reg::CAPACITY + 4)) << 32);
        if registers.read(reg::CONFIG_GENERATION) == generation {
            break;
        }
    }
    let read = |present: u64, offset, otherwise| {
        if features & present != 0 { registers.read(offset) } else { otherwise }
    };
    let block = read(feature::BLOCK_SIZE, reg::BLOCK_SIZE, 512);
    let segments = read(feature::SEG_MAX, reg::SEG_MAX, u32::from(queue_size).saturating_sub(2));
    Some(Agreed { features, queue_size, sectors, block, segments: segments.max(1) })
}

/// Gives the queue to the device and lets it work.
pub fn start(registers: &mut impl Registers, queue_size: u16, descriptors: u64, avail: u64, used: u64) {
    registers.write(reg::QUEUE_SELECT, 0);
    registers.write(reg::QUEUE_SIZE, u32::from(queue_size));
    for (register, address) in
        [(reg::QUEUE_DESCRIPTORS, descriptors), (reg::QUEUE_AVAIL, avail), (reg::QUEUE_USED, used)]
    {
        registers.write(register, address as u32);
        registers.write(register + 4, (address >> 32) as u32);
    }
    registers.write(reg::QUEUE_READY, 1);
    registers.write(reg::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
