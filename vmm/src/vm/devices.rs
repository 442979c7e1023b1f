//! A machine's devices: made, put on the buses, connected to KVM, and announced on the command line.

use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, VmFd};
use refault_abi::doorbell::{CMDLINE_KEY, ENTRY_PORT, SIZE as DOORBELL_SIZE};
use refault_devices::bus::{Bus, Window};
use refault_devices::exit_port::{EXIT_PORT, ExitPort};
use refault_devices::serial::input::SerialInput;
use refault_devices::serial::{COM1, COM1_IRQ, Serial};
use refault_devices::virtio::Work;
use refault_devices::virtio::blk::counters::Counters as BlkCounters;
use refault_devices::virtio::blk::engine::overlay::Overlay;
use refault_devices::virtio::blk::faults::FaultPlan;
use refault_devices::virtio::blk::image::Image;
use refault_devices::virtio::blk::subscriber::BlkSubscriber;
use refault_devices::virtio::blk::{Block, DiskId};
use refault_devices::virtio::interrupt::Interrupt;
use refault_devices::virtio::mmio::{VirtioMmio, WINDOW_LEN};

use crate::doorbell::{Doorbell, EntryPort};
use crate::inject::Rule;
use crate::inject::disk::DiskPlan;
use crate::layout::{DOORBELL_BASE, GSI_COUNT, MMIO_WINDOW_STRIDE, VIRTIO_FIRST_GSI, VIRTIO_MMIO_BASE};
use crate::memory::GuestRam;

use super::action::Action;
use super::assemble::AssembleError;
use super::config::{Console, Disk};
use super::console::{ConsoleTimes, TimedOutput};
use super::device_loop::Subscriber;
use super::lines::Lines;

/// What is typed when the console's input has come to its end: the end-of-file character, Ctrl-D.
const END_OF_FILE: u8 = 0x04;

/// Most disks a machine can have: one interrupt line each.
pub const MAX_DISKS: usize = (GSI_COUNT - VIRTIO_FIRST_GSI) as usize;

/// One disk, for reports.
pub struct DiskHandle {
    /// Its counters.
    pub counters: Arc<BlkCounters>,
    /// The engine in use.
    pub engine: &'static str,
    /// The device.
    pub device: Arc<VirtioMmio<Block>>,
    /// What it is over, if it is kept in memory.
    pub overlay: Option<Overlay>,
}

/// All devices of a machine.
pub struct Devices {
    /// Port devices.
    pub ports: Bus<Action>,
    /// Memory-mapped devices.
    pub mmio: Bus<Action>,
    /// What the device loop has to drive.
    pub subscribers: Vec<Subscriber>,
    /// Words for the command line.
    pub announcements: Vec<String>,
    /// Disks.
    pub disks: Vec<DiskHandle>,
    /// Their interrupt lines.
    pub lines: Lines,
    /// The console.
    pub serial: Arc<Serial>,
}

impl Devices {
    /// The console and the exit port.
    pub fn new(vm: &VmFd, console: Console, times: Arc<ConsoleTimes>) -> Result<Self, AssembleError> {
        let mut lines = Lines::default();
        let irq = lines.add(vm, COM1_IRQ)?;
        let output = Box::new(TimedOutput::new(console.output, times));
        let serial = Arc::new(Serial::new(irq, output).map_err(AssembleError::io("a serial console"))?);
        let mut devices = Self {
            ports: Bus::new(),
            mmio: Bus::new(),
            subscribers: Vec::new(),
            announcements: Vec::new(),
            disks: Vec::new(),
            lines,
            serial: serial.clone(),
        };
        devices.ports.insert("serial", COM1, serial.clone())?;
        devices.ports.insert("exit port", EXIT_PORT, Arc::new(ExitPort))?;
        if let Some(from) = console.input {
            let input = SerialInput::new(serial, from).map_err(AssembleError::io("console input"))?;
            devices.subscribers.push(Box::new(input.ending_with(END_OF_FILE)));
        }
        Ok(devices)
    }

    /// Adds the doorbell.
    pub fn add_doorbell(&mut self, doorbell: Arc<Doorbell>) -> Result<(), AssembleError> {
        let window = Window { base: DOORBELL_BASE, len: DOORBELL_SIZE };
        self.mmio.insert("doorbell", window, doorbell)?;
        let port = Window { base: u64::from(ENTRY_PORT), len: 1 };
        self.ports.insert("kernel entry port", port, Arc::new(EntryPort))?;
        self.announcements.push(format!("{CMDLINE_KEY}={}K@{DOORBELL_BASE:#x}", DOORBELL_SIZE >> 10));
        Ok(())
    }

    /// Adds a disk.
    pub fn add_disk(&mut self, vm: &VmFd, ram: &GuestRam, disk: &Disk) -> Result<(), AssembleError> {
        let index = self.disks.len();
        if index >= MAX_DISKS {
            return Err(AssembleError::TooManyDisks(MAX_DISKS));
        }
        let base = VIRTIO_MMIO_BASE + index as u64 * MMIO_WINDOW_STRIDE;
        let gsi = VIRTIO_FIRST_GSI + index as u32;
        let view = Arc::new(ram.device_view().clone());
        let overlay = match disk.overlay {
            true => Some(Overlay::open(&disk.path)?),
            false => None,
        };
        let block = match &overlay {
            Some(overlay) => Block::on_overlay(overlay, disk.readonly, disk.serial, view.clone())?,
            None => {
                let image = Image::open(&disk.path, disk.readonly)?;
                Block::new(&image, disk.serial, disk.engine, view.clone())?
            }
        };
        let (counters, engine) = (block.counters().clone(), block.engine());
        let interrupt = Arc::new(Interrupt::new(self.lines.add(vm, gsi)?));
        let device =
            Arc::new(VirtioMmio::new(block, interrupt, view).map_err(AssembleError::io("a virtio device"))?);
        for notify in device.notify_registers() {
            let address = IoEventAddress::Mmio(base + notify.offset);
            vm.register_ioevent(notify.kick, &address, notify.datamatch)
                .map_err(AssembleError::kvm("KVM_IOEVENTFD"))?;
        }
        let subscriber =
            BlkSubscriber::new(device.clone()).map_err(AssembleError::io("a virtio device's events"))?;
        self.subscribers.push(Box::new(subscriber));
        let handle = DiskHandle { counters, engine, device: device.clone(), overlay };
        self.mmio.insert(&format!("disk {index}"), Window { base, len: WINDOW_LEN }, device)?;
        self.announcements.push(format!("virtio_mmio.device={WINDOW_LEN}@{base:#x}:{gsi}"));
        self.disks.push(handle);
        Ok(())
    }
}

/// Has each disk carry out what `rules` want of it from now on; where they want nothing, it works as ever.
pub fn plan_faults(disks: &[DiskHandle], rules: &[Rule], seed: u64) {
    for (number, disk) in (0..).zip(disks) {
        let plan = DiskPlan::new(rules, number, seed).map(|plan| Box::new(plan) as Box<dyn FaultPlan>);
        disk.device.drive(|block| {
            block.set_plan(plan);
            Work::default()
        });
    }
}

/// The complete command line: devices first, so that nothing the user writes can hide them.
pub fn command_line(
    announcements: &[String],
    words: &str,
    program: &[String],
) -> Result<String, AssembleError> {
    if let Some(bad) = program.iter().find(|w| w.is_empty() || w.contains(char::is_whitespace)) {
        return Err(AssembleError::ProgramWord(bad.clone()));
    }
    let mut line: Vec<&str> = announcements.iter().map(String::as_str).collect();
    line.extend(Some(words.trim()).filter(|w| !w.is_empty()));
    if !program.is_empty() {
        line.push("--");
        line.extend(program.iter().map(String::as_str));
    }
    Ok(line.join(" "))
}

/// A disk's name for the guest, from what the user wrote.
pub fn disk_id(serial: &str) -> Result<DiskId, refault_devices::virtio::blk::BadDiskId> {
    serial.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_before_everything_else() {
        let words = ["refault.doorbell=4K@0xd0100000".to_owned()];
        let program = ["cat".to_owned(), "/hello.txt".to_owned()];
        assert_eq!(
            command_line(&words, " retry=mark ", &program).unwrap(),
            "refault.doorbell=4K@0xd0100000 retry=mark -- cat /hello.txt"
        );
        assert_eq!(command_line(&[], "", &[]).unwrap(), "");
    }

    #[test]
    fn words_that_the_guest_would_split_are_refused() {
        for bad in ["two words", "", "tab\there"] {
            assert!(matches!(
                command_line(&[], "", &[bad.to_owned()]),
                Err(AssembleError::ProgramWord(word)) if word == bad
            ));
        }
    }
}
