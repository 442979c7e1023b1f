//! What a machine is to be made of.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refault_devices::virtio::blk::DiskId;
use refault_devices::virtio::blk::engine::EngineChoice;

use crate::inject::Rule;
use crate::inject::mechanism::Wanted;

use super::patience::EndSignal;

/// RAM of a machine that asks for nothing else, in bytes.
pub const DEFAULT_MEMORY: u64 = 64 << 20;

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// The name the guest reads; the default is empty.
    pub serial: DiskId,
    /// How the host does the I/O, without an overlay.
    pub engine: EngineChoice,
    /// Whether what the guest writes is kept in memory and forgotten, and the image stays as it is.
    pub overlay: bool,
}

impl Disk {
    /// A disk that is an image, writable, without a name, with the best engine.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readonly: false,
            serial: DiskId::default(),
            engine: EngineChoice::Auto,
            overlay: false,
        }
    }
}

/// Where the guest's console goes and comes from.
pub struct Console {
    /// Takes what the guest prints.
    pub output: Box<dyn Write + Send>,
    /// What the guest can read, if anything.
    pub input: Option<OwnedFd>,
}

/// A machine's configuration.
pub struct Config {
    /// The kernel's ELF image.
    pub kernel: Arc<[u8]>,
    /// The boot image, handed over as the PVH module.
    pub image: Option<Arc<[u8]>>,
    /// Kernel command line, without devices and program.
    pub command_line: String,
    /// The program to run in the guest, and its arguments; empty for the guest's default.
    pub program: Vec<String>,
    /// RAM in bytes.
    pub memory: u64,
    /// Number of processors.
    pub cpus: u8,
    /// Disks, in the order of their announcement.
    pub disks: Vec<Disk>,
    /// Injection rules.
    pub rules: Vec<Rule>,
    /// How pages are taken away.
    pub mechanism: Wanted,
    /// What random shares in the rules are drawn from; 0 if none is given.
    pub seed: Option<u64>,
    /// The serial console.
    pub console: Console,
    /// How long the machine may run.
    pub timeout: Option<Duration>,
    /// The moment from which times are counted.
    pub started: Instant,
    /// Whether the machine is going to be put back to its ready mark again and again (`snapshot`): then there is an injector whether
    /// there are rules or not, and the machine stops when the guest says that it is ready.
    pub session: bool,
    /// Declared when the machine is told to end, for console output that must not wait any longer then.
    pub ending: Option<EndSignal>,
}

impl Config {
    /// A machine with one processor, default memory, no disk, no rules, and a console that nobody reads.
    pub fn new(kernel: impl Into<Arc<[u8]>>) -> Self {
        Self {
            kernel: kernel.into(),
            image: None,
            command_line: String::new(),
            program: Vec::new(),
            memory: DEFAULT_MEMORY,
            cpus: 1,
            disks: Vec::new(),
            rules: Vec::new(),
            mechanism: Wanted::Best,
            seed: None,
            console: Console { output: Box::new(std::io::sink()), input: None },
            timeout: None,
            started: Instant::now(),
            session: false,
            ending: None,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("kernel_bytes", &self.kernel.len())
            .field("image_bytes", &self.image.as_ref().map(|i| i.len()))
            .field("command_line", &self.command_line)
            .field("program", &self.program)
            .field("memory", &self.memory)
            .field("cpus", &self.cpus)
            .field("disks", &self.disks)
            .field("rules", &self.rules.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
