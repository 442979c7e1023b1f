//! Devices at the ready mark, and putting them back.
//!
//! The one thing to hold in mind: the order. Devices are parked before memory is put back, so that none writes to it afterwards, and
//! restored when everything they look at is there again (`refault_devices::virtio::mmio`).

use std::sync::Arc;

use refault_devices::serial::{Serial, SerialState};
use refault_devices::virtio::blk::BlockState;
use refault_devices::virtio::mmio::MmioState;

use crate::vm::devices::DiskHandle;

use super::run::DiskContents;

/// A device could not be put back.
#[derive(Debug, thiserror::Error)]
#[error("{device} could not be put back: {why}")]
pub struct DeviceError {
    /// Which.
    pub device: String,
    /// Why not.
    pub why: String,
}

impl DeviceError {
    fn new(device: impl Into<String>, why: &dyn std::error::Error) -> Self {
        Self { device: device.into(), why: why.to_string() }
    }
}

/// What was taken of the serial line and of disks.
pub struct DeviceStates {
    serial: SerialState,
    disks: Vec<MmioState<BlockState>>,
}

/// Requests of disks that the guest has made and that have not been answered, one sentence for each disk that has any.
pub fn unfinished(disks: &[DiskHandle]) -> Vec<String> {
    let open = disks.iter().map(|disk| disk.device.inspect(|block| block.unanswered()));
    let open = open.enumerate().filter(|(_, requests)| *requests > 0);
    open.map(|(index, requests)| format!("disk {index} has {requests} requests that are not answered"))
        .collect()
}

/// Faults that disks have carried out so far, whatever became of them.
pub fn faults(disks: &[DiskHandle]) -> u64 {
    disks.iter().map(|disk| disk.counters.get().injected.total()).fold(0, u64::saturating_add)
}

impl DeviceStates {
    /// Takes them. From here on disks can be put back to what they hold now. The processors stand still.
    pub fn take(serial: &Serial, disks: &[DiskHandle]) -> Self {
        let states = disks.iter().map(|disk| disk.device.save()).collect();
        disks.iter().filter_map(|disk| disk.overlay.as_ref()).for_each(|overlay| overlay.mark());
        Self { serial: serial.save(), disks: states }
    }

    /// Ends what disks are doing; until they are put back they touch no memory.
    pub fn park(&self, disks: &[DiskHandle]) {
        for disk in disks {
            disk.device.park();
        }
    }

    /// Puts them back. Memory has been put back before.
    ///
    /// # Errors
    /// A state does not fit its device, which is a mistake of this program.
    pub fn put_back(&self, serial: &Serial, disks: &[DiskHandle]) -> Result<(), DeviceError> {
        serial.restore(&self.serial).map_err(|why| DeviceError::new("the serial line", &why))?;
        for (index, (disk, state)) in disks.iter().zip(&self.disks).enumerate() {
            if let Some(overlay) = &disk.overlay {
                overlay.reset_to_mark();
            }
            disk.device.restore(state).map_err(|why| DeviceError::new(format!("disk {index}"), &why))?;
        }
        Ok(())
    }
}

/// What the disks hold now. Disks are parked for it: what they have taken is carried out first, what they have not is left, and the
/// machine has to be put back before it runs again. Disks without an overlay are left out.
pub fn contents(disks: &[DiskHandle]) -> Vec<DiskContents> {
    let overlays = disks.iter().filter_map(|disk| Some((disk, disk.overlay.as_ref()?)));
    overlays
        .map(|(disk, overlay)| {
            disk.device.park();
            DiskContents { base: Arc::clone(overlay.base()), changed: overlay.changed() }
        })
        .collect()
}
