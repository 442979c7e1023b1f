//! The virtio-mmio transport, version 2: registers, feature negotiation, queue set-up, reset.
//!
//! [`VirtioMmio`] is a bus device for vCPU threads and the holder of a [`VirtioDevice`] for the device loop,
//! which enters by [`VirtioMmio::drive`]. One lock covers both; the interrupt registers are outside it.
//!
//! The one thing to hold in mind: the driver's order of doing things is checked, not assumed. A register
//! written at the wrong moment is refused and changes nothing; a queue that cannot work, or a ring found broken
//! later, puts DEVICE_NEEDS_RESET in the status, and only a reset leads out.
//!
//! Notifications do not pass through here as a rule: [`VirtioMmio::notify_registers`] says what to register as
//! ioeventfds. A notification written through the bus all the same does what the ioeventfd would have done.

use std::io;
use std::sync::{Arc, Mutex};

use virtio_bindings::{virtio_config as config, virtio_mmio as reg, virtio_ring as ring};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::interrupt::Interrupt;
use super::queue::QueueSetup;
use super::{GuestRam, StateError, VirtioDevice, Work};
use crate::bus::{Access, Device, Refusal};
use crate::sync::lock;

mod state;
#[cfg(test)]
mod tests;

pub use state::MmioState;

/// Length of a device's window, bytes: control registers and 256 bytes of configuration space.
pub const WINDOW_LEN: u64 = 0x200;
/// "virt", the first register.
const MAGIC: u32 = 0x7472_6976;
/// Version of the register layout.
const VERSION: u32 = 2;
/// "RFLT", the vendor register.
const VENDOR: u32 = 0x544c_4652;

/// Every feature set must hold this one: the device is not a legacy device.
const VERSION_1: u64 = 1 << config::VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << ring::VIRTIO_RING_F_EVENT_IDX;

const ACKNOWLEDGE: u32 = config::VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = config::VIRTIO_CONFIG_S_DRIVER;
const DRIVER_OK: u32 = config::VIRTIO_CONFIG_S_DRIVER_OK;
const FEATURES_OK: u32 = config::VIRTIO_CONFIG_S_FEATURES_OK;
const NEEDS_RESET: u32 = config::VIRTIO_CONFIG_S_NEEDS_RESET;
const FAILED: u32 = config::VIRTIO_CONFIG_S_FAILED;

/// A register write that the monitor may turn into a signal of an event descriptor (ioeventfd).
#[derive(Debug)]
pub struct NotifyRegister<'a> {
    /// Offset in the device's window.
    pub offset: u64,
    /// Value that must be written, as 4 bytes: the queue's number.
    pub datamatch: u32,
    /// What to signal.
    pub kick: &'a EventFd,
}

/// A virtio device reached through memory-mapped registers. See the [module documentation](self).
pub struct VirtioMmio<D> {
    ram: GuestRam,
    interrupt: Arc<Interrupt>,
    kicks: Vec<EventFd>,
    state: Mutex<State<D>>,
}

struct State<D> {
    device: D,
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueSetup>,
}

impl<D: VirtioDevice> VirtioMmio<D> {
    /// Puts `device` behind registers. `ram` is the devices' view of guest memory.
    pub fn new(device: D, interrupt: Arc<Interrupt>, ram: GuestRam) -> io::Result<Self> {
        let queues: Vec<_> = device.queue_sizes().iter().map(|max| QueueSetup::new(*max)).collect();
        let kicks = queues.iter().map(|_| EventFd::new(EFD_NONBLOCK)).collect::<io::Result<_>>()?;
        let state = Mutex::new(State {
            device,
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            queues,
        });
        Ok(Self { ram, interrupt, kicks, state })
    }

    /// What to register as ioeventfds, one for each queue.
    pub fn notify_registers(&self) -> impl Iterator<Item = NotifyRegister<'_>> {
        (0u32..).zip(&self.kicks).map(|(datamatch, kick)| NotifyRegister {
            offset: u64::from(reg::VIRTIO_MMIO_QUEUE_NOTIFY),
            datamatch,
            kick,
        })
    }

    /// Lets the device loop work on the device, then does what the work asks for.
    pub fn drive(&self, work: impl FnOnce(&mut D) -> Work) {
        let mut state = lock(&self.state);
        let work = work(&mut state.device);
        self.conclude(&mut state, work);
    }

    /// Does what a device's work asks for.
    fn conclude(&self, state: &mut State<D>, Work { notify, broken }: Work) {
        if notify {
            self.interrupt.used_buffers();
        }
        if let Some(broken) = broken {
            tracing::warn!(device = state.device.device_id(), %broken, "virtio device needs a reset");
            state.status |= NEEDS_RESET;
            if state.status & DRIVER_OK != 0 {
                self.interrupt.config_changed();
            }
        }
    }

    /// Looks at the device without driving it.
    pub fn inspect<R>(&self, look: impl FnOnce(&D) -> R) -> R {
        look(&lock(&self.state).device)
    }

    /// The device status register.
    pub fn status(&self) -> u32 {
        lock(&self.state).status
    }

    /// Where the rings that are in use lie: first byte and length of each area.
    pub fn ring_areas(&self) -> Vec<(u64, u64)> {
        let state = lock(&self.state);
        let ready = state.queues.iter().filter(|queue| queue.ready);
        ready
            .flat_map(|queue| {
                let size = u64::from(queue.size);
                [(queue.descriptors, size * 16), (queue.available, 6 + size * 2), (queue.used, 6 + size * 8)]
            })
            .collect()
    }

    /// The interrupt that the device raises.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    fn read_register(&self, offset: u32) -> Result<u32, Refusal> {
        // First what needs no lock.
        match offset {
            reg::VIRTIO_MMIO_MAGIC_VALUE => return Ok(MAGIC),
            reg::VIRTIO_MMIO_VERSION => return Ok(VERSION),
            reg::VIRTIO_MMIO_VENDOR_ID => return Ok(VENDOR),
            reg::VIRTIO_MMIO_INTERRUPT_STATUS => return Ok(self.interrupt.status()),
            // The configuration never changes while a machine runs.
            reg::VIRTIO_MMIO_CONFIG_GENERATION => return Ok(0),
            // No shared memory regions: lengths and bases of all-ones.
            reg::VIRTIO_MMIO_SHM_LEN_LOW..=reg::VIRTIO_MMIO_SHM_BASE_HIGH => return Ok(u32::MAX),
            _ => {}
        }
        let state = lock(&self.state);
        match offset {
            reg::VIRTIO_MMIO_DEVICE_ID => Ok(state.device.device_id()),
            reg::VIRTIO_MMIO_DEVICE_FEATURES => Ok(match state.device_features_sel {
                0 => (state.offered() & u64::from(u32::MAX)) as u32,
                1 => (state.offered() >> 32) as u32,
                _ => 0,
            }),
            reg::VIRTIO_MMIO_QUEUE_NUM_MAX => Ok(state.selected().map_or(0, |q| u32::from(q.max))),
            reg::VIRTIO_MMIO_QUEUE_READY => Ok(state.selected().map_or(0, |q| u32::from(q.ready))),
            reg::VIRTIO_MMIO_STATUS => Ok(state.status),
            reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL
            | reg::VIRTIO_MMIO_DRIVER_FEATURES
            | reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL
            | reg::VIRTIO_MMIO_QUEUE_SEL
            | reg::VIRTIO_MMIO_QUEUE_NUM
            | reg::VIRTIO_MMIO_QUEUE_NOTIFY
            | reg::VIRTIO_MMIO_INTERRUPT_ACK
            | reg::VIRTIO_MMIO_QUEUE_DESC_LOW
            | reg::VIRTIO_MMIO_QUEUE_DESC_HIGH
            | reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW
            | reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH
            | reg::VIRTIO_MMIO_QUEUE_USED_LOW
            | reg::VIRTIO_MMIO_QUEUE_USED_HIGH
            | reg::VIRTIO_MMIO_SHM_SEL => Err(Refusal::WriteOnly),
            _ => Err(Refusal::NoRegister),
        }
    }

    fn write_register(&self, offset: u32, value: u32) -> Result<(), Refusal> {
        match offset {
            reg::VIRTIO_MMIO_INTERRUPT_ACK => {
                self.interrupt.acknowledge(value);
                return Ok(());
            }
            reg::VIRTIO_MMIO_QUEUE_NOTIFY => {
                let queue = usize::try_from(value).ok().and_then(|i| self.kicks.get(i));
                // A full counter means that the loop is being woken already.
                let _ = queue.ok_or(Refusal::Forbidden)?.write(1);
                return Ok(());
            }
            // Selecting one of no regions.
            reg::VIRTIO_MMIO_SHM_SEL => return Ok(()),
            _ => {}
        }
        let mut state = lock(&self.state);
        match offset {
            reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL => state.device_features_sel = value,
            reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL => state.driver_features_sel = value,
            reg::VIRTIO_MMIO_DRIVER_FEATURES => state.accept_features(value)?,
            reg::VIRTIO_MMIO_QUEUE_SEL => state.queue_sel = value,
            reg::VIRTIO_MMIO_QUEUE_NUM => state.describe()?.size = value,
            reg::VIRTIO_MMIO_QUEUE_DESC_LOW => set_low(&mut state.describe()?.descriptors, value),
            reg::VIRTIO_MMIO_QUEUE_DESC_HIGH => set_high(&mut state.describe()?.descriptors, value),
            reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_low(&mut state.describe()?.available, value),
            reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_high(&mut state.describe()?.available, value),
            reg::VIRTIO_MMIO_QUEUE_USED_LOW => set_low(&mut state.describe()?.used, value),
            reg::VIRTIO_MMIO_QUEUE_USED_HIGH => set_high(&mut state.describe()?.used, value),
            reg::VIRTIO_MMIO_QUEUE_READY => return self.set_ready(&mut state, value),
            reg::VIRTIO_MMIO_STATUS if value == 0 => {
                state.reset();
                self.interrupt.acknowledge(u32::MAX);
            }
            reg::VIRTIO_MMIO_STATUS => return self.set_status(&mut state, value),
            reg::VIRTIO_MMIO_MAGIC_VALUE
            | reg::VIRTIO_MMIO_VERSION
            | reg::VIRTIO_MMIO_DEVICE_ID
            | reg::VIRTIO_MMIO_VENDOR_ID
            | reg::VIRTIO_MMIO_DEVICE_FEATURES
            | reg::VIRTIO_MMIO_QUEUE_NUM_MAX
            | reg::VIRTIO_MMIO_INTERRUPT_STATUS
            | reg::VIRTIO_MMIO_SHM_LEN_LOW..=reg::VIRTIO_MMIO_SHM_BASE_HIGH
            | reg::VIRTIO_MMIO_CONFIG_GENERATION => return Err(Refusal::ReadOnly),
            _ => return Err(Refusal::NoRegister),
        }
        Ok(())
    }

    fn set_ready(&self, state: &mut State<D>, value: u32) -> Result<(), Refusal> {
        let index = state.queue_sel;
        let live = state.status & DRIVER_OK != 0;
        let agreed = state.status & FEATURES_OK != 0;
        let queue = state.selected_mut().ok_or(Refusal::Forbidden)?;
        match (value, queue.ready) {
            (0, false) | (1, true) => Ok(()),
            (0, true) => {
                queue.ready = false;
                if live && let Ok(index) = usize::try_from(index) {
                    state.device.stop_queue(index);
                }
                Ok(())
            }
            (1, false) if !agreed => Err(Refusal::Forbidden),
            (1, false) => match queue.build(&self.ram) {
                Ok(_) => {
                    queue.ready = true;
                    if live {
                        self.start(state, index);
                    }
                    Ok(())
                }
                Err(error) => {
                    tracing::warn!(queue = index, %error, "virtio queue refused");
                    state.status |= NEEDS_RESET;
                    if live {
                        self.interrupt.config_changed();
                    }
                    Err(Refusal::Forbidden)
                }
            },
            _ => Err(Refusal::Forbidden),
        }
    }

    fn set_status(&self, state: &mut State<D>, value: u32) -> Result<(), Refusal> {
        const KNOWN: u32 = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED;
        let old = state.status & KNOWN;
        let mut new = value & KNOWN;
        if value & !(KNOWN | NEEDS_RESET) != 0 || old & !new != 0 {
            // Bits that do not exist; or bits taken back, which only a reset may do.
            return Err(Refusal::Forbidden);
        }
        let added = new & !old;
        if added & FEATURES_OK != 0 && !(new & DRIVER != 0 && state.features_agree()) {
            // The one bit with an answer of its own: the driver reads it back to learn that it is refused.
            new &= !FEATURES_OK;
        }
        if added & DRIVER_OK != 0 && new & FEATURES_OK == 0 {
            return Err(Refusal::Forbidden);
        }
        state.status |= new;
        if added & DRIVER_OK != 0 {
            for index in 0u32.. {
                match state.queue(index) {
                    Some(queue) if queue.ready => self.start(state, index),
                    Some(_) => {}
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Hands a ready queue to the device.
    fn start(&self, state: &mut State<D>, index: u32) {
        let features = state.driver_features;
        let built = state.queue(index).and_then(|q| q.build(&self.ram).ok());
        if let (Some(mut queue), Ok(index)) = (built, usize::try_from(index)) {
            queue.set_event_idx(features & EVENT_IDX != 0);
            state.device.start_queue(index, queue, features);
        }
    }
}

impl<D: VirtioDevice> State<D> {
    fn offered(&self) -> u64 {
        self.device.features() | VERSION_1
    }

    fn features_agree(&self) -> bool {
        self.driver_features & VERSION_1 != 0 && self.driver_features & !self.offered() == 0
    }

    fn accept_features(&mut self, value: u32) -> Result<(), Refusal> {
        if self.status & FEATURES_OK != 0 {
            return Err(Refusal::Forbidden);
        }
        match self.driver_features_sel {
            0 => set_low(&mut self.driver_features, value),
            1 => set_high(&mut self.driver_features, value),
            // There are no features there, so that only "none" can be accepted.
            _ if value == 0 => {}
            _ => return Err(Refusal::Forbidden),
        }
        Ok(())
    }

    fn queue(&self, index: u32) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(index).ok()?)
    }

    fn selected(&self) -> Option<&QueueSetup> {
        self.queue(self.queue_sel)
    }

    fn selected_mut(&mut self) -> Option<&mut QueueSetup> {
        self.queues.get_mut(usize::try_from(self.queue_sel).ok()?)
    }

    /// The selected queue, if the driver may still describe it.
    fn describe(&mut self) -> Result<&mut QueueSetup, Refusal> {
        self.selected_mut().filter(|q| !q.ready).ok_or(Refusal::Forbidden)
    }

    fn reset(&mut self) {
        for index in 0..self.queues.len() {
            self.device.stop_queue(index);
        }
        self.queues = self.queues.iter().map(|q| QueueSetup::new(q.max)).collect();
        self.status = 0;
        self.device_features_sel = 0;
        self.driver_features_sel = 0;
        self.driver_features = 0;
        self.queue_sel = 0;
    }
}

impl<A, D: VirtioDevice> Device<A> for VirtioMmio<D> {
    fn read(&self, offset: u64, data: &mut [u8]) -> Access<A> {
        let outcome = match split(offset, data.len()) {
            Ok(Place::Config(offset)) => {
                data.fill(0);
                lock(&self.state).device.read_config(offset, data);
                Ok(())
            }
            Ok(Place::Register(offset)) => {
                self.read_register(offset).map(|value| data.copy_from_slice(&value.to_le_bytes()))
            }
            Err(refusal) => Err(refusal),
        };
        outcome.map_or_else(Access::Refused, |()| Access::Done)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Access<A> {
        let outcome = match (split(offset, data.len()), <[u8; 4]>::try_from(data)) {
            (Ok(Place::Register(offset)), Ok(bytes)) => {
                self.write_register(offset, u32::from_le_bytes(bytes))
            }
            // No device here has a configuration field that the driver may write.
            (Ok(_), _) => Err(Refusal::ReadOnly),
            (Err(refusal), _) => Err(refusal),
        };
        outcome.map_or_else(Access::Refused, |()| Access::Done)
    }
}

/// Where in the window an access goes.
enum Place {
    Register(u32),
    Config(usize),
}

/// Registers take aligned accesses of four bytes only; the configuration space takes any naturally aligned one.
fn split(offset: u64, len: usize) -> Result<Place, Refusal> {
    let offset = u32::try_from(offset).map_err(|_| Refusal::NoRegister)?;
    let width = u32::try_from(len).map_err(|_| Refusal::Width)?;
    let aligned = matches!(width, 1 | 2 | 4 | 8) && offset.is_multiple_of(width);
    match offset.checked_sub(reg::VIRTIO_MMIO_CONFIG) {
        Some(config) if aligned => {
            usize::try_from(config).map(Place::Config).map_err(|_| Refusal::NoRegister)
        }
        None if aligned && width == 4 => Ok(Place::Register(offset)),
        _ => Err(Refusal::Width),
    }
}

fn set_low(word: &mut u64, value: u32) {
    *word = *word & !u64::from(u32::MAX) | u64::from(value);
}

fn set_high(word: &mut u64, value: u32) {
    *word = *word & u64::from(u32::MAX) | u64::from(value) << 32;
}
